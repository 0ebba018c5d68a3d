"""Files that several VIBs of an image bring: the overlay rule, grouped so that people can read it.

Source: ESXi 6.7's own check. A path may come from one ordinary VIB and from one overlay VIB, which hides it;
two of either kind are a conflict.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from midwife.images.objects.package import SoftwarePackage

__all__ = ["SharedFiles", "normal_path", "shared_files"]


@dataclass(frozen=True, slots=True, order=True)
class SharedFiles:
    """Paths that exactly these VIBs have in common; both sorted."""

    vibs: tuple[str, ...]
    paths: tuple[str, ...]
    overlay: bool
    """Whether they are overlay VIBs."""


def normal_path(path: str) -> str:
    """Without leading slashes; "" for a directory (it ends in a slash), which any number of VIBs may list."""
    return "" if path.endswith("/") else path.lstrip("/")


def shared_files(packages: Iterable[SoftwarePackage]) -> tuple[SharedFiles, ...]:
    """One group for each set of VIBs that share paths, so their number is bounded by that of the paths.

    VIBs for hosts and VIBs for DPUs are never installed together and may bring the same paths.
    """
    packages = list(packages)
    found = [
        SharedFiles(vibs, tuple(sorted(paths)), overlay)
        for overlay in (False, True)
        for vibs, paths in _groups([one for one in packages if one.overlay is overlay]).items()
    ]
    return tuple(sorted(found))


def _groups(packages: Iterable[SoftwarePackage]) -> dict[tuple[str, ...], list[str]]:
    """Paths by the VIBs that share them."""
    first: dict[str, SoftwarePackage] = {}
    several: dict[str, list[SoftwarePackage]] = {}
    for package in packages:
        for path in {normal_path(file) for file in package.files}:
            other = first.setdefault(path, package)
            if other is not package and path:
                several.setdefault(path, [other]).append(package)
    groups: dict[tuple[str, ...], list[str]] = {}
    for path, holders in several.items():
        if vibs := _meeting(holders):
            groups.setdefault(vibs, []).append(path)
    return groups


def _meeting(holders: list[SoftwarePackage]) -> tuple[str, ...]:
    """The ids of those that are installed together with another of them."""
    products = {vib.id: {platform.product for platform in vib.software_platforms} for vib in holders}
    times = Counter(product for some in products.values() for product in some)
    anywhere = any(not some for some in products.values())
    return tuple(
        sorted(
            vib
            for vib, mine in products.items()
            if (not mine and len(holders) > 1)
            or (mine and (anywhere or any(times[product] > 1 for product in mine)))
        )
    )
