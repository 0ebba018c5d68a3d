"""Who needs, replaces and excludes whom among VIBs: an index of provides, asked by name, so that cost is linear.

Source: ESXi 6.7's own scan of relations; platforms (host and DPU) came with 8.0. Knows packages only, neither
profiles nor depots; whoever is asked about may be a member of the set or an outsider.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from midwife.images.objects.constraint import SoftwareConstraint, SoftwareProvide
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.version import SoftwareVersion

__all__ = ["Relation", "Relations", "meet", "needs"]

_INSTALLER = SoftwareProvide("installer:esximage", SoftwareVersion("1.0"))
_INSTALLED_BY = SoftwareConstraint("esximage")
_OLD_MISC_DRIVERS = frozenset({"esx-base = 5.5.0", "vmkapi_incompat_2_3_0_0"})


@dataclass(frozen=True, slots=True, order=True)
class Relation:
    """``holder`` says ``text`` (a constraint) of ``target``; both are VIB ids. Sorted by ids."""

    holder: str
    target: str
    text: str


def needs(package: SoftwarePackage) -> tuple[SoftwareConstraint, ...]:
    """What a VIB really depends on: what is written, with ESXi's two special cases.

    ``misc-drivers`` before 6.1 asks for a base that was gone when it was shipped: ESXi looks away. Whoever
    asks for ``installer:esximage`` (which is always there) asks for ``esximage`` too.
    """
    depends = package.depends
    if package.name == "misc-drivers" and package.version_object < SoftwareVersion("6.1"):
        depends = tuple(one for one in depends if str(one) not in _OLD_MISC_DRIVERS)
    if any(one.name == _INSTALLER.name for one in depends) and _INSTALLED_BY not in depends:
        depends = (*depends, _INSTALLED_BY)
    return depends


def meet(a: SoftwarePackage, b: SoftwarePackage) -> bool:
    """Whether both are ever installed together: one for hosts and one for DPUs (``esxio``) never are."""
    if not a.software_platforms or not b.software_platforms:
        return True
    products = {platform.product for platform in a.software_platforms}
    return any(platform.product in products for platform in b.software_platforms)


class Relations:
    """The relations of a set of VIBs. Later packages of an id that is there already are ignored."""

    def __init__(self, packages: Iterable[SoftwarePackage]) -> None:
        self.packages: dict[str, SoftwarePackage] = {}
        self._provides: dict[str, list[tuple[SoftwareProvide, str]]] = {}
        self._conflicts: dict[str, list[tuple[SoftwareConstraint, str]]] = {}
        self._replaces: dict[str, list[tuple[SoftwareConstraint, str]]] = {}
        self._found: dict[SoftwareConstraint, tuple[str, ...]] = {}
        for package in packages:
            if package.id in self.packages:
                continue
            self.packages[package.id] = package
            for provide in package.all_provides:
                self._provides.setdefault(provide.name, []).append((provide, package.id))
            for constraint in package.conflicts:
                self._conflicts.setdefault(constraint.name, []).append((constraint, package.id))
            for constraint in package.all_replaces:
                self._replaces.setdefault(constraint.name, []).append((constraint, package.id))

    def providers(self, constraint: SoftwareConstraint) -> tuple[str, ...]:
        """The ids of all that provide what is asked for, in the order of the set."""
        known = self._found.get(constraint)
        if known is None:
            provides = self._provides.get(constraint.name, ())
            # dict: a package may provide a name in several versions, and is told once
            known = tuple({vib: None for provide, vib in provides if constraint.matches_provide(provide)})
            self._found[constraint] = known
        return known

    def met(self, package: SoftwarePackage, constraint: SoftwareConstraint) -> bool:
        """Whether the set satisfies one dependency of a package.

        What a VIB for hosts needs must be there for hosts. A VIB for DPUs may lean on everything: what ESXi
        checks there is not known, and a profile without the DPU's base would else be refused.
        """
        if constraint.name == _INSTALLER.name and constraint.matches_provide(_INSTALLER):
            return True
        providers = self.providers(constraint)
        if package.dpu_only:
            return bool(providers)
        return any(meet(package, self.packages[vib]) for vib in providers)

    def unmet(self, package: SoftwarePackage) -> tuple[SoftwareConstraint, ...]:
        """The dependencies of a package that nothing in the set satisfies, as written, each once."""
        return tuple(dict.fromkeys(one for one in needs(package) if not self.met(package, one)))

    def conflicts_of(self, package: SoftwarePackage) -> Iterator[Relation]:
        """Conflicts with others of the set, whoever of both declares it. A VIB never excludes itself."""
        yield from self._outgoing(package, package.conflicts)
        yield from self._incoming(package, self._conflicts)

    def declared_conflicts(self, package: SoftwarePackage) -> Iterator[Relation]:
        """Only those that the package declares itself."""
        yield from self._outgoing(package, package.conflicts)

    def replaced_by(self, package: SoftwarePackage) -> Iterator[Relation]:
        """Who of the set makes the package obsolete (``holder``)."""
        yield from self._incoming(package, self._replaces)

    def replaces(self, package: SoftwarePackage) -> Iterator[Relation]:
        """Whom of the set the package makes obsolete (``target``)."""
        yield from self._outgoing(package, package.all_replaces)

    def _outgoing(self, package: SoftwarePackage, said: Iterable[SoftwareConstraint]) -> Iterator[Relation]:
        for constraint in said:
            for vib in self.providers(constraint):
                if vib != package.id and meet(package, self.packages[vib]):
                    yield Relation(package.id, vib, str(constraint))

    def _incoming(
        self, package: SoftwarePackage, said: dict[str, list[tuple[SoftwareConstraint, str]]]
    ) -> Iterator[Relation]:
        for provide in package.all_provides:
            for constraint, vib in said.get(provide.name, ()):
                if vib != package.id and constraint.matches_provide(provide):  # noqa: SIM102
                    if meet(package, self.packages[vib]):
                        yield Relation(vib, package.id, str(constraint))
