"""Does a machine have what a rule set gives it now? Auto Deploy's Test-DeployRuleSetCompliance, as values.

What a machine got is what was recorded of its last boot. An item whose value hangs on a fact that nobody knows is
neither right nor wrong. Pure: knows neither files nor the database.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from midwife.rules.fleet import Expected, Member, expect
from midwife.rules.index import RuleIndex

__all__ = ["Difference", "Report", "check", "compare", "unsure"]

_DEFAULTS = {"boot": "stateless"}
"""What a machine gets of an item type that nothing gives (core/decide.py)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One item that is not as the rules say. "" is nothing."""

    kind: str
    got: str | None
    """None: it is not recorded, as the machine has not booted yet."""
    expected: str
    rule: str
    """Which gives what is expected; "" if no rule does, or the machine's own file."""
    pinned: str = ""
    """A pin holds it at this value: the next boot alone does not mend it."""


@dataclass(frozen=True, slots=True)
class Report:
    """One machine against the rules."""

    name: str
    booted: bool
    """Whether anything is recorded that could be compared."""
    differences: tuple[Difference, ...]
    unknown: tuple[str, ...]
    """Attributes on which it hangs whether other items are right."""
    expected: Expected


def compare(
    got: Mapping[str, str], expected: Expected, pins: Mapping[str, str] | None = None
) -> tuple[Difference, ...]:
    """The items that are certainly not as expected. ``got``: only what is recorded, "" for nothing.

    A machine that boots its own disk gets nothing else, so nothing else is compared then.
    """
    pins = {kind: value for kind, value in (pins or {}).items() if expected.by.get(kind) != ""}
    found = []
    for kind in _compared(got, expected, pins):
        possible = expected.possible(kind, _DEFAULTS.get(kind, ""))
        pinned = pins.get(kind, "") if pins.get(kind, "") not in possible else ""
        if pinned or (kind in got and got[kind] not in possible):
            should = expected.items.get(kind, _DEFAULTS.get(kind, ""))
            found.append(Difference(kind, got.get(kind), should, expected.by.get(kind, ""), pinned))
    return tuple(found)


def unsure(
    got: Mapping[str, str], expected: Expected, pins: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Attributes that nobody knows, and on which it hangs whether what it got, or is pinned to, is right."""
    for kind in _compared(got, expected, pins or {}):
        possible = expected.possible(kind, _DEFAULTS.get(kind, ""))
        asked = [held[kind] for held in (got, pins or {}) if kind in held]
        if len(possible) > 1 and possible.intersection(asked):
            return expected.unknown
    return ()


def check(
    index: RuleIndex,
    members: Iterable[Member],
    got: Mapping[str, Mapping[str, str]],
    pins: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Report]:
    """Each machine, in their order; ``got`` and ``pins`` by the machine's name."""
    for member in members:
        expected = expect(index, member)
        has, held = got.get(member.name, {}), (pins or {}).get(member.name)
        yield Report(
            member.name,
            bool(has),
            compare(has, expected, held),
            unsure(has, expected, held) if expected.perhaps else (),
            expected,
        )


def _compared(got: Mapping[str, str], expected: Expected, pins: Mapping[str, str]) -> Iterable[str]:
    """Item types of which something can be said."""
    if got.get("boot") == "local" or expected.possible("boot", _DEFAULTS["boot"]) == {"local"}:
        return [kind for kind in ("boot",) if kind in got or kind in pins]
    return dict.fromkeys((*got, *pins))
