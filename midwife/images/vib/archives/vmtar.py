"""vmtar, the archive inside vgz and vzstd payloads: all headers first, then the contents at absolute offsets.

Read as a stream: the headers are kept, the contents pass in the order of their offsets, whatever the archive's
size. Source: the archives of real VIBs of 2012 to 2022; the third-party description of the header.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

from midwife.images.errors import FormatError
from midwife.images.vib.archives.bytestream import ByteStream
from midwife.images.vib.archives.tarhead import (
    BLOCK_SIZE,
    DIRECTORY,
    FILE,
    SHARED,
    SYMLINK,
    TarEntry,
    parse_header,
    text,
)

__all__ = ["MAX_ENTRIES", "VmtarReader", "is_vmtar", "write_vmtar"]

MAX_ENTRIES = 100_000
"""Entries are kept in memory; the fullest archive of ESXi has some 10,000."""

_MAGIC = b"visor "
_OFFSETS = struct.Struct("<4I")  # content, program text, size of the text, fix-up pages
_LONG = {"K": "link", "L": "name"}
_WRITTEN = frozenset({FILE, SHARED, DIRECTORY, SYMLINK})


def is_vmtar(block: bytes) -> bool:
    """Whether an archive that begins with these 512 bytes is a vmtar (and no ordinary tar)."""
    return block[257:263] == _MAGIC


class VmtarReader:
    """``entries`` in the archive's order; reading them takes the headers from ``chunks`` and nothing more."""

    def __init__(self, chunks: Iterable[bytes], what: str) -> None:
        """Raises FormatError, which names ``what``; and whatever ``chunks`` raise."""
        self._stream = ByteStream(chunks, what)
        self.entries: tuple[TarEntry, ...] = tuple(_headers(self._stream))

    def contents(self) -> Iterator[tuple[tuple[TarEntry, ...], Iterator[bytes]]]:
        """Every file's content, once, in the order of the stream; entries that share one come together.

        Read a content before asking for the next one; what is not read of it is left out. Raises FormatError
        for contents that overlap or lie outside the archive.
        """
        stream = self._stream
        for offset, size, entries in _places(self.entries):
            if size and offset < stream.position:
                raise FormatError(
                    f"{stream.what}: the content of {entries[0].name!r} lies over headers or other contents"
                )
            if size:
                stream.skip(offset - stream.position)
            end = stream.position + size
            yield entries, stream.pieces(size)
            stream.skip(end - stream.position)


def _headers(stream: ByteStream) -> Iterator[TarEntry]:
    long: dict[str, str] = {}
    number = 0
    while (block := stream.peek(BLOCK_SIZE)) and block[0]:
        stream.take(BLOCK_SIZE)
        number += 1
        where = f"{stream.what}: entry {number}"
        if number > MAX_ENTRIES:
            raise FormatError(f"{stream.what}: more than {MAX_ENTRIES:,} entries")
        if not is_vmtar(block):
            raise FormatError(f"{where}: no vmtar header where one should be")
        entry = parse_header(block, where)
        if entry.kind in _LONG:
            if entry.size > BLOCK_SIZE:
                raise FormatError(f"{where}: a name of {entry.size:,} bytes; {BLOCK_SIZE} at most are read")
            long[_LONG[entry.kind]] = text(stream.take(BLOCK_SIZE)[: entry.size])
            continue
        offset, *code = _OFFSETS.unpack(block[496:])
        name = long.get("name", entry.name)
        yield replace(
            entry,
            name=name.rstrip("/"),
            link=long.get("link", entry.link),
            offset=offset,
            code=(code[0], code[1], code[2]),
        )
        long = {}
    if number:
        stream.take(BLOCK_SIZE)  # the empty header that ends the list


def _places(entries: Iterable[TarEntry]) -> list[tuple[int, int, tuple[TarEntry, ...]]]:
    """(offset, size, entries) in the order of the stream; what has no content is first."""
    places: dict[tuple[int, int], list[TarEntry]] = {}
    for entry in entries:
        if entry.is_file:
            places.setdefault((entry.offset if entry.size else 0, entry.size), []).append(entry)
    return [(offset, size, tuple(there)) for (offset, size), there in sorted(places.items())]


