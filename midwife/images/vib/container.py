"""``VibFile``: a .vib as it comes from a vendor, read where it lies, and ``write_vib``, which makes one.

A VIB is an ar archive: descriptor.xml, sig.pkcs7 (empty if unsigned), then the payloads in the descriptor's order.
Opening reads the headers, the descriptor and the signature; payloads stay in the file until somebody asks.
"""

import hashlib
import io
import os
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from midwife.images.errors import FormatError, ImageError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import Payload, SoftwarePackage
from midwife.images.vib.ar import HEADER, MAGIC, Member, make_header, read_members
from midwife.images.vib.content import Vib
from midwife.images.vib.descriptor import parse_descriptor
from midwife.images.xmlsafe import MAX_XML

__all__ = ["DESCRIPTOR", "MAX_SIGNATURE", "SIGNATURE", "VibFile", "write_vib"]

DESCRIPTOR = "descriptor.xml"
SIGNATURE = "sig.pkcs7"
MAX_SIGNATURE = 1 << 20
"""Bytes. A real one, certificates and all, has less than 16 KiB."""

# What files say when they cannot be read: a zip's member says it in four ways.
_UNREADABLE = (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError)


class VibFile(AbstractContextManager["VibFile"]):
    """An opened .vib, a ``Vib``; close it, or use it in ``with``. Raises ImageError only.

    Payloads can be read in several threads, and several at a time.
    """

    exact = True

    def __init__(self, path: Path) -> None:
        try:
            # Not blocking: a named pipe may be called .vib too.
            file = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
        except OSError as error:
            raise ImageError(f"cannot open {path}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise ImageError(f"{path} is no file")
        self._setup(io.BufferedReader(file), str(path))

    @classmethod
    def from_stream(cls, file: BinaryIO, name: str) -> Self:
        """From a file that can seek, a member of a zip for instance; ``name`` is for messages. Closes it."""
        vib = cls.__new__(cls)
        vib._setup(file, name)
        return vib

    def _setup(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.name = name
        try:
            self._open()
        except BaseException:
            file.close()
            raise

    def _open(self) -> None:
        try:
            members = read_members(self._file, self.name)
            self.size = self._file.seek(0, 2)
            """Bytes of the whole file."""
        except _UNREADABLE as error:
            raise self._unreadable(error) from None
        signature = _check_order(members, self.name)
        warnings = [] if signature else [f"{self.name}: has no member {SIGNATURE}; it counts as unsigned"]
        self.descriptor = self._small(members[0], MAX_XML)
        self.signature = self._small(signature, MAX_SIGNATURE) if signature else b""
        parsed = parse_descriptor(self.descriptor, f"{self.name}: {DESCRIPTOR}")
        self.package: SoftwarePackage = parsed.package
        payloads = members[2 if signature else 1 :]
        _check_payloads(self.package.payloads, payloads, self.name)
        self._payloads = {member.name: member for member in payloads}
        self.headers = tuple(member.header for member in members)
        if odd := next((member.name for member in members if not member.padded), None):
            self.headers = ()  # the same bytes would not come of them
            warnings.append(f"{self.name}: the padding after {odd} is missing or is no line feed")
        self.warnings: tuple[str, ...] = (*warnings, *parsed.warnings)
        """What was tolerated, in sentences."""

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        """The bytes of a payload as stored. Raises ImageError, for a name that it has not too."""
        member = self._payloads.get(payload)
        if member is None:
            raise ImageError(
                f"{self.name} has no payload {payload}; it has: {', '.join(self._payloads) or 'none'}"
            )
        return self._chunks(member, block)

    def _chunks(self, member: Member, block: int) -> Iterator[bytes]:
        offset, end = member.offset, member.offset + member.size
        while offset < end:
            try:
                with self._lock:
                    self._file.seek(offset)
                    data = self._file.read(min(block, end - offset))
            except _UNREADABLE as error:
                raise self._unreadable(error) from None
            if not data:
                raise FormatError(f"{self.name} ends within {member.name}: it was cut off while it was read")
            offset += len(data)
            yield data

    def path(self, payload: str) -> Path | None:
        """None: a payload is a part of the file."""
        return None

    def close(self) -> None:
        """Closes the file; only what was read already is left."""
        self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _small(self, member: Member, limit: int) -> bytes:
        if member.size > limit:
            raise FormatError(
                f"{self.name}: {member.name} has {member.size:,} bytes, {limit:,} at most are read"
            )
        return b"".join(self._chunks(member, BLOCK))

    def _unreadable(self, error: BaseException) -> ImageError:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return ImageError(f"cannot read {self.name}: {told or type(error).__name__}")


def _check_order(members: tuple[Member, ...], what: str) -> Member | None:
    """The signature's member, if there is one. Raises FormatError if the archive does not begin like a VIB."""
    if not members:
        raise FormatError(f"{what}: an empty ar archive, no VIB")
    if members[0].name == "debian-binary":
        raise FormatError(
            f"{what}: an ESX 4 package (its first member is debian-binary), no VIB of ESXi 5.0 or later"
        )
    if members[0].name != DESCRIPTOR:
        raise FormatError(f"{what}: the first member is {members[0].name}, not {DESCRIPTOR}: this is no VIB")
    return members[1] if len(members) > 1 and members[1].name == SIGNATURE else None


def _check_payloads(wanted: tuple[Payload, ...], members: tuple[Member, ...], what: str) -> None:
    """Names, order and sizes are the descriptor's. Raises FormatError."""
    expected, there = [payload.name for payload in wanted], [member.name for member in members]
    if twice := next((name for name in there if there.count(name) > 1), None):
        raise FormatError(f"{what}: two members are called {twice}")
    if missing := [name for name in expected if name not in there]:
        raise FormatError(
            f"{what}: lacks the payload {', '.join(missing)} that its descriptor lists; get it again"
        )
    if extra := [name for name in there if name not in expected]:
        raise FormatError(f"{what}: has the member {', '.join(extra)} that its descriptor does not list")
    if there != expected:
        raise FormatError(
            f"{what}: its payloads are in the order {', '.join(there)}, "
            f"but its descriptor lists {', '.join(expected)}"
        )
    for payload, member in zip(wanted, members, strict=True):
        if payload.size != member.size:
            raise FormatError(
                f"{what}: payload {payload.name} has {member.size:,} bytes; its descriptor says {payload.size:,}"
            )


def write_vib(out: BinaryIO, vib: Vib) -> tuple[int, str]:
    """Writes the .vib and gives its size in bytes and its sha-256. Raises ImageError; OSError of ``out``.

    The same file as the original if ``vib.headers`` are known, else with canonical headers. ``out`` need not seek.
    Payloads are written as they are; only their sizes are checked.
    """
    payloads = vib.package.payloads
    bodies = [(DESCRIPTOR, len(vib.descriptor)), (SIGNATURE, len(vib.signature))]
    bodies += [(payload.name, payload.size) for payload in payloads]
    if len(vib.headers) == len(bodies) - 1 and not vib.signature:
        del bodies[1]  # the original had no such member
    headers = vib.headers or tuple(make_header(name, size) for name, size in bodies)
    _check_headers(headers, bodies, vib.package.id)
    writer = _Writer(out)
    writer.write(MAGIC)
    for (name, size), header in zip(bodies, headers, strict=True):
        writer.write(header)
        if name == DESCRIPTOR:
            writer.write(vib.descriptor)
        elif name == SIGNATURE:
            writer.write(vib.signature)
        else:
            _copy(writer, vib, name, size)
        writer.write(b"\n" * (size % 2))
    return writer.size, writer.digest.hexdigest()


def _copy(writer: "_Writer", vib: Vib, name: str, size: int) -> None:
    before = writer.size
    for chunk in vib.chunks(name):
        writer.write(chunk)
        if writer.size - before > size:
            break
    if writer.size - before != size:
        raise FormatError(
            f"{vib.package.id}: payload {name} does not have the {size:,} bytes of its descriptor"
        )


def _check_headers(headers: tuple[bytes, ...], bodies: list[tuple[str, int]], vib_id: str) -> None:
    fit = len(headers) == len(bodies) and all(
        len(header) == HEADER and header[48:58].strip() == b"%d" % size
        for header, (_, size) in zip(headers, bodies, strict=False)
    )
    if not fit:
        raise FormatError(f"{vib_id}: the ar headers that were kept do not fit the descriptor and payloads")


class _Writer:
    """Counts and hashes what passes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._out.write(data)
        self.size += len(data)
        self.digest.update(data)
