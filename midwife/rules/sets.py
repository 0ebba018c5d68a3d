"""The two rule sets, working and active, and what can be done with them: Auto Deploy's, as values.

Source: the help of Add-, Remove-, Copy-DeployRule, Set-DeployRuleSet and Switch-ActiveDeployRuleSet. A rule is in
no set, in the working set, or in both; activation copies the whole working set. Every change gives new sets and
leaves the old ones as they are. Knows nothing of files.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from midwife.rules.match import RuleLike

__all__ = ["RuleSets", "SetChanges", "SetError", "Which"]

R = TypeVar("R", bound=RuleLike)
Which = Literal["active", "working"]


class SetError(ValueError):
    """What was asked for cannot be done with these sets; the message says why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class SetChanges:
    """What an activation does to the active set: names, with their indexes in the set where they stand."""

    added: tuple[tuple[str, int], ...] = ()
    removed: tuple[tuple[str, int], ...] = ()
    moved: tuple[tuple[str, int, int], ...] = ()
    """With the old index and the new one; only as many as must have moved."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.moved)


@dataclass(frozen=True, slots=True)
class RuleSets(Generic[R]):
    """Every rule there is, and the names of those in each set: the first has the highest priority (index 0).

    Names are unique whatever their case; what is asked for by name is found in any case, as in PowerShell.
    """

    every: tuple[R, ...] = ()
    active: tuple[str, ...] = ()
    working: tuple[str, ...] = ()

    @classmethod
    def all_of(cls, every: Iterable[R]) -> "RuleSets[R]":
        """All rules in both sets, in this order."""
        rules = tuple(every)
        names = tuple(rule.name for rule in rules)
        return cls(rules, names, names)

    @property
    def pending(self) -> bool:
        """Whether an activation would change anything."""
        return self.working != self.active

    @property
    def changes(self) -> SetChanges:
        """From the active set to the working set."""
        old, new = self.active, self.working
        both = [name for name in old if name in new]
        order = [name for name in new if name in old]
        blocks = difflib.SequenceMatcher(None, both, order, autojunk=False).get_matching_blocks()
        stay = {name for block in blocks for name in both[block.a : block.a + block.size]}
        return SetChanges(
            tuple((name, index) for index, name in enumerate(new) if name not in old),
            tuple((name, index) for index, name in enumerate(old) if name not in new),
            tuple((name, old.index(name), new.index(name)) for name in order if name not in stay),
        )

    def names(self, which: Which) -> tuple[str, ...]:
        """The names of a set, in order."""
        return self.active if which == "active" else self.working

    def rules(self, which: Which) -> tuple[R, ...]:
        """The rules of a set, in order."""
        by_name = {rule.name: rule for rule in self.every}
        return tuple(by_name[name] for name in self.names(which))

    def find(self, name: str) -> R:
        """The rule of this name. Raises SetError with the nearest one."""
        exact = [rule for rule in self.every if rule.name == name]
        for rule in exact or [rule for rule in self.every if rule.name.casefold() == name.casefold()]:
            return rule
        raise SetError(f"there is no rule {name!r}; {self._near(name)}")

    def sets_of(self, name: str) -> tuple[Which, ...]:
        """The sets that a rule is in."""
        kinds: tuple[Which, ...] = ("active", "working")
        return tuple(which for which in kinds if name in self.names(which))

    def create(self, rule: R, *, working: bool = False, at: int | None = None) -> "RuleSets[R]":
        """A new rule, in no set or in the working set. It is put where it belongs in the order of the sets."""
        self._free(rule.name)
        if not working:
            return replace(self, every=(*self.every, rule))
        order = _inserted(self.working, [rule.name], at)
        place = order.index(rule.name)
        every = list(self.every)
        behind = order[place + 1] if place + 1 < len(order) else None
        every.insert(self._place(behind) if behind is not None else len(every), rule)
        return replace(self, every=tuple(every), working=order)

    def change(self, name: str, rule: R) -> "RuleSets[R]":
        """Another text, perhaps another name, for a rule that is in no set."""
        old = self.find(name)
        if sets := self.sets_of(old.name):
            raise SetError(
                f"rule {old.name!r} is in the {_told(sets)} and cannot be changed in place; make a changed copy, "
                f"which takes its place: midwife rule copy"
            )
        if rule.name.casefold() != old.name.casefold():
            self._free(rule.name)
        every = [rule if other.name == old.name else other for other in self.every]
        return replace(self, every=tuple(every))

    def copy(self, name: str, rule: R, *, take_place: bool = True) -> "RuleSets[R]":
        """A changed copy, which takes the place of the original in the working set, if that is there."""
        old = self.find(name)
        self._free(rule.name)
        place = self._place(old.name) + 1
        every = (*self.every[:place], rule, *self.every[place:])
        working = self.working
        if take_place:
            working = tuple(rule.name if other == old.name else other for other in working)
        return replace(self, every=every, working=working)

    def delete(self, names: Sequence[str], *, from_sets: bool = False) -> "RuleSets[R]":
        """Forget rules that are in no set; with ``from_sets`` those too that are in one, and take them out."""
        gone = self._found(names)
        for name in gone:
            if (sets := self.sets_of(name)) and not from_sets:
                raise SetError(
                    f"rule {name!r} is in the {_told(sets)}; take it out first (midwife ruleset remove, "
                    "midwife ruleset activate), or say --from-sets: out of both at once"
                )
        every = tuple(rule for rule in self.every if rule.name not in gone)
        active, working = (
            tuple(name for name in names if name not in gone) for names in (self.active, self.working)
        )
        return RuleSets(every, active, working)

    def add(self, names: Sequence[str], at: int | None = None) -> "RuleSets[R]":
        """Put rules into the working set, at this index or at its end. With an index, one that is there moves."""
        found = self._found(names)
        there = [name for name in found if name in self.working]
        if there and at is None:
            raise SetError(
                f"rule {there[0]!r} is in the working set already, at index {self.working.index(there[0])}; "
                "--at moves it"
            )
        rest = tuple(name for name in self.working if name not in there)
        return replace(self, working=_inserted(rest, found, at))

    def remove(self, names: Sequence[str]) -> "RuleSets[R]":
        """Take rules out of the working set."""
        found = self._found(names)
        for name in found:
            if name not in self.working:
                raise SetError(f"rule {name!r} is not in the working set")
        return replace(self, working=tuple(name for name in self.working if name not in found))

    def at(self, index: int) -> str:
        """The name at an index of the working set. Raises SetError."""
        if not 0 <= index < len(self.working):
            raise SetError(f"the working set has no index {index}; it has {_indexes(len(self.working))}")
        return self.working[index]

    def order(self, names: Sequence[str]) -> "RuleSets[R]":
        """The whole order of the working set; a rule that was not in it comes in, none goes."""
        found = self._found(names)
        left = [name for name in self.working if name not in found]
        if left:
            said = ", ".join(map(repr, left))
            raise SetError(
                f"the order leaves out {said}; name every rule, or take it out: midwife ruleset remove"
            )
        return replace(self, working=tuple(found))

    def activate(self) -> "RuleSets[R]":
        """The working set as the active one, whole."""
        return replace(self, active=self.working)

    def _found(self, names: Sequence[str]) -> list[str]:
        found = [self.find(name).name for name in names]
        for name in found:
            if found.count(name) > 1:
                raise SetError(f"rule {name!r} is named twice")
        return found

    def _free(self, name: str) -> None:
        for rule in self.every:
            if rule.name.casefold() == name.casefold():
                raise SetError(f"there is a rule {rule.name!r} already; choose another name")

    def _place(self, name: str) -> int:
        return next(number for number, rule in enumerate(self.every) if rule.name == name)

    def _near(self, name: str) -> str:
        known = {rule.name.casefold(): rule.name for rule in self.every}
        if close := difflib.get_close_matches(name[:128].casefold(), known, n=1):
            return f"did you mean {known[close[0]]!r}?"
        shown = [repr(other) for other in list(known.values())[:20]]
        return f"there is {', '.join(shown)}{', …' if len(known) > 20 else ''}" if shown else "there is none"


def _inserted(order: tuple[str, ...], names: Sequence[str], at: int | None) -> tuple[str, ...]:
    place = len(order) if at is None else at
    if not 0 <= place <= len(order):
        raise SetError(f"--at {at}: the working set has {_indexes(len(order))}; the end is {len(order)}")
    return (*order[:place], *names, *order[place:])


def _indexes(number: int) -> str:
    return "no rules" if not number else "index 0" if number == 1 else f"the indexes 0 to {number - 1}"


def _told(sets: Sequence[Which]) -> str:
    return f"{' and the '.join(sets)} set"
