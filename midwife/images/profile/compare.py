"""Compares two image profiles as Compare-EsxImageProfile does, and looks at what VIBs of one id contain.

Either side may be what a live host reports (``midwife.images.profile.hostvibs``), which knows names and versions
but not always the type of a VIB. Source: VMware's documentation of ImageProfileDiff.
"""

from collections.abc import Mapping
from dataclasses import replace

from midwife.images.objects.diff import ImageProfileDiff
from midwife.images.objects.package import SoftwarePackage
from midwife.images.profile.hardware import hardware_rules
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.profile.sameness import same_content

__all__ = ["compare", "without_dpu"]


def compare(ref: ResolvedProfile, comp: ResolvedProfile) -> ImageProfileDiff:
    """How ``comp`` differs from ``ref``; ids sorted, and those of ``comp`` for upgrades and downgrades.

    VIBs that are on one side only and have a namesake on the other are an upgrade or a downgrade (of several
    namesakes the newest of each side are paired). Equal versions of different vendors are "only in".
    Contents are compared where both sides know the payloads.
    """
    mine = _typed(ref, comp)
    theirs = _typed(comp, ref)
    ref_ids = {*mine, *ref.missing}
    comp_ids = {*theirs, *comp.missing}
    only_ref, only_comp = ref_ids - comp_ids, comp_ids - ref_ids
    old, new = _newest(only_ref, mine), _newest(only_comp, theirs)
    upgrades: list[str] = []
    downgrades: list[str] = []
    for name in sorted(old.keys() & new.keys()):
        before, after = old[name], new[name]
        if before.version_object == after.version_object:
            continue
        only_ref.discard(before.id)
        only_comp.discard(after.id)
        (upgrades if before.version_object < after.version_object else downgrades).append(after.id)
    return ImageProfileDiff(
        packages_equal=ref_ids == comp_ids,
        rules_equal=hardware_rules(mine.values()) == hardware_rules(theirs.values()),
        only_in_ref=tuple(sorted(only_ref)),
        only_in_comp=tuple(sorted(only_comp)),
        upgrade_from_ref=tuple(sorted(upgrades)),
        downgrade_from_ref=tuple(sorted(downgrades)),
        ref_acceptance_level=ref.profile.acceptance_level,
        comp_acceptance_level=comp.profile.acceptance_level,
        different_content=tuple(
            vib
            for vib in sorted(mine.keys() & theirs.keys())
            if mine[vib].payloads and theirs[vib].payloads and not same_content(mine[vib], theirs[vib])
        ),
    )


def without_dpu(resolved: ResolvedProfile) -> ResolvedProfile:
    """The profile without the VIBs that are for DPUs only (``esxio``, 8.0 and later).

    A host does not list those, so a comparison with a live host starts from this.
    """
    dpu = {vib for vib, package in resolved.packages.items() if package.dpu_only}
    if not dpu:
        return resolved
    return replace(
        resolved,
        profile=replace(
            resolved.profile, vibs=tuple(vib for vib in resolved.profile.vibs if vib.id not in dpu)
        ),
        packages={vib: package for vib, package in resolved.packages.items() if vib not in dpu},
        depots={vib: depot for vib, depot in resolved.depots.items() if vib not in dpu},
    )


def _typed(side: ResolvedProfile, other: ResolvedProfile) -> dict[str, SoftwarePackage]:
    """By id. A VIB without a type gets that of its namesake on the other side, else ``bootbank``."""
    types: dict[tuple[str, str] | str, str] = {}
    for package in other.packages.values():
        if package.type:
            types.setdefault((package.vendor, package.name), package.type)
            types.setdefault(package.name, package.type)
    found = {}
    for package in side.packages.values():
        if not package.type:
            known = types.get((package.vendor, package.name)) or types.get(package.name) or "bootbank"
            package = replace(package, type=known)
        found[package.id] = package
    return found


def _newest(ids: set[str], packages: Mapping[str, SoftwarePackage]) -> dict[str, SoftwarePackage]:
    """By name. Ids whose package is not known (missing in the depots) have no name that could be trusted."""
    newest: dict[str, SoftwarePackage] = {}
    for vib in sorted(ids & packages.keys()):
        package = packages[vib]
        best = newest.setdefault(package.name, package)
        if best.version_object < package.version_object:
            newest[package.name] = package
    return newest
