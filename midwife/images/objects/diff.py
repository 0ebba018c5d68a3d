"""``ImageProfileDiff``: how a second profile (comparison) differs from a first (reference).

Source: VMware's documentation of Compare-EsxImageProfile. Whether its lists name the VIB of the reference or
that of the comparison is not documented; ours name the comparison's.
"""

from dataclasses import dataclass
from typing import Any

from midwife.images.objects.acceptance import AcceptanceLevel

__all__ = ["ImageProfileDiff"]


@dataclass(frozen=True, slots=True)
class ImageProfileDiff:
    """VIBs by id. A VIB of the same name in another version is an upgrade or a downgrade, not "only in"."""

    packages_equal: bool
    rules_equal: bool
    only_in_ref: tuple[str, ...]
    only_in_comp: tuple[str, ...]
    upgrade_from_ref: tuple[str, ...]
    """VIBs of the comparison that are newer than the reference's."""
    downgrade_from_ref: tuple[str, ...]
    """VIBs of the comparison that are older than the reference's."""
    ref_acceptance_level: AcceptanceLevel
    comp_acceptance_level: AcceptanceLevel
    different_content: tuple[str, ...] = ()
    """The same id on both sides, with other contents; PowerCLI does not look."""

    @property
    def equal(self) -> bool:
        """The same packages and the same acceptance level."""
        return self.packages_equal and self.ref_acceptance_level == self.comp_acceptance_level

    def documented(self) -> dict[str, Any]:
        """By the documented names, for JSON."""
        return {
            "Equal": self.equal,
            "PackagesEqual": self.packages_equal,
            "RulesEqual": self.rules_equal,
            "OnlyInRef": list(self.only_in_ref),
            "OnlyInComp": list(self.only_in_comp),
            "UpgradeFromRef": list(self.upgrade_from_ref),
            "DowngradeFromRef": list(self.downgrade_from_ref),
            "RefAcceptanceLevel": self.ref_acceptance_level.documented,
            "CompAcceptanceLevel": self.comp_acceptance_level.documented,
            "DifferentContent": list(self.different_content),
        }
