"""Image profiles in XML, as depots and image databases keep them.

Source: the profile of ESXi 6.7.0 GA. ``creator`` is what PowerCLI shows as Vendor; there is no element for the
author. Knows nothing of where the VIBs are.
"""

import re

from lxml import etree

from midwife.images.depot.formats.xmlform import add, children, date, serialise, text, told_date, truth
from midwife.images.errors import FormatError, ProfileError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.images.xmlsafe import parse_xml

__all__ = ["parse_profile", "write_profile"]

_UNCHECKED = "midwife: no signature check"
"""A comment: every other reader skips comments, so nobody stumbles over it, and we don't forget."""
_UNCHECKED_BYTES = f"<!--{_UNCHECKED}-->".encode()
_SERIAL = re.compile(r"[0-9]{1,9}")
_NO_VENDOR = "unknown"


def parse_profile(data: bytes, what: str = "image profile") -> ImageProfile:
    """VIBs sorted by id. The author is the creator, an unnamed creator "unknown". Raises FormatError.

    Missing or unreadable dates are None, a missing level is partner (ESXi's default for a new profile).
    """
    root = parse_xml(data, what)
    if root.tag != "imageprofile":
        raise FormatError(
            f"{what}: the root element is {root.tag}, not imageprofile: this is no image profile"
        )
    vibs: dict[str, ProfileVib] = {}
    for entry in children(next(children(root, "viblist"), None), "vib"):
        vib_id = text(entry, "vib-id")
        if not vib_id:
            raise FormatError(f"{what}: an entry of its viblist has no vib-id")
        payloads = {
            name: file
            for child in children(next(children(entry, "payloads"), None), "payload")
            if (name := str(child.get("payload-name") or "").strip()) and (file := (child.text or "").strip())
        }
        vibs[vib_id] = ProfileVib(vib_id, truth(entry, "boot", True), payloads)
    level = text(root, "acceptancelevel")
    serial = text(root, "serialno")
    creator = text(root, "creator") or _NO_VENDOR
    try:
        return ImageProfile(
            name=text(root, "name"),
            vendor=creator,
            author=creator,
            description=text(root, "description"),
            guid=text(root, "profileID"),
            acceptance_level=AcceptanceLevel.parse(level) if level else AcceptanceLevel.PARTNER,
            creation_time=date(root, "creationtime"),
            modified_time=date(root, "modifiedtime"),
            read_only=truth(root, "readonly", False),
            serial=int(serial) if _SERIAL.fullmatch(serial) else 0,
            vibs=tuple(vibs[vib_id] for vib_id in sorted(vibs)),
            signature_check=_UNCHECKED_BYTES not in data,
        )
    except (ProfileError, ValueError) as error:
        raise FormatError(f"{what}: {error}") from None


def write_profile(profile: ImageProfile, *, payloads: bool = False) -> bytes:
    """One line, UTF-8. ``payloads``: with file names on boot media, as image databases have them.

    The author and the rules have no place in it (rules are worked out from the VIBs). Raises FormatError for
    characters that XML cannot hold.
    """
    root = etree.Element("imageprofile")
    add(root, "name", profile.name)
    add(root, "creator", profile.vendor)
    add(root, "profileID", profile.guid)
    if profile.creation_time is not None:
        add(root, "creationtime", told_date(profile.creation_time))
    if profile.modified_time is not None:
        add(root, "modifiedtime", told_date(profile.modified_time))
    add(root, "serialno", str(profile.serial))
    if profile.description:
        add(root, "description", profile.description)
    add(root, "readonly", "true" if profile.read_only else "false")
    listed = add(root, "viblist")
    for vib in sorted(profile.vibs, key=lambda vib: vib.id):
        entry = add(listed, "vib")
        add(entry, "vib-id", vib.id)
        if not vib.boot:
            add(entry, "boot", "false")
        if payloads and vib.payloads:
            names = add(entry, "payloads")
            for name, file in vib.payloads.items():
                add(names, "payload", file, **{"payload-name": name})
    add(root, "acceptancelevel", str(profile.acceptance_level))
    if not profile.signature_check:
        root.append(etree.Comment(_UNCHECKED))
    return serialise(root)
