"""Hardware rules of an image profile: which vendors' machines its VIBs allow, all of them together.

Source: ESXi 6.7's own derivation of a profile's hardware platforms. Auto Deploy checks the rules before it
deploys a profile; they are derived from the VIBs and stored nowhere.
"""

from collections.abc import Iterable

from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import HardwareRule

__all__ = ["CONFLICTING", "hardware_rules"]

CONFLICTING = HardwareRule("conflicting vendors")
"""Stands for "no machine at all": the VIBs ask for hardware that excludes each other."""


def hardware_rules(packages: Iterable[SoftwarePackage]) -> tuple[HardwareRule, ...]:
    """Sorted by vendor; empty: every machine; ``(CONFLICTING,)``: none.

    Each VIB that names platforms narrows the list: a vendor must be named by all of them, and so must a model
    (a vendor without a model is all models of that vendor).
    """
    allowed: dict[str, frozenset[str]] | None = None
    for package in packages:
        if package.hardware_platforms:
            wanted = _platforms(package)
            allowed = wanted if allowed is None else _both(allowed, wanted)
    if allowed is None:
        return ()
    if not allowed:
        return (CONFLICTING,)
    return tuple(HardwareRule(vendor, tuple(sorted(models))) for vendor, models in sorted(allowed.items()))


def _platforms(package: SoftwarePackage) -> dict[str, frozenset[str]]:
    models: dict[str, set[str]] = {}
    for platform in package.hardware_platforms:
        models.setdefault(platform.vendor, set()).add(platform.model)
    return {vendor: frozenset() if "" in some else frozenset(some) for vendor, some in models.items()}


def _both(a: dict[str, frozenset[str]], b: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    shared = {}
    for vendor in a.keys() & b.keys():
        if not a[vendor] or not b[vendor]:
            shared[vendor] = a[vendor] | b[vendor]
        elif common := a[vendor] & b[vendor]:
            shared[vendor] = common
    return shared
