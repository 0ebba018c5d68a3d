"""What makes an installer ISO start: El Torito entries for BIOS and UEFI, ``isolinux.cfg``; and its dates pinned.

Source: El Torito 1.0, ECMA-119, UEFI 13.3.2, and the layout of ESXi's own ISOs. Knows no image profile.
"""

import os
import struct
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from pycdlib.pycdlib import PyCdlib

from midwife.images.errors import ProfileError

__all__ = [
    "BIOS_IMAGE",
    "EFI_IMAGE",
    "add_boot_entries",
    "boot_warnings",
    "iso_path",
    "isolinux_cfg",
    "pin_dates",
]

BIOS_IMAGE = "isolinux.bin"
EFI_IMAGE = "efiboot.img"
_NEEDS = {
    "BIOS": (BIOS_IMAGE, "mboot.c32"),
    "UEFI": (EFI_IMAGE, "efi/boot/bootx64.efi"),
    "UEFI on Arm": (EFI_IMAGE, "efi/boot/bootaa64.efi"),
}
_EFI_PLATFORM = 0xEF
_SECTOR = 2048
_MOST_SECTORS = 0xFFFF  # of 512 bytes; UEFI takes 1 for "up to the end of the medium"


def boot_warnings(paths: Collection[str], name: str) -> tuple[str, ...]:
    """Which firmware cannot start a medium with these files. Raises ProfileError if none can."""
    able = [firmware for firmware, needed in _NEEDS.items() if set(needed) <= set(paths)]
    if not able:
        lacking = ", ".join(sorted({file for needed in _NEEDS.values() for file in needed} - set(paths)))
        raise ProfileError(
            f"image profile {name!r} brings no boot loader for an ISO ({lacking}): give an installer ISO of the "
            "same or a newer release to take the loaders from (--source-iso)"
        )
    if "UEFI on Arm" in able:
        return ()
    return tuple(
        f"the ISO does not start on {firmware} machines: {', '.join(sorted(set(needed) - set(paths)))} is in no "
        "VIB of the profile (--source-iso takes it from an installer ISO)"
        for firmware, needed in _NEEDS.items()
        if firmware not in able and firmware != "UEFI on Arm"
    )


def isolinux_cfg(paths: Collection[str]) -> bytes:
    """The menu for BIOS machines: ESXi's mboot with the medium's boot.cfg, or the local disk."""
    menu = "menu.c32" in paths
    lines = [
        f"DEFAULT {'menu.c32' if menu else 'install'}",
        *(["MENU TITLE ESXi boot menu"] if menu else []),
        "NOHALT 1",  # a halted processor was slow to wake in some virtual machines: ESXi's own file has it too
        "PROMPT 0",
        "TIMEOUT 80",
        "LABEL install",
        "  KERNEL mboot.c32",
        "  APPEND -c boot.cfg",
        *(["  MENU LABEL ESXi Installer"] if menu else []),
        "LABEL hddboot",
        "  LOCALBOOT 0x80",
        *(["  MENU LABEL ^Boot from local disk"] if menu else []),
    ]
    return ("\n".join(lines) + "\n").encode()


def iso_path(path: str) -> str:
    """``efi/boot/bootx64.efi`` as ISO 9660 has it: upper case, with a version."""
    last = path.rpartition("/")[2]
    return f"/{path.upper()}{'' if '.' in last else '.'};1"


def add_boot_entries(iso: PyCdlib, sizes: dict[str, int]) -> None:
    """El Torito entries for the images that are there: BIOS first (no emulation, boot information table), then
    UEFI. ``sizes``: bytes by path.
    """
    catalog = "/BOOT.CAT;1"
    if BIOS_IMAGE in sizes:
        iso.add_eltorito(iso_path(BIOS_IMAGE), bootcatfile=catalog, boot_load_size=4, boot_info_table=True)
    if EFI_IMAGE in sizes:
        sectors = -(-sizes[EFI_IMAGE] // 512)
        iso.add_eltorito(
            iso_path(EFI_IMAGE),
            bootcatfile=None if BIOS_IMAGE in sizes else catalog,
            boot_load_size=sectors if sectors <= _MOST_SECTORS else 1,
            platform_id=_EFI_PLATFORM,
            efi=True,
        )


def pin_dates(file: BinaryIO, moment: datetime) -> None:
    """Give every directory record and volume descriptor of a written ISO 9660 image the same date.

    pycdlib takes the clock's time for each of them, and two exports of one profile would differ.
    """
    utc = moment.astimezone(UTC)
    year = min(max(utc.year, 1970), 2155)
    recorded = bytes((year - 1900, utc.month, utc.day, utc.hour, utc.minute, utc.second, 0))  # ECMA-119 9.1.5
    text = f"{year:04}{utc:%m%d%H%M%S}00".encode() + b"\0"  # ECMA-119 8.4.26.1
    never = b"0" * 16 + b"\0"
    block = 16
    while (descriptor := _read(file, block * _SECTOR, _SECTOR))[0] != 255:
        if descriptor[0] in (1, 2):  # primary, supplementary or enhanced
            _write(file, block * _SECTOR + 174, recorded)  # the root's record, at 156
            _write(file, block * _SECTOR + 813, text + text + never + text)
            extent, length = struct.unpack_from("<I4xI", descriptor, 158)
            for place in _records(file, extent, length):
                _write(file, place + 18, recorded)
        block += 1


def _records(file: BinaryIO, extent: int, length: int, depth: int = 0) -> Iterator[int]:
    """Places of all directory records below a directory."""
    data = _read(file, extent * _SECTOR, length)
    at = 0
    while at < length:
        if not data[at]:  # a record never crosses the end of a sector; the rest of it is zeros
            at = (at // _SECTOR + 1) * _SECTOR
            continue
        yield extent * _SECTOR + at
        child, size = struct.unpack_from("<I4xI", data, at + 2)
        is_directory, is_itself = data[at + 25] & 2, data[at + 33 : at + 34] in (b"\0", b"\1")
        if is_directory and not is_itself and depth < 8:
            yield from _records(file, child, size, depth + 1)
        at += data[at]


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _write(file: BinaryIO, at: int, data: bytes) -> None:
    file.seek(at, os.SEEK_SET)
    file.write(data)
