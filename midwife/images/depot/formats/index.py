"""``index.xml`` and ``vendor-index.xml``: which metadata zips a depot has; and where references lead to.

Source: real offline bundles and VMware's online depot. The resolving functions are pure: they know URLs and paths
inside zips, and open neither.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

from lxml import etree

from midwife.images.depot.formats.xmlform import add, children, serialise, text
from midwife.images.depot.formats.zips import member_name
from midwife.images.errors import FormatError
from midwife.images.xmlsafe import parse_xml

__all__ = [
    "MetadataRef",
    "VendorRef",
    "index_address",
    "parse_index",
    "parse_vendor_index",
    "resolve",
    "vendor_index_address",
    "write_index",
    "write_vendor_index",
]

_CONTENT = ("VMware ESX", "http://www.vmware.com/depotmanagement/esx")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


@dataclass(frozen=True, slots=True)
class VendorRef:
    """A vendor of ``index.xml``."""

    name: str = ""
    code: str = ""
    index_file: str = "vendor-index.xml"
    relative_path: str = ""
    patch_url: str = ""


@dataclass(frozen=True, slots=True)
class MetadataRef:
    """A metadata zip of ``vendor-index.xml``. Several of them, for other versions, may name the same one."""

    url: str
    product: str = "embeddedEsx"
    version: str = ""
    locale: str = ""
    channels: tuple[str, ...] = ("default",)


def parse_index(data: bytes, what: str = "index.xml") -> tuple[VendorRef, ...]:
    """The vendors, in order. Raises FormatError, also for an index without any vendor."""
    root = parse_xml(data, what)
    if root.tag != "vendorList":
        hint = (
            "; it is the index of one vendor: give the address of index.xml" if root.tag == "metaList" else ""
        )
        raise FormatError(f"{what}: the root element is {root.tag}, not vendorList{hint}")
    vendors = tuple(
        VendorRef(
            text(vendor, "name"),
            text(vendor, "code"),
            text(vendor, "indexfile") or "vendor-index.xml",
            text(vendor, "relativePath"),
            text(vendor, "patchUrl"),
        )
        for vendor in children(root, "vendor")
    )
    if not vendors:
        raise FormatError(f"{what} names no vendor, so the depot is empty")
    return vendors


def parse_vendor_index(data: bytes, what: str = "vendor-index.xml") -> tuple[MetadataRef, ...]:
    """The metadata zips, in order; entries without a url are left out. Raises FormatError."""
    root = parse_xml(data, what)
    if root.tag != "metaList":
        raise FormatError(f"{what}: the root element is {root.tag}, not metaList")
    return tuple(
        MetadataRef(
            url,
            text(entry, "productId"),
            text(entry, "version"),
            text(entry, "locale"),
            tuple((channel.text or "").strip() for channel in children(entry, "channelName")),
        )
        for entry in children(root, "metadata")
        if (url := text(entry, "url"))
    )


def write_index(vendors: Iterable[VendorRef]) -> bytes:
    """``index.xml``, indented as VMware's tools do."""
    root = etree.Element("vendorList")
    for ref in vendors:
        vendor = add(root, "vendor")
        add(vendor, "name", ref.name)
        add(vendor, "code", ref.code)
        add(vendor, "indexfile", ref.index_file)
        add(vendor, "patchUrl", ref.patch_url)
        add(vendor, "relativePath", ref.relative_path)
        content = add(vendor, "content")
        add(content, "name", _CONTENT[0])
        add(content, "type", _CONTENT[1])
    return serialise(root, pretty=True)


def write_vendor_index(refs: Iterable[MetadataRef]) -> bytes:
    """``vendor-index.xml``, indented as VMware's tools do."""
    root = etree.Element("metaList")
    for ref in refs:
        entry = add(root, "metadata")
        add(entry, "productId", ref.product)
        add(entry, "version", ref.version)
        add(entry, "locale", ref.locale)
        add(entry, "url", ref.url)
        for channel in ref.channels:
            add(entry, "channelName", channel)
    return serialise(root, pretty=True)


def index_address(url: str) -> str:
    """Of a depot's address: one that does not end in ``.xml`` gets ``/index.xml``. Raises FormatError."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise FormatError(f"this is no address of a depot: {error}") from None
    if parts.path.lower().endswith(".xml"):
        return url
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/index.xml"))


def vendor_index_address(index: str, vendor: VendorRef) -> str:
    """Where a vendor's index is: beside ``index``, below the relative path. Raises FormatError."""
    folder = vendor.relative_path.replace("\\", "/").rstrip("/")
    return resolve(index, f"{folder}/{vendor.index_file}" if folder else vendor.index_file)


def resolve(base: str, reference: str) -> str:
    """What ``reference`` in the document ``base`` leads to: a URL if ``base`` is one, else a path in the zip.

    In a zip a leading slash means its root. From a URL only http and https are followed; a query of ``base`` is
    not inherited. Raises FormatError for a reference that is empty, climbs out of the zip, or leaves its kind.
    """
    reference = reference.strip().replace("\\", "/")
    if not reference:
        raise FormatError(f"{base}: an empty reference to another file")
    scheme = _SCHEME.match(reference)
    online = "://" in base
    if scheme and (not online or scheme[1].lower() not in ("http", "https")):
        raise FormatError(f"{base}: the reference {reference[:200]} leads elsewhere and is not followed")
    if online:
        try:
            return urljoin(base, reference)
        except ValueError as error:
            raise FormatError(f"{base}: the reference {reference[:200]} is no address: {error}") from None
    folder = "" if reference.startswith("/") else base.rpartition("/")[0]
    found = member_name(f"{folder}/{reference}")
    if found is None:
        raise FormatError(f"{base}: the reference {reference[:200]} leads out of the zip")
    return found
