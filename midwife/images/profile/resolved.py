"""``ResolvedProfile``: an image profile with the descriptors of its VIBs, and ``Finding``, what is wrong with one.

Everything that composes, validates, compares or exports works on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile

__all__ = ["Finding", "ResolvedProfile"]


@dataclass(frozen=True, slots=True)
class ResolvedProfile:
    """``packages`` and ``depots`` by VIB id; ``missing`` ids are in no depot."""

    profile: ImageProfile
    packages: Mapping[str, SoftwarePackage]
    depots: Mapping[str, str] = field(default_factory=dict)
    """In which depot each was found."""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong; sorts by gravity, then kind, then VIB."""

    order: int
    """0 the image cannot work, 1 file paths, 2 acceptance, 3 relations: ESXi's own order of reports."""
    kind: str
    """Stable word for scripts: ``missing-dependency``, ``conflict``, ``obsolete``, ``file-conflict``, …"""
    vib: str
    """VIB id; "" where the profile as a whole is meant."""
    reason: str
    """A sentence."""
    remedy: str = ""
    """What would mend it: which VIB of which depot, or which command."""

    def documented(self) -> dict[str, Any]:
        """For JSON."""
        return {"Kind": self.kind, "Vib": self.vib, "Reason": self.reason, "Remedy": self.remedy}
