"""Bulletins in XML: notices about VIBs that belong together; with two elements more, components of ESXi 7.0.

Source: bulletins of real offline bundles of 5.0 to 8.0. ``vmware.xml`` holds the same elements, in vmwarexml.py.
"""

from lxml import etree

from midwife.images.depot.depot import Bulletin, ComponentSpec
from midwife.images.depot.formats.xmlform import (
    Element,
    add,
    add_platform,
    children,
    date,
    platforms,
    serialise,
    text,
    told_date,
)
from midwife.images.errors import FormatError
from midwife.images.xmlsafe import parse_xml

__all__ = ["add_bulletin_fields", "parse_bulletin", "write_bulletin"]


def parse_bulletin(data: bytes, what: str = "bulletin") -> Bulletin:
    """Only the id is needed; everything else may be missing. Raises FormatError."""
    root = parse_xml(data, what)
    if root.tag != "bulletin":
        raise FormatError(f"{what}: the root element is {root.tag}, not bulletin")
    bulletin_id = text(root, "id")
    if not bulletin_id:
        raise FormatError(f"{what}: the bulletin has no id")
    listed = next(children(root, "vibList"), None)
    plain = [(child.text or "").strip() for child in children(listed, "vibID")]
    nested = [text(child, "vibID") for child in children(listed, "vib")]
    return Bulletin(
        id=bulletin_id,
        vendor=text(root, "vendor"),
        summary=text(root, "summary"),
        severity=text(root, "severity") or "general",
        category=text(root, "category"),
        urgency=text(root, "urgency"),
        release_type=text(root, "releaseType"),
        description=text(root, "description"),
        kb_url=text(root, "kbUrl"),
        contact=text(root, "contact"),
        release_date=date(root, "releaseDate"),
        platforms=platforms(next(children(root, "platforms"), None)),
        vibs=tuple(dict.fromkeys(vib_id for vib_id in plain + nested if vib_id)),
        component_name=_spec(root, "componentNameSpec", "name"),
        component_version=_spec(root, "componentVersionSpec", "version"),
    )


def write_bulletin(bulletin: Bulletin) -> bytes:
    """One line, UTF-8. Raises FormatError for characters that XML cannot hold."""
    root = etree.Element("bulletin")
    add_bulletin_fields(root, bulletin)
    listed = add(root, "vibList")
    for vib_id in bulletin.vibs:
        add(listed, "vibID", vib_id)
    return serialise(root)


def add_bulletin_fields(root: Element, bulletin: Bulletin) -> None:
    """Everything but the list of VIBs."""
    add(root, "id", bulletin.id)
    add(root, "vendor", bulletin.vendor)
    add(root, "summary", bulletin.summary)
    add(root, "severity", bulletin.severity)
    add(root, "category", bulletin.category)
    add(root, "urgency", bulletin.urgency)
    add(root, "releaseType", bulletin.release_type)
    add(root, "description", bulletin.description)
    add(root, "kbUrl", bulletin.kb_url)
    add(root, "contact", bulletin.contact)
    if (name := bulletin.component_name) is not None:
        add(root, "componentNameSpec", name=name.value, uiString=name.ui)
    if (version := bulletin.component_version) is not None:
        add(root, "componentVersionSpec", version=version.value, uiString=version.ui)
    if bulletin.release_date is not None:
        add(root, "releaseDate", told_date(bulletin.release_date))
    supported = add(root, "platforms")
    for platform in bulletin.platforms:
        add_platform(supported, "softwarePlatform", platform)


def _spec(root: Element, tag: str, attribute: str) -> ComponentSpec | None:
    child = next(children(root, tag), None)
    if child is None or not (value := str(child.get(attribute) or "").strip()):
        return None
    return ComponentSpec(value, str(child.get("uiString") or "").strip())
