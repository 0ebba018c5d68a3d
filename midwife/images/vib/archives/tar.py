"""Ordinary tar, the archive inside tgz payloads: GNU, ustar or pax, read as a stream.

The standard library's reader holds names of any announced size in memory, so this one reads headers itself.
Source: POSIX ustar and pax, GNU tar's long names. Sparse files are refused: no tool puts them into VIBs.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from midwife.images.errors import FormatError
from midwife.images.vib.archives.bytestream import ByteStream
from midwife.images.vib.archives.tarhead import BLOCK_SIZE, TarEntry, parse_header, text

__all__ = ["read_tar"]

_MAX_ENTRIES = 100_000
_MAX_EXTENSION = 1 << 16  # bytes of a long name or a pax header; PATH_MAX is 4096
_PAX = re.compile(rb"([0-9]{1,6}) ([^=]+)=")


def read_tar(chunks: Iterable[bytes], what: str) -> Iterator[tuple[TarEntry, Iterator[bytes]]]:
    """Every entry with its content (nothing for whatever is no file), in the archive's order.

    Read a content before asking for the next entry; what is not read of it is left out. What follows the end
    mark is not read. Raises FormatError, which names ``what``.
    """
    stream = ByteStream(chunks, what)
    extended: dict[str, str] = {}
    number = 0
    while (block := stream.peek(BLOCK_SIZE)) and block.strip(b"\0"):
        stream.take(BLOCK_SIZE)
        number += 1
        if number > _MAX_ENTRIES:
            raise FormatError(f"{what}: more than {_MAX_ENTRIES:,} entries")
        entry = parse_header(block, f"{what}: entry {number}")
        if entry.kind in "KLxg":
            extended.update(_extension(stream, entry))
            continue
        if entry.kind == "S":
            raise FormatError(f"{what}: {entry.name!r} is a sparse file, which no VIB has")
        entry = _extended(entry, extended, what)
        extended = {}
        end = stream.position + entry.size + -entry.size % BLOCK_SIZE
        yield entry, stream.pieces(entry.size if entry.is_file else 0)
        left = end - stream.position
        # The last block of the last file may lack its padding.
        padding = min(left, -entry.size % BLOCK_SIZE)
        stream.skip(left - padding)
        if len(stream.peek(padding)) < padding:
            return
        stream.skip(padding)


def _extension(stream: ByteStream, entry: TarEntry) -> dict[str, str]:
    """What a GNU or pax header says of the next entry; a global pax header says nothing that matters."""
    if entry.size > _MAX_EXTENSION:
        raise FormatError(
            f"{stream.what}: a header of {entry.size:,} bytes; {_MAX_EXTENSION:,} at most are read"
        )
    data = stream.take(entry.size + -entry.size % BLOCK_SIZE)[: entry.size]
    if entry.kind == "L":
        return {"path": text(data)}
    if entry.kind == "K":
        return {"linkpath": text(data)}
    return _pax(data, stream.what) if entry.kind == "x" else {}


def _pax(data: bytes, what: str) -> dict[str, str]:
    """Records ``LENGTH KEY=VALUE\\n``; LENGTH is of the whole record."""
    found = {}
    at = 0
    while at < len(data):
        match = _PAX.match(data, at)
        length = int(match[1]) if match else 0
        if not match or length <= match.end() - at or at + length > len(data):
            raise FormatError(f"{what}: a damaged pax header")
        found[match[2].decode("utf-8", "replace")] = text(data[match.end() : at + length - 1])
        at += length
    return found


def _extended(entry: TarEntry, extended: dict[str, str], what: str) -> TarEntry:
    size = extended.get("size", "")
    if size and not re.fullmatch(r"[0-9]{1,10}", size):
        raise FormatError(f"{what}: {entry.name!r}: the size {size!r} is not a number")
    return replace(
        entry,
        name=extended.get("path", entry.name).rstrip("/"),
        link=extended.get("linkpath", entry.link),
        size=int(size) if size and entry.is_file else entry.size,
    )
