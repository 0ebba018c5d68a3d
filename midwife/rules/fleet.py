"""One rule set, or two, for all machines that are known: what each gets, and what another set would change.

Every answer is that of ``RuleIndex``, with what a machine's own host file says laid over it. Pure: knows names
and attributes, neither files nor the database.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from midwife.rules.index import Decided, RuleIndex
from midwife.rules.match import Given

__all__ = ["Change", "Changes", "Expected", "Member", "changes", "expect", "fleet"]


class Member(Protocol):
    """A machine of the fleet."""

    @property
    def name(self) -> str: ...
    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """What patterns are tested against."""

    @property
    def fixed(self) -> Mapping[str, str]:
        """Item type -> value that its own file gives; no rule changes it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a rule set gives one machine now."""

    items: Mapping[str, str]
    by: Mapping[str, str]
    """Item type -> the rule that gave it; "" if the machine's own file did."""
    unknown: tuple[str, ...] = ()
    """Attributes that, if they were known, could change the items."""
    perhaps: Mapping[str, Sequence[Given]] | None = None
    """By item type: what could be given instead then. None: nothing."""

    def possible(self, kind: str, default: str = "") -> frozenset[str]:
        """Every value that it may get, whatever the unknown facts turn out to be."""
        instead = (self.perhaps or {}).get(kind, ())
        return frozenset((self.items.get(kind, default), *(given.value for given in instead)))


@dataclass(frozen=True, slots=True)
class Change:
    """One item of one machine under two sets; "" is nothing."""

    kind: str
    now: str
    then: str
    rule: str
    """Which gives it then."""


@dataclass(frozen=True, slots=True)
class Changes:
    """A machine that gets something else; if it has no ``items``, that depends on the ``unknown`` attributes."""

    name: str
    items: tuple[Change, ...]
    unknown: tuple[str, ...]


def expect(index: RuleIndex, member: Member) -> Expected:
    """What the rules of the index give this machine."""
    found, fixed = index.evaluate(member.attributes), member.fixed
    items = {kind: given.value for kind, given in found.items.items()}
    by = {kind: given.rule for kind, given in found.items.items()}
    if fixed:
        items.update(fixed)
        by.update(dict.fromkeys(fixed, ""))
    perhaps = _open(found, fixed)
    return Expected(items, by, found.unknown if perhaps else (), perhaps or None)


def fleet(index: RuleIndex, members: Iterable[Member]) -> Iterator[tuple[str, Expected]]:
    """``expect`` for each of them, in their order."""
    return ((member.name, expect(index, member)) for member in members)


def changes(old: RuleIndex, new: RuleIndex, members: Iterable[Member]) -> tuple[Changes, ...]:
    """Machines that get, or may get, something else by ``new`` than by ``old``, in their order.

    Both are of one site: a rule's name means the same rule in both.
    """
    found = []
    for member in members:
        was, will, fixed = old.evaluate(member.attributes), new.evaluate(member.attributes), member.fixed
        items = []
        for kind in dict.fromkeys((*was.items, *will.items)):
            before, after = was.items.get(kind), will.items.get(kind)
            now, then = before.value if before else "", after.value if after else ""
            if now != then and kind not in fixed:
                items.append(Change(kind, now, then, after.rule if after else ""))
        # The same rules may yet turn out to match, in the same order: whatever they do, they do it in both.
        unknown: tuple[str, ...] = ()
        if _open(was, fixed) != _open(will, fixed):
            unknown = tuple(dict.fromkeys((*will.unknown, *was.unknown)))
        if items or unknown:
            found.append(Changes(member.name, tuple(items), unknown))
    return tuple(found)


def _open(found: Decided, fixed: Mapping[str, str]) -> Mapping[str, Sequence[Given]]:
    if not fixed or not found.perhaps:
        return found.perhaps
    return {kind: given for kind, given in found.perhaps.items() if kind not in fixed}
