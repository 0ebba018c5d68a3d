"""Rules that no known machine matches, machines that no rule matches, rules that can never have an effect.

The first two are about the machines that are known now; the last is proved from the patterns alone
(``shadows``), whatever machines there may be. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from midwife.rules.fleet import Member
from midwife.rules.index import RuleIndex
from midwife.rules.match import RuleLike
from midwife.rules.shadows import Shadow, shadows

__all__ = ["Coverage", "Unmatched", "coverage"]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A machine that no rule matches, or that nothing gives an image."""

    name: str
    matched: bool
    """A rule matches it, but none gives an image."""
    boots: bool
    """Its own file gives it an image, or its own disk: it needs no rule."""
    unknown: tuple[str, ...]
    """Attributes that, if they were known, could let a rule match."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How rules and machines fit together. Rules by name."""

    never_matching: tuple[str, ...]
    unsure: tuple[str, ...]
    """Rules that no machine matches for certain, but some may: a fact is not known."""
    unmatched: tuple[Unmatched, ...]
    shadowed: tuple[Shadow, ...]

    @property
    def complete(self) -> bool:
        """Every rule has its machines, and every machine boots something."""
        gaps = any(not machine.boots for machine in self.unmatched)
        return not (self.never_matching or self.shadowed or gaps)


def coverage(rules: Sequence[RuleLike], members: Iterable[Member]) -> Coverage:
    """For the rules of one set, in order. Raises PatternError (never for a loaded site)."""
    real, each = RuleIndex(rules), RuleIndex([_Alone(rule) for rule in rules])
    matched: set[str] = set()
    perhaps: set[str] = set()
    gaps = []
    for member in members:
        found = each.evaluate(member.attributes)
        matched.update(found.items)
        perhaps.update(found.perhaps)
        items = {kind: given.value for kind, given in real.evaluate(member.attributes).items.items()}
        items.update(member.fixed)
        boots = bool(items.get("image")) or items.get("boot") == "local"
        if not found.items or not boots:
            gaps.append(Unmatched(member.name, bool(found.items), boots, found.unknown))
    return Coverage(
        tuple(rule.name for rule in rules if rule.name not in matched | perhaps),
        tuple(rule.name for rule in rules if rule.name in perhaps - matched),
        tuple(gaps),
        shadows(rules),
    )


class _Alone:
    """A rule that gives an item of a type of its own, so that no earlier rule can take it away."""

    def __init__(self, rule: RuleLike) -> None:
        self._rule = rule

    @property
    def name(self) -> str:
        return self._rule.name

    @property
    def patterns(self) -> Sequence[str]:
        return self._rule.patterns

    @property
    def items(self) -> "_Alone":
        return self

    def given(self) -> Mapping[str, str]:
        return {self.name: self.name}
