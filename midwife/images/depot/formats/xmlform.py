"""Small helps for the XML of depots: texts of children, dates, booleans, and writing without surprises.

Same input, same bytes; no XML declaration, as VMware's tools write it. Knows no vocabulary.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from lxml import etree

from midwife.images.errors import FormatError
from midwife.images.objects.package import SoftwarePlatform
from midwife.images.vib.descriptor import parse_date

__all__ = [
    "Element",
    "add",
    "add_platform",
    "children",
    "date",
    "platforms",
    "serialise",
    "text",
    "told_date",
    "truth",
]

Element = etree._Element


def children(parent: Element | None, tag: str) -> Iterator[Element]:
    """Those of that name; none of None."""
    return iter(()) if parent is None else parent.iterchildren(tag)


def text(parent: Element | None, tag: str) -> str:
    """Of the first child of that name, without blanks around it; "" if there is none."""
    child = next(children(parent, tag), None)
    return "" if child is None else (child.text or "").strip()


def date(parent: Element, tag: str) -> datetime | None:
    """In UTC; None if there is none, or one that nobody can read: nothing depends on it."""
    try:
        return parse_date(found, tag) if (found := text(parent, tag)) else None
    except FormatError:
        return None


def truth(parent: Element, tag: str, default: bool) -> bool:
    """``true``, ``false``, ``1``, ``0`` in any case; anything else is the default."""
    return {"true": True, "1": True, "false": False, "0": False}.get(text(parent, tag).lower(), default)


def platforms(parent: Element | None) -> tuple[SoftwarePlatform, ...]:
    """The ``softwarePlatform`` children; a product that is not named is ESXi."""
    return tuple(
        SoftwarePlatform(
            str(child.get("productLineID") or "embeddedEsx"),
            str(child.get("version") or ""),
            str(child.get("locale") or ""),
        )
        for child in children(parent, "softwarePlatform")
    )


def add(parent: Element, tag: str, value: str | None = None, **attributes: str) -> Element:
    """A new last child. Raises FormatError for characters that XML cannot hold."""
    try:
        child = etree.SubElement(parent, tag, attributes)
        if value:
            child.text = value
    except ValueError:
        shown = ascii(value if value else " ".join(attributes.values()))[:80]
        raise FormatError(f"{tag}: {shown} has characters that XML cannot hold; change that text") from None
    return child


def add_platform(parent: Element, tag: str, platform: SoftwarePlatform) -> None:
    """``softwarePlatform``, or ``swPlatform`` as it is called in vmware.xml."""
    add(parent, tag, version=platform.version, locale=platform.locale, productLineID=platform.product)


def told_date(when: datetime) -> str:
    """With ``+00:00``; a date without a zone is UTC."""
    return (when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)).isoformat()


def serialise(root: Element, *, pretty: bool = False) -> bytes:
    """UTF-8, on one line unless ``pretty``."""
    if pretty:
        etree.indent(root)
    return etree.tostring(root, encoding="utf-8", xml_declaration=False) + (b"\n" if pretty else b"")
