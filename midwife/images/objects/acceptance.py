"""Acceptance levels: how much a VIB was tested, and the least that an image profile asks of its VIBs.

Source: VMware's documentation of AcceptanceLevel; the short names are those of VIB descriptors.
"""

from enum import IntEnum

__all__ = ["AcceptanceLevel"]


class AcceptanceLevel(IntEnum):
    """Higher is stricter; compare with ``<``. ``str()`` is the short name of descriptors and YAML files."""

    COMMUNITY = 0
    PARTNER = 5
    ACCEPTED = 10
    CERTIFIED = 15

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def documented(self) -> str:
        """``PartnerSupported``: the name in tables and JSON."""
        return _DOCUMENTED[self]

    @classmethod
    def parse(cls, text: str) -> "AcceptanceLevel":
        """From either name, any case; the old ``signed`` and ``unsigned`` too. Raises ValueError."""
        level = _BY_NAME.get(text.strip().lower())
        if level is None:
            known = ", ".join(str(level) for level in cls)
            raise ValueError(f"{text!r} is not an acceptance level; there are: {known}")
        return level


_DOCUMENTED = {
    AcceptanceLevel.COMMUNITY: "CommunitySupported",
    AcceptanceLevel.PARTNER: "PartnerSupported",
    AcceptanceLevel.ACCEPTED: "VMwareAccepted",
    AcceptanceLevel.CERTIFIED: "VMwareCertified",
}
_BY_NAME = {
    **{str(level): level for level in AcceptanceLevel},
    **{name.lower(): level for level, name in _DOCUMENTED.items()},
    "signed": AcceptanceLevel.PARTNER,  # descriptors of ESXi 5.0's first tools
    "unsigned": AcceptanceLevel.COMMUNITY,
}
