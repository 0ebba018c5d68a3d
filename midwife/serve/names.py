"""Names on the boot plane: what a client may ask for, taken apart. Pure; touches no file.

A name is cleaned first (loaders ask ``esx/b.b00``, ``/esx/b.b00``, ``\\\\esx\\\\b.b00``), refused if it tries to
leave the tree, and then sorted into one of a few forms (docs/explain/architecture.md lists them).
"""

import ipaddress
import re
from dataclasses import dataclass

from midwife.wire.identity import InvalidIdentity, parse_mac, parse_uuid, swap_uuid

__all__ = ["BadName", "BootCfgName", "PxelinuxName", "clean", "parse_bootcfg", "parse_pxelinux"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadName(ValueError):
    """The name cannot be one of ours; the text says why."""


def clean(name: str) -> str:
    """Without leading or double slashes, backslashes turned (UEFI firmware of some vendors uses them).

    Raises BadName for zero bytes, control characters and ``..`` components.
    """
    if _CONTROL.search(name):
        raise BadName("control characters in the name")
    plain = "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    if ".." in plain.split("/"):
        raise BadName("'..' would leave the served tree")
    return plain


@dataclass(frozen=True, slots=True)
class PxelinuxName:
    """A file below ``pxelinux.cfg/``; at most one field is set, none for ``default``."""

    mac: str = ""
    uuids: tuple[str, ...] = ()
    """Both byte orders: PXELINUX asks in wire order (seen with 6.04 and 3.86)."""
    ipv4: str = ""
    """Only from a whole address; a shorter prefix names a network, not a machine."""
    prefix: bool = False


def parse_pxelinux(name: str) -> PxelinuxName | None:
    """What ``pxelinux.cfg/<rest>`` asks for (PXELINUX's search order), None if it is no such name."""
    _, found, rest = f"/{name}".rpartition("/pxelinux.cfg/")
    if not found:
        return None
    if rest == "default":
        return PxelinuxName()
    if re.fullmatch(r"[0-9A-Fa-f]{1,8}", rest):
        if len(rest) == 8:
            return PxelinuxName(ipv4=str(ipaddress.IPv4Address(int(rest, 16))))
        return PxelinuxName(prefix=True)
    try:
        if rest.lower().startswith("01-"):
            return PxelinuxName(mac=parse_mac(rest))
        if uuid := parse_uuid(rest):
            return PxelinuxName(uuids=(uuid, swap_uuid(uuid)))
    except InvalidIdentity:
        return None
    return PxelinuxName(prefix=True)  # a vendor's dummy UUID: the MAC address comes next


@dataclass(frozen=True, slots=True)
class BootCfgName:
    """A boot.cfg as mboot looks for it: ``<dir>/01-<mac>/boot.cfg``, then ``<dir>/boot.cfg``."""

    mac: str = ""


def parse_bootcfg(name: str) -> BootCfgName | None:
    """Whose boot.cfg, None if the name is none."""
    *folders, last = name.split("/")
    if last.lower() != "boot.cfg":
        return None
    if folders and folders[-1].lower().startswith("01-"):
        try:
            return BootCfgName(parse_mac(folders[-1]))
        except InvalidIdentity:
            return None
    return BootCfgName()