def write_vmtar(
    out: BinaryIO,
    entries: Sequence[TarEntry],
    content: Callable[[TarEntry], Iterable[bytes]],
    *,
    align: int = 4096,
) -> int:
    """Writes an archive in the order given and returns its bytes. ``content`` is asked once for each file.

    ``offset`` of the entries is not looked at; contents are aligned to ``align`` bytes (ESXi maps programs by
    pages of 4096). Files, shared files, directories and symbolic links only, names of 99 bytes at most.
    Raises FormatError for other entries, or a content that does not have its entry's size; OSError of ``out``.
    """
    placed = list(_placed(entries, align))
    for entry in placed:
        out.write(_header(entry))
    out.write(bytes(BLOCK_SIZE))
    position = BLOCK_SIZE * (len(placed) + 1)
    for entry in placed:
        if entry.is_file and entry.size:
            out.write(bytes(entry.offset - position))
            position = entry.offset
            for chunk in content(entry):
                out.write(chunk)
                position += len(chunk)
            if position - entry.offset != entry.size:
                raise FormatError(
                    f"{entry.name!r}: its content does not have the {entry.size:,} bytes announced"
                )
    return position


def _placed(entries: Sequence[TarEntry], align: int) -> Iterator[TarEntry]:
    end = BLOCK_SIZE * (len(entries) + 1)
    for entry in entries:
        if entry.kind not in _WRITTEN:
            raise FormatError(f"{entry.name!r}: an entry of type {entry.kind!r} is never written into a VIB")
        has_content = entry.is_file and entry.size > 0
        offset = -(-end // align) * align if has_content else 0
        if has_content:
            end = offset + entry.size
        if end >= 1 << 32:
            raise FormatError(
                f"{entry.name!r}: the archive becomes larger than 4 GiB, which vmtar cannot say"
            )
        yield replace(entry, offset=offset)


def _header(entry: TarEntry) -> bytes:
    name = entry.name + ("/" if entry.is_directory else "")
    size = entry.size if entry.is_file else 0
    block = bytearray(BLOCK_SIZE)
    block[0:100] = _field(name, 100, entry)
    block[100:156] = (
        _octal(entry.mode, 8, entry)
        + _octal(entry.uid, 8, entry)
        + _octal(entry.gid, 8, entry)
        + _octal(size, 12, entry)
        + _octal(entry.mtime, 12, entry)
        + b" " * 8
    )
    block[156] = ord(entry.kind)
    block[157:257] = _field(entry.link, 100, entry)
    block[257:265] = _MAGIC + b" \0"
    block[265:297] = _field(entry.uname, 32, entry)
    block[297:329] = _field(entry.gname, 32, entry)
    code = entry.code if entry.kind == SHARED else (0, 0, 0)
    block[496:512] = _OFFSETS.pack(entry.offset, *code)
    # Signed characters, as ESXi's own tool adds them; unsigned ones where names in UTF-8 make that negative.
    signed = sum(memoryview(bytes(block)).cast("b"))
    block[148:156] = b"%06o\0 " % (signed if signed >= 0 else sum(block))
    return bytes(block)


def _field(value: str, size: int, entry: TarEntry) -> bytes:
    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise FormatError(f"{entry.name!r}: {value!r} cannot be written as UTF-8") from None
    if len(raw) >= size or b"\0" in raw:
        raise FormatError(f"{entry.name!r}: {value[:200]!r} has more than {size - 1} bytes, or a NUL in it")
    return raw.ljust(size, b"\0")


def _octal(number: int, size: int, entry: TarEntry) -> bytes:
    raw = b"%0*o\0" % (size - 1, number)
    if number < 0 or len(raw) > size:
        raise FormatError(f"{entry.name!r}: the number {number} does not fit its header")
    return raw
