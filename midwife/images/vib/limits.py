"""Limits of names in VIBs: what would be dangerous is refused, what merely breaks the schema is told.

A VIB's id and its payloads' names become names of files in the library, in bundles, on boot media.
Source: the descriptor's schema (payload names, 8.3 names, paths of 99 characters).
"""

import re
from collections.abc import Iterator

from midwife.images.objects.package import Payload, SoftwarePackage

__all__ = [
    "LONGEST_ID",
    "LONGEST_PATH",
    "PAYLOAD_TYPES",
    "VIB_TYPES",
    "broken_limits",
    "id_problem",
    "name_problem",
    "odd_in",
]

LONGEST_ID = 240
"""Bytes of an id in UTF-8: with ``.vib`` and a temporary ending it must be a file name (255)."""
LONGEST_PATH = 99
"""Characters of a path in the file list: what an old tar header holds."""
VIB_TYPES = frozenset({"bootbank", "locker", "meta"})
PAYLOAD_TYPES = frozenset(
    {
        "vgz", "tgz", "vzstd", "boot", "installer_vgz",
        "boot_com32_bios", "boot_iso_bios", "boot_pxe_bios", "boot_loader_efi", "eltorito_image_efi",
        "upgrade", "text",
    }
)  # fmt: skip

_PAYLOAD_NAME = re.compile(r"[0-9A-Za-z_.-]{1,15}")
_VFAT_NAME = re.compile(r"\S{1,8}\.\S{0,3}")


def id_problem(package: SoftwarePackage) -> str:
    """Why the package's id or name cannot be (part of) a file name; "" if it can."""
    for what, text in (("name", package.name), ("id", package.id)):
        if problem := name_problem(text):
            return f"the VIB's {what} {text[:80]!r}: {problem}"
    if len(package.id.encode(errors="replace")) > LONGEST_ID:
        return f"the VIB's id {package.id[:40]!r}… has more than {LONGEST_ID} bytes"
    return ""


def name_problem(name: str) -> str:
    """Why a name may not become that of a file; "" if it may."""
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        return "it would lead to another directory"
    if not name.isprintable():
        return "it has control characters"
    return ""


def odd_in(package: SoftwarePackage) -> Iterator[str]:
    """What one would not expect in a descriptor, in sentences: unknown types, and all of ``broken_limits``."""
    if package.type not in VIB_TYPES:
        yield f"{package.type!r} is no known type of VIB; it is treated like bootbank"
    for payload in package.payloads:
        if payload.type not in PAYLOAD_TYPES:
            yield f"payload {payload.name} is of the unknown type {payload.type!r}; it is kept as it is"
    yield from broken_limits(package)


def broken_limits(package: SoftwarePackage) -> Iterator[str]:
    """Where a package does not keep to the schema that ESXi checks, in sentences."""
    for payload in package.payloads:
        yield from _payload_limits(payload)
    too_long = [path for path in package.files if len(path) > LONGEST_PATH]
    if too_long:
        others = f" (and {len(too_long) - 1} more)" if len(too_long) > 1 else ""
        yield f"the path {too_long[0]}{others} has more than {LONGEST_PATH} characters, which ESXi refuses"


def _payload_limits(payload: Payload) -> Iterator[str]:
    if not _PAYLOAD_NAME.fullmatch(payload.name):
        yield (
            f"payload {payload.name}: ESXi wants names of at most 15 letters, digits, dots, dashes and underscores"
        )
    if payload.vfat_name is not None and not _VFAT_NAME.fullmatch(payload.vfat_name):
        yield f"payload {payload.name}: vfat-name {payload.vfat_name} is no 8.3 name"
