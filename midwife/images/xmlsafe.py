"""Reading XML that comes from strangers: descriptors, profiles, bulletins, depot indexes.

No entities, no DTD, no network, a limit on bytes, elements and depth. It knows no vocabulary: whoever asks
looks at the elements.
"""

import re

from lxml import etree

from midwife.images.errors import FormatError

__all__ = ["MAX_ELEMENTS", "MAX_XML", "parse_xml"]

MAX_XML = 8 << 20
"""Bytes. The largest descriptor known (5,000 files) has less than one MiB."""

MAX_ELEMENTS = 200_000
"""Tags and attributes: libxml2 takes up to 400 bytes for each, so a tree stays under 80 MiB."""


def parse_xml(data: bytes, what: str, limit: int = MAX_XML) -> etree._Element:
    """The root element; comments and processing instructions are left out. Raises FormatError.

    ``what`` names the document in messages; ``limit``: bytes at most. libxml2 itself refuses elements deeper
    than 256 and texts over 10 MB.
    """
    if len(data) > limit:
        raise FormatError(f"{what}: {len(data):,} bytes of XML, {limit:,} at most are read")
    if data.count(b"<") + data.count(b"=") > MAX_ELEMENTS:
        raise FormatError(f"{what}: more than {MAX_ELEMENTS:,} elements and attributes")
    # Before the parser sees it: entities in attributes are expanded as they are read.
    if b"<!DOCTYPE" in data:
        raise FormatError(f"{what}: has a document type (DTD), which is never read; remove it")
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data.lstrip(), parser)
    except (etree.LxmlError, ValueError, LookupError) as error:
        raise FormatError(f"{what}: not readable as XML: {_told(error)}") from None
    if (
        root.getroottree().docinfo.internalDTD is not None
    ):  # in another encoding than those that look like ASCII
        raise FormatError(f"{what}: has a document type (DTD), which is never read; remove it")
    return root


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return re.sub(r" \(<string>, line [0-9]+\)$", "", text) or "the parser does not say why"
