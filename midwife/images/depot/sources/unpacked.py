"""Which file of a folder is the index of a depot: of an unpacked bundle, or of a mirror of an online depot.

VMware calls the index ``index.xml`` in bundles, and otherwise on its servers; so what an XML file says counts, not
what it is called. Looks at folders and at the beginnings of documents; reads no metadata.
"""

from pathlib import Path

from midwife.images.depot.formats.zips import SMALL
from midwife.images.depot.sources.folder import open_by_path
from midwife.images.errors import FormatError, ImageError
from midwife.images.xmlsafe import parse_xml

__all__ = ["unpacked_index"]

_INDEX = "index.xml"
_VENDOR_INDEX = "vendor-index.xml"
_MOST_XML = 50
"""XML files beside each other that are looked at."""
_DEEPEST = 2
"""Folders around the depot's own, if there is nothing else in them: unzip makes one, people make another."""


def unpacked_index(path: Path) -> Path | None:
    """The index of the depot that a folder is, or ``path`` itself if it is an index; None if it is none.

    Raises ImageError for what cannot be read.
    """
    try:
        if not path.is_dir():
            return path if _is_index(path) else None
        for _ in range(_DEEPEST + 1):
            entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
            if found := _of(entries):
                return found
            folders = [entry for entry in entries if entry.is_dir() and entry.name != "__MACOSX"]
            vibs = any(entry.suffix.lower() == ".vib" for entry in entries)
            if len(folders) != 1 or folders[0].is_symlink() or vibs:
                return None
            path = folders[0]
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from None
    return None


def _of(entries: list[Path]) -> Path | None:
    """By its name first; an ``index.xml`` that is damaged is one too, so that somebody is told."""
    documents = [entry for entry in entries if entry.suffix.lower() == ".xml" and entry.is_file()]
    names = {entry.name.lower(): entry for entry in documents}
    index = names.get(_INDEX)
    if index is not None and _root(index) in ("vendorList", ""):
        return index
    for entry in documents[:_MOST_XML]:
        if _root(entry) == "vendorList":
            return entry
    vendor = names.get(_VENDOR_INDEX)
    metadata = any(entry.name.lower() == "vibs" and any(entry.glob("*.xml")) for entry in entries)
    return vendor if vendor is not None and not metadata and _is_index(vendor) else None


def _is_index(document: Path) -> bool:
    root = _root(document)
    return root == "vendorList" or (root == "metaList" and document.name.lower() == _VENDOR_INDEX)


def _root(document: Path) -> str:
    """Its first element; "" for what is no readable XML."""
    try:
        if document.stat().st_size > SMALL:
            return ""
        file = open_by_path(document)
        head = file.read(64)
        if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
            return ""
        return str(parse_xml(head + file.read(), str(document)).tag)
    except FormatError:
        return ""
