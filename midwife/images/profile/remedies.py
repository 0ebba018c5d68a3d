"""What would mend a finding of ``validate``: which VIB of which depot, or which command, in one line.

Knows the words of the command line and the catalogue; decides nothing about what is valid.
"""

import shlex
from collections.abc import Sequence
from functools import cached_property

from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.profile.catalogue import Catalogue, Found
from midwife.images.profile.relations import Relations, needs
from midwife.images.profile.resolved import ResolvedProfile

__all__ = ["Remedies"]

_SHOWN = 3


class Remedies:
    """For one profile. ``catalogue`` None: depots can't be asked, and the text says what to look for."""

    def __init__(self, resolved: ResolvedProfile, relations: Relations, catalogue: Catalogue | None) -> None:
        self._resolved = resolved
        self._relations = relations
        self._catalogue = catalogue
        self._profile = shlex.quote(resolved.profile.name)
        self._known: dict[SoftwareConstraint, tuple[Found, ...]] = {}

    def provider(self, constraint: SoftwareConstraint, needing: str = "") -> str:
        """Which VIBs satisfy a dependency (of ``needing``): of the profile's depots first, then the newest."""
        if self._catalogue is None:
            return f"Add a VIB that provides {constraint}."
        if constraint not in self._known:
            self._known[constraint] = self._nearest(self._catalogue.providers(constraint))
        if not (found := self._known[constraint]):
            return self._no_provider(constraint, needing)
        others = [f"{one.package.id} (depot {one.depot})" for one in found[1:_SHOWN]]
        also = f" Also: {', '.join(others)}." if others else ""
        best = found[0]
        return (
            f"Depot {best.depot} has {best.package.id}: {self._add(best)}"
            f" (--with-dependencies adds what that needs, too).{also}"
        )

    def missing_vib(self, vib: str) -> str:
        """For a VIB that is in no depot."""
        remedy = f"Add the depot that has it (midwife depot add), or take it out: {self._remove(vib)}."
        name = vib.split("_")[-2] if vib.count("_") >= 3 else ""
        if self._catalogue is not None and (named := self._nearest(self._catalogue.named(name))):
            remedy += f" Depot {named[0].depot} has {named[0].package.id}: {self._add(named[0])}."
        return remedy

    def one_of(self, vibs: Sequence[str]) -> str:
        """For VIBs that exclude each other: which of them is the first to go."""
        free = [vib for vib in vibs if vib not in self._sole]
        if not free:
            needed = ", ".join(vibs[:_SHOWN])
            return f"Remove all but one of them; others of the profile need each of them: {needed}."
        return f"Remove all but one of them, for example: {self._remove(min(free, key=self._worth))}."

    def without(self, vib: str) -> str:
        """For a VIB that should not be there."""
        return f"Remove it: {self._remove(vib)}."

    def paths(self, vib: str) -> str:
        """For a VIB with files where its level may have none."""
        return (
            "Build it again with other paths (midwife vib build shows where files may be), or remove it:"
            f" {self._remove(vib)}. A host takes it only by force (esxcli software vib install -f)."
        )

    def level(self, vib: str, lowest: AcceptanceLevel) -> str:
        """For VIBs below the profile's level, of which ``lowest`` is the lowest."""
        return (
            f"Lower the profile's level: midwife image edit {self._profile} --acceptance-level {lowest};"
            f" or remove the VIB: {self._remove(vib)}."
        )

    def signature(self, vib: str) -> str:
        """For a level that is claimed and not proved."""
        return (
            f"Get the VIB from its vendor again, or remove it: {self._remove(vib)}."
            " If you know where it comes from, --no-signature-check believes what it claims."
        )

    def _nearest(self, found: Sequence[Found]) -> tuple[Found, ...]:
        """A newer ESXi in the library has newer VIBs of everything, and they fit its own profiles only."""
        own = set(self._resolved.depots.values())
        return tuple(sorted(found, key=lambda one: one.depot not in own))

    @cached_property
    def _sole(self) -> frozenset[str]:
        """Members that alone provide what another needs, or that are the only base VIB."""
        wanted = {one for package in self._relations.packages.values() for one in needs(package)}
        found = (self._relations.providers(one) for one in (*wanted, SoftwareConstraint("esx-version")))
        return frozenset(providers[0] for providers in found if len(providers) == 1)

    def _worth(self, vib: str) -> tuple[bool, int, str]:
        """Obsolete VIBs go first, then those of the lowest acceptance level."""
        package = self._relations.packages[vib]
        obsolete = any(self._relations.replaced_by(package))
        return (not obsolete, int(package.acceptance_level), vib)

    def _no_provider(self, constraint: SoftwareConstraint, needing: str) -> str:
        named = self._catalogue.named(constraint.name) if self._catalogue is not None else ()
        there = ", ".join(f"{one.package.version} (depot {one.depot})" for one in named[:_SHOWN])
        versions = f" There is {constraint.name} {there}." if there else ""
        remove = f", or remove what needs it: {self._remove(needing)}" if needing else ""
        return f"No depot has it.{versions} Add a depot that has it (midwife depot add){remove}."

    def _add(self, found: Found) -> str:
        vib, depot = shlex.quote(found.package.id), shlex.quote(found.depot)
        return f"midwife image add {self._profile} {vib} --depot {depot}"

    def _remove(self, vib: str) -> str:
        return f"midwife image remove {self._profile} {shlex.quote(vib)}"
