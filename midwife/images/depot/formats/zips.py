"""Zip archives from anywhere: members listed, and read where they are; any bytes give members or FormatError.

Format: PKWARE's APPNOTE. The central directory is read by ``zipfile``, members by ourselves: stored or deflated
ones, as a seekable file. Nothing is ever written to a name that comes from a zip. Knows nothing of depots.
"""

import hashlib
import io
import os
import struct
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from midwife.images.depot.formats.zipstream import Inflated, Window
from midwife.images.errors import FormatError

__all__ = ["SMALL", "Member", "ZipReader", "member_info", "member_name", "stable_number"]

SMALL = 8 << 20
"""Bytes that a member may have which is read as a whole; the largest real descriptor has half a megabyte."""
_MAX_MEMBERS = 50_000
"""A depot of 2,000 VIBs has 2,000; each one costs memory."""
_MAX_DIRECTORY = 8 << 20
"""Bytes of the central directory, which zipfile reads as a whole."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date that a zip can say
_TAIL = (1 << 16) + 256  # the longest comment, and both forms of the end record before it
_LOCAL = struct.Struct("<4s22xHH")
_END = struct.Struct("<12xI")  # size of the central directory
_END_64 = struct.Struct("<40xQ")


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a zip; ``name`` has no leading slash, no backslash and no dots to climb with."""

    name: str
    size: int
    """Bytes, unpacked, as the zip says."""
    packed: int
    method: int
    crc: int
    offset: int
    """Of its local header."""
    encrypted: bool = False


class ZipReader:
    """An opened zip; ``file`` (seekable) stays the caller's. Every method raises FormatError only."""

    def __init__(self, file: BinaryIO, what: str) -> None:
        """``what`` is how messages call it."""
        self.what = what
        self._file = file
        self._lock = threading.Lock()
        try:
            self._size = file.seek(0, os.SEEK_END)
            _check_directory(file, self._size, what)
            with zipfile.ZipFile(file) as listed:
                found = [info for info in listed.infolist() if not info.is_dir()]
        except FormatError:
            raise
        except OSError as error:
            raise FormatError(f"cannot read {what}: {error.strerror or error}") from error
        except (
            Exception
        ) as error:  # BadZipFile, but also struct.error, UnicodeDecodeError, NotImplementedError …
            raise FormatError(f"{what} is no readable zip: {error or type(error).__name__}") from None
        if len(found) > _MAX_MEMBERS:
            raise FormatError(f"{what} has {len(found)} members; {_MAX_MEMBERS} at most")
        self.members: tuple[Member, ...] = tuple(
            Member(
                name,
                info.file_size,
                info.compress_size,
                info.compress_type,
                info.CRC,
                info.header_offset,
                bool(info.flag_bits & 1),
            )
            for info in found
            if (name := member_name(info.filename))
        )
        """In the order of the zip. One whose name climbs out of the zip is not there: nothing can mean it."""
        self._exact: dict[str, list[Member]] = {}
        self._folded: dict[str, list[Member]] = {}
        for member in self.members:
            self._exact.setdefault(member.name, []).append(member)
            self._folded.setdefault(member.name.lower(), []).append(member)

    def find(self, name: str) -> Member | None:
        """By exact name, else in any case. Raises FormatError if two different members have that name."""
        wanted = member_name(name) or ""
        found = self._exact.get(wanted) or self._folded.get(wanted.lower(), [])
        if len({(member.crc, member.size) for member in found}) > 1:
            raise FormatError(
                f"{self.what} has two different members called {wanted}: which is meant is unclear"
            )
        return found[-1] if found else None

    def open(self, member: Member) -> BinaryIO:
        """Its bytes as a seekable file; closing it closes nothing else."""
        what = f"{self.what}: {member.name}"
        if member.encrypted:
            raise FormatError(f"{what} is encrypted; a depot never is")
        if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(
                f"{what} is packed by method {member.method}; only stored and deflated are read"
            )
        if member.method == zipfile.ZIP_STORED and member.size != member.packed:
            raise FormatError(f"{what}: the zip gives two sizes, {member.size} and {member.packed} bytes")
        window = self._window(self._data_offset(member, what), member.packed, what)
        if member.method == zipfile.ZIP_STORED:
            return window
        return cast(BinaryIO, io.BufferedReader(Inflated(window, member.size, member.crc, what)))

    def read(self, member: Member, limit: int = SMALL) -> bytes:
        """All of a small member."""
        what = f"{self.what}: {member.name}"
        if member.size > limit:
            raise FormatError(f"{what} has {member.size} bytes unpacked; {limit} at most")
        try:
            with self.open(member) as file:
                return file.read()
        except OSError as error:
            raise FormatError(f"cannot read {what}: {error.strerror or error}") from error

    def _window(self, start: int, size: int, what: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(Window(self._file, start, size, what, self._lock)))

    def _data_offset(self, member: Member, what: str) -> int:
        try:
            header = self._window(member.offset, _LOCAL.size, what).read()
            signature, name, extra = _LOCAL.unpack(header)
        except (OSError, ValueError, struct.error) as error:
            raise FormatError(f"cannot read {what}: {error}") from None
        start = member.offset + _LOCAL.size + int(name) + int(extra)
        if signature != b"PK\3\4" or start + member.packed > self._size:
            raise FormatError(f"{what} is not where the zip says; it is damaged or cut off, get it again")
        return start


def member_name(raw: str) -> str | None:
    """Without leading slashes, with forward ones, ``..`` resolved; None if nothing is left or it climbs out."""
    parts: list[str] = []
    for part in raw.replace("\\", "/").split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or None


def member_info(name: str, *, stored: bool) -> zipfile.ZipInfo:
    """A member to write: always the same date, owner and mode, so that the same input gives the same bytes."""
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    return info


def stable_number(text: str) -> int:
    """VMware's tools put a hash into names of members, different in each run; ours is always the same."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) >> 1


def _check_directory(file: BinaryIO, size: int, what: str) -> None:
    """zipfile believes the size of the central directory, reads all of it, and makes an object of each entry."""
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    short = list(_lengths(tail, b"PK\5\6", _END))
    long = list(_lengths(tail, b"PK\6\6", _END_64))
    if not short:
        raise FormatError(f"{what} is no zip, or cut off ({size} bytes); is the download complete?")
    if long:  # then the short form may say "see there"
        short = [length for length in short if length != 0xFFFFFFFF]
    # Which of several zipfile believes is its own affair: all of them must be sane.
    if (length := max(short + long)) > _MAX_DIRECTORY:
        raise FormatError(f"{what} has a directory of {length} bytes; {_MAX_DIRECTORY} at most")


def _lengths(tail: bytes, signature: bytes, record: struct.Struct) -> Iterator[int]:
    at = tail.find(signature)
    while at >= 0:
        if at + record.size <= len(tail):
            yield record.unpack_from(tail, at)[0]
        at = tail.find(signature, at + 1)
