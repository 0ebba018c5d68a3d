"""``SoftwarePackage``: what a VIB's descriptor says of it, under the documented names.

Source: VMware's documentation of SoftwarePackage; defaults as ESXi takes them for elements that are missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint, SoftwareProvide
from midwife.images.objects.version import SoftwareVersion

__all__ = ["Checksum", "HardwarePlatform", "Payload", "ReferenceUrl", "SoftwarePackage", "SoftwarePlatform"]


@dataclass(frozen=True, slots=True)
class Checksum:
    """A sum over a payload, lower-case hexadecimal."""

    kind: str
    """``sha-256``, ``sha-1``, ``sha-256-gunzip1``, or whatever else a descriptor says."""
    value: str
    process: str | None = None
    """``verify-process``: None over the bytes as stored, ``gunzip`` over the decompressed ones."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A file inside a VIB: usually one boot module."""

    name: str
    type: str
    size: int
    """Bytes, as stored."""
    checksums: tuple[Checksum, ...] = ()
    boot_order: int | None = None
    vfat_name: str | None = None
    """Name on boot media (8.3), if the VIB wants a certain one."""
    extra: tuple[tuple[str, str], ...] = ()
    """Other attributes, as they were (``uncompressed-size``, ``compression-option``)."""

    def stored_checksum(self, kind: str = "sha-256") -> str | None:
        """The sum over the bytes as stored, None if the VIB has none of that kind."""
        return next(
            (sum_.value for sum_ in self.checksums if sum_.kind == kind and sum_.process is None), None
        )


@dataclass(frozen=True, slots=True)
class ReferenceUrl:
    """A link with its title (the descriptor's ``key``)."""

    title: str
    url: str

    def documented(self) -> dict[str, Any]:
        """By the documented names, for JSON."""
        return {"Title": self.title, "URL": self.url}


@dataclass(frozen=True, slots=True)
class HardwarePlatform:
    """A vendor's machines (SMBIOS), or one model of them, that a VIB is for."""

    vendor: str
    model: str = ""
    """"" is every model."""


@dataclass(frozen=True, slots=True)
class SoftwarePlatform:
    """A product that a VIB or bulletin is for."""

    product: str = "embeddedEsx"
    """``embeddedEsx`` is ESXi, ``esxio`` a DPU."""
    version: str = ""
    locale: str = ""


@dataclass(frozen=True)
class SoftwarePackage:
    """A VIB. Not everything here is shown by PowerCLI: payloads, file list, platforms and overlay are not."""

    name: str
    version_object: SoftwareVersion
    vendor: str
    type: str = "bootbank"
    """``bootbank``, ``locker`` or ``meta``."""
    summary: str = ""
    description: str = ""
    release_date: datetime | None = None
    """With a time zone."""
    reference_urls: tuple[ReferenceUrl, ...] = ()
    depends: tuple[SoftwareConstraint, ...] = ()
    conflicts: tuple[SoftwareConstraint, ...] = ()
    replaces: tuple[SoftwareConstraint, ...] = ()
    """As written; that it replaces older versions of its own name is in ``all_replaces``."""
    compatible_with: tuple[SoftwareConstraint, ...] = ()
    provides: tuple[SoftwareProvide, ...] = ()
    """As written; its own name and version is in ``all_provides``."""
    tags: tuple[str, ...] = ()
    maintenance_mode: bool = False
    """Hosts must be in maintenance mode to install it."""
    maintenance_mode_remove: bool = True
    """Hosts must be in maintenance mode to remove it."""
    hardware_platforms: tuple[HardwarePlatform, ...] = ()
    """Empty: every machine."""
    software_platforms: tuple[SoftwarePlatform, ...] = ()
    files: tuple[str, ...] = ()
    """Paths without a leading slash."""
    acceptance_level: AcceptanceLevel = AcceptanceLevel.COMMUNITY
    """As claimed; ``midwife.images.vib.signing.signature`` proves it."""
    live_install_ok: bool = False
    live_remove_ok: bool = False
    cimom_restart: bool = False
    stateless_ready: bool = False
    overlay: bool = False
    """May bring files that another VIB brings too."""
    payloads: tuple[Payload, ...] = ()

    @cached_property
    def id(self) -> str:
        """``VMW_bootbank_nvme_1.2.0.32-2vmw.600.0.0.2494585``: vendor, type, name, version."""
        return f"{self.vendor}_{self.type}_{self.name}_{self.version}"

    @property
    def guid(self) -> str:
        """The id, which is what PowerCLI shows as Guid."""
        return self.id

    @property
    def version(self) -> str:
        """Version and release as text."""
        return str(self.version_object)

    @property
    def dpu_only(self) -> bool:
        """Whether it is for DPUs (``esxio``) and for nothing else: profiles of 8.0 and later have such VIBs, and
        hosts neither load nor list them.
        """
        platforms = self.software_platforms
        return bool(platforms) and all(platform.product == "esxio" for platform in platforms)

    @cached_property
    def all_provides(self) -> tuple[SoftwareProvide, ...]:
        """What is written, and the package itself by name and version."""
        return (SoftwareProvide(self.name, self.version_object), *self.provides)

    @cached_property
    def all_replaces(self) -> tuple[SoftwareConstraint, ...]:
        """What is written, and older versions of the package itself."""
        return (SoftwareConstraint(self.name, "<<", self.version_object), *self.replaces)

    def documented(self, source_urls: Iterable[str] = ()) -> dict[str, Any]:
        """By the documented names, for JSON. ``source_urls``: where it can be had, which a depot knows."""
        return {
            "AcceptanceLevel": self.acceptance_level.documented,
            "Conflicts": [str(one) for one in self.conflicts],
            "Depends": [str(one) for one in self.depends],
            "Description": self.description,
            "Guid": self.guid,
            "LiveInstallOk": self.live_install_ok,
            "LiveRemoveOk": self.live_remove_ok,
            "MaintenanceMode": self.maintenance_mode,
            "Name": self.name,
            "Provides": [str(one) for one in self.provides],
            "ReferenceURLs": [url.documented() for url in self.reference_urls],
            "ReleaseDate": None if self.release_date is None else self.release_date.isoformat(),
            "Replaces": [str(one) for one in self.replaces],
            "SourceUrls": list(source_urls),
            "StatelessReady": self.stateless_ready,
            "Summary": self.summary,
            "Tags": list(self.tags),
            "Vendor": self.vendor,
            "Version": self.version,
        }
