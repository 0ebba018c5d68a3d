"""A folder on disk as a depot has it: its files found within bounds, each read without being held open.

``FolderReader`` answers like ``ZipReader``, so an unpacked bundle or a mirror of an online depot is read by the
same code as a zip. Links to folders are not followed. Knows neither VIBs nor what an index says.
"""

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from midwife.images.depot.formats.zips import SMALL, Member, member_name
from midwife.images.errors import FormatError, ImageError
from midwife.images.pieces import Piece

__all__ = ["FolderReader", "open_by_path", "walk"]

_MAX_DEPTH = 16
_MAX_SEEN = 200_000
"""Entries of any kind: somebody gave / by mistake."""


class FolderReader:
    """The files of a folder, as members with names relative to it. Raises ImageError only."""

    def __init__(self, folder: Path) -> None:
        self.what = str(folder)
        self.warnings: list[str] = []
        """What was not looked at."""
        self._folder = folder
        self.members: tuple[Member, ...] = tuple(
            sorted(
                (_member(folder, entry) for entry in walk(folder, self.warnings)), key=lambda one: one.name
            )
        )
        """By name."""
        self._exact = {member.name: member for member in self.members}
        self._folded: dict[str, list[Member]] = {}
        for member in self.members:
            self._folded.setdefault(member.name.lower(), []).append(member)

    def find(self, name: str) -> Member | None:
        """By exact name, else in any case. Raises FormatError if several files have that name."""
        wanted = member_name(name) or ""
        if member := self._exact.get(wanted):
            return member
        found = self._folded.get(wanted.lower(), [])
        if len(found) > 1:
            names = ", ".join(member.name for member in found)
            raise FormatError(f"{self.what} has {names}: which of them is {wanted} is unclear")
        return found[0] if found else None

    def open(self, member: Member) -> BinaryIO:
        """Its bytes as a seekable file, which need not be closed."""
        return open_by_path(self._folder / member.name)

    def read(self, member: Member, limit: int = SMALL) -> bytes:
        """All of a small one."""
        if member.size > limit:
            raise FormatError(f"{self.what}: {member.name} has {member.size} bytes; {limit} at most")
        try:
            return self.open(member).read()
        except OSError as error:
            raise ImageError(f"cannot read {self._folder / member.name}: {error.strerror}") from None


def walk(folder: Path, warnings: list[str], depth: int = 0) -> Iterator[os.DirEntry[str]]:
    """Every file below, in a stable order. What is not looked at is told in ``warnings``; raises ImageError if
    the folder itself cannot be read, or holds absurdly much.
    """
    for count, entry in enumerate(_walk(folder, warnings, depth)):
        if count >= _MAX_SEEN:
            raise ImageError(f"{folder} holds more than {_MAX_SEEN} files; give a smaller folder")
        yield entry


def _walk(folder: Path, warnings: list[str], depth: int) -> Iterator[os.DirEntry[str]]:
    if depth > _MAX_DEPTH:
        warnings.append(f"{folder}: folders deeper than {_MAX_DEPTH} are not looked at")
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        if not depth:
            raise ImageError(f"cannot read {folder}: {error.strerror}") from None
        warnings.append(f"cannot read {folder}: {error.strerror}")
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), warnings, depth + 1)
            elif entry.is_file():
                yield entry
            elif entry.is_dir():
                warnings.append(
                    f"{entry.path} is a link to a folder, and not followed; give that folder itself"
                )
        except OSError as error:  # a link in a circle, for instance
            warnings.append(f"cannot read {entry.path}: {error.strerror}")


def open_by_path(path: Path) -> BinaryIO:
    """A file that is opened for each read: a folder of thousands of VIBs takes no descriptors. Raises ImageError;
    reading raises FormatError if it is another file by then.
    """
    return cast(BinaryIO, io.BufferedReader(_PathReader(path)))


def _member(folder: Path, entry: os.DirEntry[str]) -> Member:
    try:
        size = entry.stat().st_size
    except OSError:
        size = 0  # it has just gone; whoever opens it says so
    name = os.path.relpath(entry.path, folder)
    return Member(name, size, size, zipfile.ZIP_STORED, crc=0, offset=0)


class _PathReader(Piece):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        super().__init__(self._stat())

    def _piece(self, at: int, count: int) -> bytes:
        with self._open() as file:
            self._check(os.fstat(file.fileno()))
            return os.pread(file.fileno(), count, at)

    def _open(self) -> io.FileIO:
        # Not blocking: a named pipe may be called .vib too.
        return io.FileIO(self._path, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))

    def _stat(self) -> int:
        try:
            with self._open() as file:
                status = os.fstat(file.fileno())
        except OSError as error:
            raise ImageError(f"cannot open {self._path}: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{self._path} is no file")
        self._check(status)
        return status.st_size

    def _check(self, status: os.stat_result) -> None:
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._stamp not in (None, stamp):
            raise FormatError(f"{self._path} changed while it was read; start again")
        self._stamp = stamp
