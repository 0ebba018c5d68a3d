"""A folder as an archive for a VIB: what is in it, and that as a tgz or vgz payload with its three sums.

Nobody's time, owner or order gets in, and no file is held in memory. Source of the forms: old GNU tar, in which
ESXi's tools write tgz payloads, and vmtar.
"""

import gzip
import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import Checksum, Payload
from midwife.images.vib.archives.tarhead import DIRECTORY, FILE, SYMLINK, TarEntry
from midwife.images.vib.archives.vmtar import write_vmtar
from midwife.images.vib.limits import LONGEST_PATH

__all__ = ["FolderEntry", "pack_folder", "read_folder"]

_MAX_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """Something in the folder: a directory, a file or a symbolic link."""

    path: str
    """On the host, without a leading slash."""
    source: Path
    mode: int
    size: int = 0
    directory: bool = False
    link: str = ""


def read_folder(folder: Path) -> tuple[FolderEntry, ...]:
    """Everything in it, directories before what they hold. Raises ImageError for what no VIB can bring."""
    return tuple(sorted(_walk(folder), key=lambda entry: entry.path.split("/")))


def _walk(folder: Path) -> Iterator[FolderEntry]:
    if not folder.is_dir():
        raise ImageError(
            f"{folder} is not a folder; name the one that holds the tree as the host shall see it"
        )
    left, count = [(folder, "")], 0
    while left:
        directory, above = left.pop()
        try:
            found = list(directory.iterdir())
        except OSError as error:
            raise ImageError(f"{directory} cannot be read: {error.strerror}") from None
        for source in found:
            count += 1
            if count > _MAX_ENTRIES:
                raise ImageError(f"{folder} has more than {_MAX_ENTRIES} files: is it the right folder?")
            entry = _entry(source, f"{above}{source.name}")
            if entry.directory:
                left.append((source, f"{entry.path}/"))
            yield entry


def _entry(source: Path, path: str) -> FolderEntry:
    if not re.fullmatch(r"[\x21-\x7e]+", path):
        raise ImageError(f"{str(source)!a}: names in a VIB are printable ASCII without blanks")
    if len(path) > LONGEST_PATH:
        raise ImageError(f"{path}: a path in a VIB has at most {LONGEST_PATH} characters")
    try:
        found = source.lstat()
        link = str(source.readlink()) if stat.S_ISLNK(found.st_mode) else ""
    except OSError as error:
        raise ImageError(f"{source} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(found.st_mode):
        return FolderEntry(path, source, 0o755, directory=True)
    if link:
        if not re.fullmatch(r"[\x21-\x7e]{1,99}", link):
            raise ImageError(f"{source}: what it links to is no path of at most 99 ASCII characters")
        return FolderEntry(path, source, 0o777, link=link)
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{source} is neither a file nor a directory nor a symbolic link: take it away")
    mode = 0o755 if found.st_mode & 0o111 else 0o644
    return FolderEntry(path, source, mode | found.st_mode & stat.S_ISVTX, found.st_size)


@dataclass(slots=True)
class _Summed:
    """A file that is only written to, and keeps sums of what was written."""

    out: IO[bytes]
    size: int = 0
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    sha1: "hashlib._Hash" = field(default_factory=lambda: hashlib.sha1(usedforsecurity=False))

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.sha256.update(data)
        self.sha1.update(data)
        self.out.write(data)
        return len(data)

    def flush(self) -> None:
        self.out.flush()


def pack_folder(
    entries: tuple[FolderEntry, ...], body: IO[bytes], name: str, kind: Literal["tgz", "vgz"]
) -> Payload:
    """Writes the payload and gives its entry for the descriptor. Raises ImageError; OSError of files and disk."""
    stored = _Summed(body)
    with gzip.GzipFile(filename="", mode="wb", fileobj=cast(BinaryIO, stored), mtime=0) as zipped:
        plain = _Summed(cast(BinaryIO, zipped))
        if kind == "tgz":
            _write_tar(entries, plain)
        else:
            _write_vmtar(entries, plain)
    # All three: ESXi 8.0 wants them of a community VIB.
    sums = (
        Checksum("sha-256", stored.sha256.hexdigest()),
        Checksum("sha-256", plain.sha256.hexdigest(), "gunzip"),
        Checksum("sha-1", plain.sha1.hexdigest(), "gunzip"),
    )
    return Payload(name, kind, stored.size, sums)


def _write_tar(entries: tuple[FolderEntry, ...], out: _Summed) -> None:
    with tarfile.open(fileobj=cast(BinaryIO, out), mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)  # uid, gid and mtime are 0
            member.mode = entry.mode
            if entry.directory:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
                tar.addfile(member)
            else:
                member.size = entry.size
                with _opened(entry) as file:
                    tar.addfile(member, file)


def _write_vmtar(entries: tuple[FolderEntry, ...], out: _Summed) -> None:
    sources = {entry.path: entry for entry in entries}

    def content(entry: TarEntry) -> Iterator[bytes]:
        with _opened(sources[entry.name]) as file:
            while data := file.read(BLOCK):
                yield data

    def headers() -> Iterator[TarEntry]:
        for entry in entries:
            kind = DIRECTORY if entry.directory else SYMLINK if entry.link else FILE
            yield TarEntry(entry.path, kind, entry.size, entry.mode, entry.link)

    write_vmtar(cast(BinaryIO, out), tuple(headers()), content)


@contextmanager
def _opened(entry: FolderEntry) -> Iterator[BinaryIO]:
    """The file, if it is still the one that was found; never more of it than was announced."""
    with entry.source.open("rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            raise ImageError(
                f"{entry.source} changed while it was packed; build again when nobody writes to it"
            )
        yield file
