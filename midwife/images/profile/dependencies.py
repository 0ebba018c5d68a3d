"""``Draft``, the VIBs of a profile while they change, and what fills in the dependencies of a draft from depots.

A greedy worklist, no solver: each need gets the best VIB there is, and VIBs are never moved back, so that it
ends and its steps can be told. Pure; knows catalogues and packages.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from midwife.images.errors import ProfileError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.objects.package import SoftwarePackage
from midwife.images.profile.catalogue import Catalogue, Found
from midwife.images.profile.relations import Relations

__all__ = ["Draft", "add_dependencies"]

MOST_ADDED = 1000
"""A whole ESXi has some 150 VIBs; a depot that drags in more than this was made to waste time."""


class Draft:
    """Members, and the story of how they changed. A VIB that was put in is never taken out again."""

    def __init__(self, packages: Mapping[str, SoftwarePackage], depots: Mapping[str, str]) -> None:
        self.packages = dict(packages)
        self.depots = dict(depots)
        self.added: dict[str, str] = {}
        self.removed: dict[str, str] = {}
        self.replaced: dict[str, str] = {}
        self._relations: Relations | None = None

    @property
    def relations(self) -> Relations:
        """Among the members as they are now."""
        if self._relations is None:
            self._relations = Relations(self.packages.values())
        return self._relations

    def giving_way(self, package: SoftwarePackage) -> dict[str, str]:
        """The members that go when the package comes, each with the reason."""
        reasons: dict[str, str] = {}
        for relation in self.relations.replaced_by(package):
            reasons[relation.holder] = f"it replaces {package.id} ({relation.text})"
        for relation in self.relations.replaces(package):
            reasons[relation.target] = f"replaced by {package.id} ({relation.text})"
        for vib in reasons:
            if self.packages[vib].name == package.name:
                newer = self.packages[vib].version_object < package.version_object
                reasons[vib] = f"replaced by the {'newer' if newer else 'older'} {package.id}"
        return reasons

    def put(self, found: Found, why: str) -> None:
        """Adds a VIB, and drops what gives way to it."""
        package = found.package
        for vib, reason in self.giving_way(package).items():
            if self.packages[vib].name == package.name:
                self.replaced[vib] = package.id
            self.drop(vib, reason)
        self.packages[package.id] = package
        if found.depot:
            self.depots[package.id] = found.depot
        self.added[package.id] = why
        self._relations = None

    def drop(self, vib: str, reason: str) -> None:
        """Takes a VIB out, if it is there."""
        if self.packages.pop(vib, None) is not None:
            self.depots.pop(vib, None)
            self.removed[vib] = reason
            self._relations = None

    def unmet(self) -> Iterator[tuple[SoftwarePackage, SoftwareConstraint]]:
        """Every dependency that no member satisfies, by VIB id."""
        relations = self.relations
        for vib in sorted(self.packages):
            for constraint in relations.unmet(self.packages[vib]):
                yield self.packages[vib], constraint


@dataclass(slots=True)
class _Attempt:
    """Why the VIBs that would satisfy a need can't be had."""

    package: SoftwarePackage
    constraint: SoftwareConstraint
    refused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        why = "; ".join(self.refused[:3]) or "no depot has it"
        return f"{self.package.id} needs {self.constraint} ({why})"


def add_dependencies(draft: Draft, catalogue: Catalogue, level: AcceptanceLevel) -> None:
    """Puts into the draft, for every unmet dependency, the best VIB of the catalogue, and so on with its own.

    Left out are VIBs below the acceptance level, those that conflict with a member, those that a member
    replaces (so nothing is ever downgraded), and those that would take out a VIB added here. Of the rest
    comes first what breaks no dependency of other members, then a VIB of the very name that is asked for,
    then the newest. Raises ProfileError that lists every need that is left.
    """
    failed: dict[tuple[str, str], _Attempt] = {}
    moved = True
    while moved and len(draft.added) < MOST_ADDED:
        moved = False
        for package, constraint in list(draft.unmet()):
            if package.id not in draft.packages or draft.relations.met(package, constraint):
                continue  # an earlier one of this round settled it
            attempt = failed[package.id, str(constraint)] = _Attempt(package, constraint)
            if best := _best(draft, catalogue, level, attempt):
                draft.put(best, f"{package.id} needs {constraint}")
                moved = True
    left = [str(failed.get((package.id, str(one)), _Attempt(package, one))) for package, one in draft.unmet()]
    if left:
        more = f"; and {len(left) - 20} more" if len(left) > 20 else ""
        raise ProfileError(f"dependencies that the depots can't satisfy: {'; '.join(left[:20])}{more}")


def _best(draft: Draft, catalogue: Catalogue, level: AcceptanceLevel, attempt: _Attempt) -> Found | None:
    fit: list[tuple[int, Found]] = []
    for found in catalogue.providers(attempt.constraint):
        if objection := _objection(draft, found.package, level, attempt):
            attempt.refused.append(objection)
            continue
        broken = _breaks(draft, found.package)
        if not broken:
            return found  # providers come in order of preference
        fit.append((broken, found))
    return min(fit, key=lambda one: one[0])[1] if fit else None


def _objection(
    draft: Draft, package: SoftwarePackage, level: AcceptanceLevel, attempt: _Attempt
) -> str | None:
    if package.id in draft.packages:
        return f"{package.id} is for another platform"
    if package.acceptance_level < level:
        return f"{package.id} is {package.acceptance_level}, below the profile's {level}"
    if not Relations([package]).met(attempt.package, attempt.constraint):
        return f"{package.id} is for another platform"
    gone = draft.giving_way(package)
    for relation in draft.relations.replaced_by(package):
        return f"{relation.holder} replaces {package.id}"
    for vib in gone:
        if vib in draft.added or vib == attempt.package.id:
            return f"{package.id} would replace {vib}"
    for relation in draft.relations.conflicts_of(package):
        other = relation.target if relation.holder == package.id else relation.holder
        if other not in gone:
            return f"{package.id} conflicts with {other}"
    return None


def _breaks(draft: Draft, package: SoftwarePackage) -> int:
    """How many dependencies of members would be lost with those that give way."""
    gone = draft.giving_way(package)
    if not gone:
        return 0
    staying = [one for vib, one in draft.packages.items() if vib not in gone]
    after = Relations([*staying, package])
    return sum(
        1 for one in staying for constraint in after.unmet(one) if draft.relations.met(one, constraint)
    )
