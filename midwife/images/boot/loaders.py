"""Boot loaders that no image brings: PXELINUX and iPXE, from the site's ``loaders/`` or from packages.

midwife ships no loader (they are under the GPL). Where the packages of Debian and Ubuntu, Fedora and RHEL,
openSUSE and Arch put their files is written down here. ESXi's own loaders come from images (library.py).
"""

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["DISTRIBUTED", "find", "missing", "old_pxelinux_warning", "pxelinux_version"]

_SYSLINUX = (
    "/usr/lib/PXELINUX",  # Debian, Ubuntu: pxelinux
    "/usr/lib/syslinux/modules/bios",  # Debian, Ubuntu: syslinux-common
    "/usr/share/syslinux",  # Fedora, RHEL: syslinux-nonlinux, syslinux-tftpboot; openSUSE, Alpine: syslinux
    "/usr/lib/syslinux/bios",  # Arch: syslinux
)
_IPXE = (
    "/usr/lib/ipxe",  # Debian, Ubuntu
    "/usr/share/ipxe",  # Fedora, RHEL, openSUSE: ipxe-bootimgs (Fedora: -x86)
    "/usr/share/ipxe/x86_64",  # Arch, which has no undionly.kpxe
)

DISTRIBUTED: Mapping[str, tuple[str, ...]] = {
    "pxelinux.0": ("pxelinux.0",),
    "lpxelinux.0": ("lpxelinux.0",),
    "ldlinux.c32": ("ldlinux.c32",),
    "libcom32.c32": ("libcom32.c32",),
    "libutil.c32": ("libutil.c32",),
    "menu.c32": ("menu.c32",),
    "vesamenu.c32": ("vesamenu.c32",),
    "chain.c32": ("chain.c32",),
    "pxechn.c32": ("pxechn.c32",),
    "undionly.kpxe": ("undionly.kpxe",),
    "ipxe.pxe": ("ipxe.pxe",),
    "snponly.efi": ("snponly.efi", "ipxe-snponly-x86_64.efi"),
    "ipxe.efi": ("ipxe.efi", "ipxe-x86_64.efi"),
    "ipxe.lkrn": ("ipxe.lkrn",),
}
"""Name on the boot plane, and what packages call the file. No mboot.c32: syslinux has one, but it is another
program and knows no boot.cfg."""

_VERSION = re.compile(rb"PXELINUX (\d{1,2})\.(\d{1,3})")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_MBOOT_C32_NEEDS = (3, 86)


def find(name: str, site: Path | None = None, system: Path = Path("/")) -> Path | None:
    """The file to serve under this name, or None.

    First ``<site>/loaders/<name>``, whatever the name (a symbolic link out of ``loaders/`` does not count),
    then the packages, for the names in ``DISTRIBUTED``. ``system`` is where the system's root is mounted.
    """
    if not _PLAIN.fullmatch(name):
        return None
    if site is not None and (own := _inside(site / "loaders", name)):
        return own
    folders = _IPXE if _is_ipxe(name) else _SYSLINUX
    for folder in folders:
        for file in DISTRIBUTED.get(name, ()):
            path = system / folder.lstrip("/") / file
            if path.is_file():
                # Debian's ipxe.lkrn is a link into /boot, and no link is followed when a file is served.
                return path.resolve()
    return None


def missing(name: str) -> str:
    """What to install, or to put where, so that ``find`` finds it: a sentence for the log and `check`."""
    bring = f"or put the file into the site as loaders/{name}"
    if name not in DISTRIBUTED:
        return f"{name}: no package is known to have it; import an image that brings it, {bring}"
    if _is_ipxe(name):
        where = "ipxe (Debian, Ubuntu, Arch) or ipxe-bootimgs (Fedora: ipxe-bootimgs-x86; RHEL, openSUSE)"
    elif name in ("pxelinux.0", "lpxelinux.0"):
        where = "pxelinux (Debian, Ubuntu), syslinux-nonlinux (Fedora, RHEL) or syslinux (openSUSE, Arch)"
    else:
        where = (
            "syslinux-common (Debian, Ubuntu), syslinux-nonlinux (Fedora, RHEL) or syslinux (openSUSE, Arch)"
        )
    return f"{name} is not on this machine: install {where}, {bring}"


def pxelinux_version(path: Path) -> tuple[int, int] | None:
    """``(6, 4)`` out of the text in the binary; None if it is no PXELINUX or cannot be read."""
    try:
        with path.open("rb") as binary:
            match = _VERSION.search(binary.read(1 << 20))
    except OSError:
        return None
    return (int(match[1]), int(match[2])) if match else None


def old_pxelinux_warning(path: Path) -> str | None:
    """Why this PXELINUX cannot boot ESXi on BIOS machines, or None if it can (or is not recognised).

    ESXi's mboot.c32 is a COM32R program: PXELINUX 3.86 loads it, 6.04 says "Failed to load COM32 file"
    (both observed).
    """
    version = pxelinux_version(path)
    if version is None or version <= _MBOOT_C32_NEEDS:
        return None
    return (
        f"{path} is PXELINUX {version[0]}.{version[1]:02d}, which cannot load ESXi's mboot.c32; BIOS "
        "machines need the pxelinux.0 of syslinux 3.86: put it into the site as loaders/pxelinux.0"
    )


def _is_ipxe(name: str) -> bool:
    return name.endswith((".kpxe", ".pxe", ".efi", ".lkrn"))


def _inside(folder: Path, name: str) -> Path | None:
    try:
        path = (folder / name).resolve(strict=True)
        return path if path.is_file() and path.is_relative_to(folder.resolve()) else None
    except (OSError, RuntimeError):
        return None
