"""What a live host reports of its image: ``esxcli software vib list`` and ``vib get``, made comparable.

Reads the text that esxcli prints and what its formatters make of it (csv, xml, keyvalue, json). The columns are
those of ESXi 5.0 to 9.0; there is no document of the formats, they were seen. Pure; talks to no host.
"""

from collections.abc import Mapping, Sequence

from midwife.images.errors import FormatError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.images.objects.version import SoftwareVersion
from midwife.images.profile.esxclioutput import read_records
from midwife.images.profile.resolved import ResolvedProfile

__all__ = ["parse_vib_list"]

MOST_VIBS = 10_000
"""A host has some 150."""


def parse_vib_list(
    text: str,
    *,
    name: str = "host",
    vendor: str = "host",
    level: AcceptanceLevel | None = None,
) -> ResolvedProfile:
    """A profile that stands for the host; its packages have names, versions, vendors and levels, no contents.

    The plain text does not say which type a VIB has: ``type`` is "" then, and ``compare`` fills it in. VIBs
    that the host lists for its DPUs only are left out. ``level`` is the host's (``esxcli software acceptance
    get``); without it that of the lowest VIB is taken. ``name`` and ``vendor`` are shortened to what a profile
    may have. Raises FormatError.
    """
    packages: dict[str, SoftwarePackage] = {}
    for number, record in enumerate(read_records(text), 1):
        if number > MOST_VIBS:
            raise FormatError(f"more than {MOST_VIBS} VIBs: this is no list of a host's VIBs")
        package = _package(record, number)
        if _on_host(record.get("platforms", "")):
            packages[package.id] = package
    if not packages:
        raise FormatError("no VIBs in it: give what `esxcli software vib list` prints, with its headings")
    packages = dict(sorted(packages.items()))
    profile = ImageProfile(
        name=name[:80],
        vendor=vendor[:40],
        acceptance_level=min(one.acceptance_level for one in packages.values()) if level is None else level,
        vibs=tuple(ProfileVib(vib) for vib in packages),
    )
    return ResolvedProfile(profile, packages)


def _package(record: Mapping[str, str], number: int) -> SoftwarePackage:
    name, version, vendor = (_word(record, key, number) for key in ("name", "version", "vendor"))
    try:
        parsed = SoftwareVersion.parse(version)
    except ValueError as error:
        raise FormatError(f"VIB {number} ({name}): {error}") from None
    try:
        level = AcceptanceLevel.parse(record.get("acceptancelevel", ""))
    except ValueError:
        # A word that no release has used yet, or no such column: a comparison goes by names and versions.
        level = AcceptanceLevel.COMMUNITY
    return SoftwarePackage(
        name=name,
        version_object=parsed,
        vendor=vendor,
        type=record.get("type") or _type(record.get("id", ""), vendor, name, version),
        acceptance_level=level,
    )


def _word(record: Mapping[str, str], key: str, number: int) -> str:
    value = record.get(key, "")
    if not value or not value.isprintable() or len(value) > 200:
        raise FormatError(f"VIB {number} of the list has no usable {key}: {value[:40]!r}")
    return value


def _type(vib: str, vendor: str, name: str, version: str) -> str:
    """``locker`` from ``VMware_locker_tools-light_…``, or "" if the id is not there or does not fit."""
    start, end = f"{vendor}_", f"_{name}_{version}"
    if vib.startswith(start) and vib.endswith(end):
        kind = vib[len(start) : len(vib) - len(end)]
        if kind.isalpha():
            return kind
    return ""


def _on_host(platforms: str) -> bool:
    names: Sequence[str] = [part.strip().lower() for part in platforms.split(",") if part.strip()]
    return not names or any(part in ("host", "n/a", "-") for part in names)
