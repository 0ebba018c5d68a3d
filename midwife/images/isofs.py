"""The files of an ISO image, by their stored names: ISO 9660 with Rock Ridge or Joliet, through pycdlib.

An ISO comes from anywhere. Whatever is in it, the reader gives its files or one ImageError; it never believes
a size or a name without checking. Knows nothing of ESXi.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from pycdlib.pycdlib import PyCdlib

from midwife.images.disk import told_size
from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK
from midwife.images.names import stored_name

__all__ = ["IsoFile", "IsoReader"]

_SECTOR = 2048
_MAX_FILES = 20_000
_MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class IsoFile:
    """A file: ``name`` as it is stored (lower case), ``path`` as it is on the ISO."""

    name: str
    path: str
    size: int


class IsoReader(AbstractContextManager["IsoReader"]):
    """An opened ISO; ``files`` by stored name. For a bad ISO every method raises ImageError only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = _open(path)
        try:
            self._opened = os.fstat(self._raw.fileno())
            self.size = self._opened.st_size
            _check_volume(path, self._raw, self.size)
            self._iso = PyCdlib()
            with self._told():
                self._iso.open_fp(self._raw)
                self._view = self._best_view()
                self.files = {file.name: file for file in self._list()}
        except BaseException:
            self._raw.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def chunks(self, file: IsoFile, block: int = BLOCK) -> Iterator[bytes]:
        """The file's bytes, at most ``block`` at a time, exactly ``file.size`` in all."""
        with self._told():
            content = self._iso.open_file_from_iso(**{self._view: file.path})
        with content:
            left = file.size
            while left:
                with self._told():
                    data = content.read(min(block, left))
                if not data:
                    raise ImageError(
                        f"{self.path} ends within {file.name}: the file is truncated, get it again"
                    )
                left -= len(data)
                yield data

    @property
    def file(self) -> BinaryIO:
        """The ISO itself, for reading at positions of one's own (pread)."""
        return self._raw

    def changed(self) -> bool:
        """Whether somebody has written to the ISO since it was opened."""
        now = os.fstat(self._raw.fileno())
        return (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns)

    def read_small(self, name: str, limit: int = 1 << 20) -> bytes:
        """A small file as a whole, b"" if there is none; more than ``limit`` bytes are left unread."""
        file = self.files.get(name)
        if file is None:
            return b""
        head = IsoFile(file.name, file.path, min(file.size, limit))
        return b"".join(self.chunks(head))

    def _best_view(self) -> str:
        if self._iso.has_rock_ridge():
            return "rr_path"
        return "joliet_path" if self._iso.has_joliet() else "iso_path"

    def _list(self) -> Iterator[IsoFile]:
        seen: set[str] = set()
        total = 0
        for directory, _, names in self._iso.walk(**{self._view: "/"}):
            parents = [part for part in directory.split("/") if part]
            if len(parents) > _MAX_DEPTH:
                raise ImageError(f"{self.path}: directories are nested more than {_MAX_DEPTH} deep")
            for name in names:
                file = self._file(parents, name)
                if file is None:
                    continue
                if file.name in seen:
                    raise ImageError(
                        f"{self.path} holds {file.name} twice, in upper and lower case: not an ESXi ISO"
                    )
                seen.add(file.name)
                total += file.size
                # Files may share their blocks, so a small ISO can claim to hold any amount.
                if len(seen) > _MAX_FILES or total > 2 * self.size:
                    raise ImageError(
                        f"{self.path} claims to hold more than is in it ({len(seen)} files, "
                        f"{told_size(total)} in {told_size(self.size)}): not an ESXi ISO"
                    )
                yield file

    def _file(self, parents: list[str], name: str) -> IsoFile | None:
        plain = self._view == "iso_path"
        stored = "/".join(stored_name(part, plain_9660=plain) for part in [*parents, name])
        path = "/" + "/".join([*parents, name])
        record: Any = self._iso.get_record(**{self._view: path})
        if not record.is_file() or record.is_symlink() or record.inode is None:
            return None  # symbolic links lead nowhere on a boot server; the El Torito catalog has no data
        size = int(record.get_data_length())
        # pycdlib cuts a file that runs over the end of the ISO down to what is there, and says nothing.
        start = record.extent_location() * _SECTOR
        if start + size >= self.size:
            size = self._recorded_length(record) or size
        if size < 0 or (size and start + size > self.size):
            raise ImageError(
                f"{self.path}: {stored} runs over the end of the ISO, which is damaged or truncated; get it again"
            )
        return IsoFile(stored, path, size)

    def _recorded_length(self, record: Any) -> int:
        """What the directory itself says (ECMA-119 9.1: first block at offset 2, length at offset 10)."""
        self._raw.seek(record.parent.extent_location() * _SECTOR)
        data = self._raw.read(min(record.parent.get_data_length(), self.size))
        at, length = 0, 0
        while at + 33 < len(data):
            if data[at] == 0:  # a record never crosses the end of a sector; the rest of it is zeros
                at = (at // _SECTOR + 1) * _SECTOR
                continue
            block, _, claimed = struct.unpack_from("<III", data, at + 2)
            if block == record.extent_location():
                length = max(length, claimed)
            at += data[at]
        return length

    @contextmanager
    def _told(self) -> Iterator[None]:
        """pycdlib answers damage with its own exceptions, but also with struct.error, IndexError, …"""
        try:
            yield
        except ImageError:
            raise
        except OSError as error:
            raise ImageError(f"cannot read {self.path}: {error.strerror or error}") from error
        except Exception as error:
            raise ImageError(
                f"{self.path} is not a readable ISO image: {str(error) or type(error).__name__}; "
                "compare its checksum with the download page"
            ) from error


def _open(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            raise ImageError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
        return path.open("rb")
    except OSError as error:
        raise ImageError(f"cannot open {path}: {error.strerror}") from None


def _check_volume(path: Path, raw: BinaryIO, size: int) -> None:
    """The primary volume descriptor (ECMA-119 8.4, sector 16) tells a wrong or half file at once."""
    raw.seek(16 * _SECTOR)
    head = raw.read(_SECTOR)
    if len(head) < _SECTOR or head[1:6] != b"CD001":
        raise ImageError(f"{path} is not an ISO 9660 image ({told_size(size)}); is it a zip, or a web page?")
    if head[0] == 1:
        (blocks,) = struct.unpack_from("<I", head, 80)
        (block,) = struct.unpack_from("<H", head, 128)
        if block != _SECTOR:
            raise ImageError(f"{path} has blocks of {block} bytes; an ESXi installer ISO has {_SECTOR}")
        if blocks * block > size:
            raise ImageError(
                f"{path} is truncated: {told_size(blocks * block)} expected, {told_size(size)} there; "
                "download or copy it again"
            )
