"""``ImageProfile``: a named list of VIBs, and ``HardwareRule``, what Auto Deploy checks before deploying it.

Source: VMware's documentation of ImageProfile, limits of length included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from midwife.images.errors import ProfileError
from midwife.images.objects.acceptance import AcceptanceLevel

__all__ = ["HardwareRule", "ImageProfile", "ProfileVib"]

_LONGEST = {"name": 80, "vendor": 40, "author": 60}


@dataclass(frozen=True, slots=True)
class HardwareRule:
    """A vendor whose machines the profile may boot; no models: all of that vendor's."""

    vendor: str
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.vendor}: {', '.join(self.models)}" if self.models else self.vendor


@dataclass(frozen=True, slots=True)
class ProfileVib:
    """A VIB of a profile, by id."""

    id: str
    boot: bool = True
    """False: installed, but not loaded at boot (a VIB of the locker)."""
    payloads: Mapping[str, str] = field(default_factory=dict)
    """Payload name to file name on boot media, where the profile fixes it (that of an image database)."""


@dataclass(frozen=True, slots=True)
class ImageProfile:
    """Raises ProfileError for a name, vendor or author that is empty (name, vendor) or too long."""

    name: str
    """At most 80 characters."""
    vendor: str
    """Who publishes it; at most 40 characters (``creator`` in XML)."""
    author: str = ""
    """At most 60 characters."""
    description: str = ""
    guid: str = ""
    """32 hexadecimal digits."""
    acceptance_level: AcceptanceLevel = AcceptanceLevel.PARTNER
    """The least that each VIB must have."""
    creation_time: datetime | None = None
    modified_time: datetime | None = None
    read_only: bool = False
    serial: int = 0
    """Counts changes."""
    vibs: tuple[ProfileVib, ...] = ()
    """Sorted by id."""
    signature_check: bool = True
    """False: somebody said ``--no-signature-check``; it is never forgotten."""
    rules: tuple[HardwareRule, ...] = ()
    """What its VIBs demand of the hardware; empty for any."""

    def __post_init__(self) -> None:
        for what, longest in _LONGEST.items():
            value: str = getattr(self, what)
            if len(value) > longest:
                raise ProfileError(
                    f"image profile {self.name[:80]!r}: {what} has {len(value)} characters; {longest} at most"
                )
            if not value.strip() and what != "author":
                raise ProfileError(f"image profile {self.name!r}: {what} is empty")

    @property
    def vib_list(self) -> tuple[str, ...]:
        """The ids of its VIBs."""
        return tuple(vib.id for vib in self.vibs)

    def documented(self) -> dict[str, Any]:
        """By the documented names, for JSON."""
        return {
            "AcceptanceLevel": self.acceptance_level.documented,
            "Author": self.author,
            "CreationTime": None if self.creation_time is None else self.creation_time.isoformat(),
            "Description": self.description,
            "GUID": self.guid,
            "ModifiedTime": None if self.modified_time is None else self.modified_time.isoformat(),
            "Name": self.name,
            "ReadOnly": self.read_only,
            "Rules": [str(rule) for rule in self.rules],
            "Vendor": self.vendor,
            "VibList": list(self.vib_list),
        }
