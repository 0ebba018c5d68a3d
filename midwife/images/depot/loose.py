"""VIBs that lie about: one .vib file, or a folder of them, as a depot without profiles and bulletins.

Listing reads descriptors, not payloads, and keeps no file open. Knows no index and no metadata.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.merge import differences, merge
from midwife.images.errors import FormatError, ImageError
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.vib.container import VibFile

__all__ = ["LooseVibs"]

_MAX_FILES = 20_000
_MAX_DEPTH = 16
_MAX_SEEN = 200_000
"""Entries of any kind: somebody gave / by mistake."""

_Unclear = tuple[list[Path], str]
"""Files that have one id, and what they differ in."""


class LooseVibs:
    """A ``Depot`` of the .vib files at a path. Raises ImageError only.

    In a folder, a file that is no readable VIB is left out with a warning; so is a VIB whose id comes with two
    different contents, for nobody can know which is meant. Links to folders are not followed.
    """

    profiles: tuple[ImageProfile, ...] = ()
    bulletins: tuple[Bulletin, ...] = ()

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        self.name = path.name or str(path)
        warnings: list[str] = []
        if not path.exists():
            raise ImageError(f"{path} does not exist")
        found = _vib_files(path, warnings) if path.is_dir() else [path]
        if not found:
            raise ImageError(f"{path} holds no .vib file")
        self._packages: dict[str, SoftwarePackage] = {}
        self._files: dict[str, Path] = {}
        unclear: dict[str, _Unclear] = {}
        for file in found:
            try:
                vib = _opened(file)
            except ImageError as error:
                if file == path:
                    raise
                warnings.append(f"{error}; it is left out")
                continue
            warnings += vib.warnings
            self._take(vib.package, file, unclear)
        for vib_id, (files, why) in unclear.items():
            del self._packages[vib_id], self._files[vib_id]
            names = ", ".join(str(file.relative_to(path)) for file in files)
            warnings.append(
                f"{path}: {len(files)} files with different contents have the VIB id {vib_id}: {names} "
                f"(they differ in {why}); none is used: keep the one that is meant, or give that file alone"
            )
        if not self._packages:
            raise FormatError(f"{path}: no VIB in it can be used: {warnings[0]}")
        self._packages = dict(sorted(self._packages.items()))
        self.warnings: tuple[str, ...] = tuple(dict.fromkeys(warnings))

    @property
    def packages(self) -> Mapping[str, SoftwarePackage]:
        """By VIB id, sorted."""
        return self._packages

    def file(self, vib_id: str) -> Path:
        """The .vib it came from. Raises ImageError."""
        if vib_id not in self._files:
            raise ImageError(f"{self.source} has no VIB {vib_id}")
        return self._files[vib_id]

    def vib(self, vib_id: str) -> VibFile:
        """Opened anew; it holds no file open, so it need not be closed."""
        file = self.file(vib_id)
        vib = _opened(file)
        if vib.package.id != vib_id or differences(vib.package, self._packages[vib_id]):
            raise FormatError(f"{file} changed since it was listed; start again")
        return vib

    def _take(self, package: SoftwarePackage, file: Path, unclear: dict[str, "_Unclear"]) -> None:
        vib_id = package.id
        known = self._packages.setdefault(vib_id, package)
        first = self._files.setdefault(vib_id, file)
        if found := differences(known, package):
            unclear.setdefault(vib_id, ([first], ", ".join(found)))[0].append(file)
        elif vib_id in unclear and file != first:
            unclear[vib_id][0].append(file)
        elif merge(known, package) is package:
            self._packages[vib_id], self._files[vib_id] = package, file


def _opened(file: Path) -> VibFile:
    return VibFile.from_stream(cast(BinaryIO, io.BufferedReader(_PathReader(file))), str(file))


def _vib_files(folder: Path, warnings: list[str]) -> list[Path]:
    """Sorted, so that the same folder always gives the same depot."""
    found: list[Path] = []
    for count, entry in enumerate(_walk(folder, 0, warnings)):
        if entry.name.lower().endswith(".vib") and not entry.name.startswith("."):
            found.append(Path(entry.path))
        if len(found) > _MAX_FILES or count > _MAX_SEEN:
            raise ImageError(
                f"{folder} holds more than {min(count, _MAX_FILES)} files; give a smaller folder"
            )
    return sorted(found)


def _walk(folder: Path, depth: int, warnings: list[str]) -> Iterator[os.DirEntry[str]]:
    if depth > _MAX_DEPTH:
        warnings.append(f"{folder}: folders deeper than {_MAX_DEPTH} are not looked at")
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if not depth:
            raise ImageError(f"cannot read {folder}: {error.strerror}") from None
        warnings.append(f"cannot read {folder}: {error.strerror}")
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), depth + 1, warnings)
        elif entry.is_file():
            yield entry


class _PathReader(io.RawIOBase):
    """A file by its path, opened for each read: a folder of thousands of VIBs takes no descriptors."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._stamp: tuple[int, ...] | None = None
        self._stat()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        if at < 0:
            raise OSError(errno.EINVAL, "cannot seek before the beginning")
        self._at = at
        return at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        with self._open() as file:
            self._check(os.fstat(file.fileno()))
            data = os.pread(file.fileno(), len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _open(self) -> io.FileIO:
        # Not blocking: a named pipe may be called .vib too.
        return io.FileIO(self._path, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))

    def _stat(self) -> None:
        try:
            with self._open() as file:
                status = os.fstat(file.fileno())
        except OSError as error:
            raise ImageError(f"cannot open {self._path}: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{self._path} is no file")
        self._size = status.st_size
        self._check(status)

    def _check(self, status: os.stat_result) -> None:
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._stamp not in (None, stamp):
            raise FormatError(f"{self._path} changed while it was read; start again")
        self._stamp = stamp
