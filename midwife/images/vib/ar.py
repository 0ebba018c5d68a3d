"""The Unix ``ar`` archive, as far as VIBs use it: plain or GNU-style short names, no symbol table.

Reads the members' headers and nothing else; what the members mean is container.py's business.
Source: the header's layout and what real VIBs have in it (mode ``0o0``), from 127 VIBs.
"""

import re
from dataclasses import dataclass
from typing import BinaryIO

from midwife.images.errors import FormatError

__all__ = ["HEADER", "MAGIC", "MAX_MEMBERS", "Member", "make_header", "read_members", "told_magic"]

MAGIC = b"!<arch>\n"
HEADER = 60
"""Bytes of a member's header."""
MAX_MEMBERS = 1000
"""The fullest VIB known has some 20; a gigabyte of empty members would be read header by header."""

_END = b"`\n"
_SIZE = re.compile(rb"[0-9]{1,10} *")


@dataclass(frozen=True, slots=True)
class Member:
    """A member: ``size`` bytes from ``offset`` of the file."""

    name: str
    size: int
    offset: int
    header: bytes
    """The 60 bytes before it, as they are."""
    padded: bool = True
    """Whether what makes its size even is there and a line feed, as every tool writes it."""


def read_members(file: BinaryIO, what: str) -> tuple[Member, ...]:
    """The members in order. Raises FormatError; and OSError or whatever ``file`` raises when it is read.

    Mode, owner and time are not looked at (tools write nonsense there). The file must end with the last member;
    only that one's padding may be missing.
    """
    end = file.seek(0, 2)
    file.seek(0)
    if (magic := file.read(len(MAGIC))) != MAGIC:
        raise FormatError(f"{what}: {told_magic(magic)}")
    members: list[Member] = []
    offset = len(MAGIC)
    while offset < end:
        if len(members) == MAX_MEMBERS:
            raise FormatError(f"{what}: more than {MAX_MEMBERS} members; a VIB has some 20 at most")
        file.seek(offset)
        member = _member(file.read(HEADER), offset, end, what)
        offset = member.offset + member.size
        if member.size % 2:
            file.seek(offset)
            if file.read(1) != b"\n":
                member = Member(member.name, member.size, member.offset, member.header, padded=False)
            offset += 1
        members.append(member)
    return tuple(members)


def _member(header: bytes, offset: int, end: int, what: str) -> Member:
    where = f"{what}: at byte {offset:,}"
    if len(header) < HEADER or header[58:60] != _END:
        raise FormatError(
            f"{where}: no member starts here; the file is damaged, or something follows the VIB"
        )
    if not _SIZE.fullmatch(header[48:58]):
        raise FormatError(f"{where}: the member's size is {header[48:58]!r}, not a number")
    try:
        name = header[:16].decode("ascii").rstrip(" ").removesuffix("/")
    except UnicodeDecodeError:
        raise FormatError(f"{where}: the member's name {header[:16]!r} is not ASCII") from None
    if not name or not name.isprintable() or "/" in name:
        raise FormatError(f"{where}: {header[:16]!r} is not the name of a VIB's member")
    size, start = int(header[48:58]), offset + HEADER
    if size > end - start:
        raise FormatError(
            f"{where}: member {name} should have {size:,} bytes, but the file ends after {end - start:,}; "
            "it is truncated, get it again"
        )
    return Member(name, size, start, header)


def make_header(name: str, size: int) -> bytes:
    """A canonical header: mode 100644; time, owner and group 0. Raises FormatError if it does not fit.

    ``size`` in bytes. The first bytes of the file are ``MAGIC``; after a body of odd size comes one line feed.
    """
    raw = name.encode("ascii", "replace")
    if not 1 <= len(raw) <= 16 or "/" in name or not (name.isascii() and name.isprintable()) or " " in name:
        raise FormatError(
            f"member {name!r}: a name in a VIB has 1 to 16 ASCII characters, no blank and no slash"
        )
    if not 0 <= size < 10**10:
        raise FormatError(f"member {name}: {size:,} bytes are more than a VIB can hold (10 digits)")
    return b"%-16b%-12d%-6d%-6d%-8b%-10d%b" % (raw, 0, 0, 0, b"100644", size, _END)


def told_magic(magic: bytes) -> str:
    """What a file is that does not start like a VIB, from its first bytes, and what to do with it."""
    if magic.startswith(b"PK"):
        return "a zip archive, no VIB; if it is an offline bundle, add it with `midwife depot add`"
    if magic.startswith(b"\x1f\x8b"):
        return "a gzip file, no VIB"
    if not magic:
        return "an empty file, no VIB"
    return "not a VIB: it does not start like an ar archive"
