"""Which items do the rules give a machine, and why? Auto Deploy's evaluation, for one ordered list of rules.

Rules are walked in order; all patterns of a rule must match; per item type the first matching rule wins, and
matching rules with different types add up. Unlike Auto Deploy, nothing is remembered: the answer depends on
the rules and the attributes alone. A pattern that asks for an unknown fact leaves its rule undecided: it
gives nothing, and the answer names the facts that could still change it. Knows nothing of files and hosts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from midwife.rules.patterns import Outcome, Pattern, Verdict, judge, parse_pattern

__all__ = ["Given", "Matched", "RuleLike", "Step", "evaluate"]


class _ItemsLike(Protocol):
    def given(self) -> Mapping[str, str]:
        """Item type -> value, only what is given."""


class RuleLike(Protocol):
    """What the evaluation needs of a rule; ``site.model.Rule`` is one."""

    @property
    def name(self) -> str: ...
    @property
    def patterns(self) -> Sequence[str]:
        """Empty: every machine."""

    @property
    def items(self) -> _ItemsLike: ...


@dataclass(frozen=True, slots=True)
class Given:
    """An item and the name of the rule that gave it."""

    value: str
    rule: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule said."""

    rule: str
    outcome: Outcome
    reason: str
    gave: tuple[str, ...] = ()
    """The item types that this rule decided."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The answer of a whole list of rules."""

    items: Mapping[str, Given]
    trace: tuple[Step, ...]
    """Every rule, in order."""
    unknown: tuple[str, ...]
    """Attributes that, if they were known, could change the items."""
    open: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The same by item type, for the types that they could change."""


def evaluate(rules: Iterable[RuleLike], attributes: Mapping[str, tuple[str, ...]]) -> Matched:
    """The items for a machine with these attributes. Raises PatternError (never for a loaded site)."""
    items: dict[str, Given] = {}
    trace: list[Step] = []
    unknown: list[str] = []
    open_: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        patterns = [parse_pattern(text) for text in rule.patterns]
        verdict, missing = _test_all(patterns, attributes)
        fresh = tuple(kind for kind in rule.items.given() if kind not in items)
        gave: tuple[str, ...] = ()
        reason = verdict.reason
        if verdict.outcome is Outcome.MATCH:
            gave = fresh
            items.update({kind: Given(rule.items.given()[kind], rule.name) for kind in fresh})
            if not fresh:
                reason += "; gives nothing that an earlier rule has not given"
        elif verdict.outcome is Outcome.UNKNOWN and fresh:
            unknown += missing
            open_.update({kind: (*open_.get(kind, ()), *missing) for kind in fresh})
        trace.append(Step(rule.name, verdict.outcome, reason, gave))
    by_type = {kind: tuple(dict.fromkeys(missing)) for kind, missing in open_.items()}
    return Matched(items, tuple(trace), tuple(dict.fromkeys(unknown)), by_type)


def _test_all(
    patterns: Sequence[Pattern], attributes: Mapping[str, tuple[str, ...]]
) -> tuple[Verdict, list[str]]:
    """All patterns of a rule together, and the attributes they miss. One that fails outweighs one unknown."""
    if not patterns:
        return Verdict(Outcome.MATCH, "it is for every host"), []
    verdicts = [(pattern, judge(pattern, attributes)) for pattern in patterns]
    for outcome in (Outcome.NO_MATCH, Outcome.UNKNOWN):
        said = [(pattern, verdict) for pattern, verdict in verdicts if verdict.outcome is outcome]
        if said:
            reason = "; ".join(verdict.reason for _, verdict in said)
            return Verdict(outcome, reason), [pattern.attribute for pattern, _ in said]
    return Verdict(Outcome.MATCH, "; ".join(verdict.reason for _, verdict in verdicts)), []
