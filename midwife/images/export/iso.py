"""An image profile as a bootable installer ISO: BIOS and UEFI, laid out as ESXi's own, written in one pass.

Every payload is checked while its bytes pass into the image; the file appears under its name when it is complete.
The same profile gives the same bytes. Loaders come from the profile's VIBs or from a source ISO.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from pycdlib.pycdlib import PyCdlib
from pycdlib.pycdlibexception import PyCdlibException

from midwife.images.disk import new_file
from midwife.images.errors import ImageError, ProfileError
from midwife.images.export.isoboot import (
    BIOS_IMAGE,
    add_boot_entries,
    boot_warnings,
    iso_path,
    isolinux_cfg,
    pin_dates,
)
from midwife.images.export.layout import Layout, MediaFile, lay_out
from midwife.images.export.media import Medium
from midwife.images.flow import BLOCK, Progress
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.content import Vib

__all__ = ["KERNELOPT", "WrittenIso", "write_iso"]

KERNELOPT = "runweasel cdromBoot"
"""The kernel words of ESXi's own installer ISOs."""

_LONG_AGO = datetime(1980, 1, 1, tzinfo=UTC)
_LEVEL = 4  # ISO 9660:1999; only there does pycdlib allow dashes and a second dot (osl.txt.t00)
_MAX_ISOLINUX = 4 << 20  # bytes; a real one has 24 to 40 kB


@dataclass(frozen=True, slots=True)
class WrittenIso:
    """What was written."""

    size: int
    """Bytes of the ISO."""
    layout: Layout
    warnings: tuple[str, ...]


def write_iso(
    out: Path,
    resolved: ResolvedProfile,
    vibs: Callable[[str], Vib],
    source_iso: Path | None = None,
    *,
    kernelopt: str = KERNELOPT,
    progress: Progress | None = None,
) -> WrittenIso:
    """Write an installer ISO to ``out``, in place of what is there. Raises ImageError; ``out`` is as it was then.

    ``source_iso``: an installer ISO (or a directory with its files) for loaders that no VIB of the profile has.
    """
    with ExitStack() as stack:
        medium = stack.enter_context(Medium(source_iso)) if source_iso else None
        if source_iso and out.exists() and out.samefile(source_iso):
            raise ImageError(f"{out} is the source ISO itself; give the new ISO another name")
        layout = lay_out(resolved, vibs, installer=True, kernelopt=kernelopt, medium=medium)
        warnings = (*layout.warnings, *boot_warnings(layout.paths, resolved.profile.name))
        menu = isolinux_cfg(layout.paths)
        files = [*layout.files, MediaFile("isolinux.cfg", len(menu), lambda: iter((menu,)))]
        files.sort(key=lambda file: file.path)
        with new_file(out) as target:
            _write(target, files, resolved, _Counter(sum(file.size for file in files), progress))
            pin_dates(target, resolved.profile.modified_time or resolved.profile.creation_time or _LONG_AGO)
            size = target.seek(0, io.SEEK_END)
    return WrittenIso(size, layout, warnings)


def _write(target: BinaryIO, files: list[MediaFile], resolved: ResolvedProfile, counter: "_Counter") -> None:
    iso = PyCdlib()
    iso.new(interchange_level=_LEVEL, vol_ident=_volume(resolved.profile.name), sys_ident="")
    try:
        made: set[str] = set()
        for file in files:
            for parent in _parents(file.path):
                if parent not in made:
                    made.add(parent)
                    iso.add_directory(f"/{parent.upper()}")
            iso.add_fp(_source(file, counter), file.size, iso_path(file.path))
        add_boot_entries(iso, {file.path: file.size for file in files})
        iso.write_fp(target, blocksize=BLOCK)
    except PyCdlibException as error:
        raise ImageError(f"image profile {resolved.profile.name!r} cannot be an ISO: {error}") from error
    finally:
        iso.close()


def _source(file: MediaFile, counter: "_Counter") -> BinaryIO:
    if file.path != BIOS_IMAGE:
        return cast(BinaryIO, _Stream(file, counter))
    # It is read twice, the first time for the sum in its boot information table.
    if file.size > _MAX_ISOLINUX:
        raise ProfileError(f"{BIOS_IMAGE} of the image profile has {file.size} bytes: it is no ISOLINUX")
    data = b"".join(file.chunks())
    counter.add(len(data))
    return io.BytesIO(data)


class _Stream(io.RawIOBase):
    """A file's chunks as pycdlib wants them: a file object that is read from its start to its end, once."""

    def __init__(self, file: MediaFile, counter: "_Counter") -> None:
        super().__init__()
        self._file, self._counter = file, counter
        self._chunks: Iterator[bytes] | None = None
        self._rest = b""
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset or whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only to the start")
        self._chunks, self._rest, self._at = self._file.chunks(), b"", 0
        return 0

    def read(self, size: int = -1) -> bytes:
        """As many bytes as asked for, but at the end of the file."""
        size = self._file.size - self._at if size < 0 else min(size, self._file.size - self._at)
        parts = []
        while size:
            if not self._rest:
                self._rest = self._next()
            part, self._rest = self._rest[:size], self._rest[size:]
            parts.append(part)
            size -= len(part)
            self._at += len(part)
            self._counter.add(len(part))
        if (
            self._at == self._file.size
            and self._chunks is not None
            and (self._rest or self._next(at_end=True))
        ):
            raise ImageError(f"{self._file.path} has more bytes than it should; nothing was kept")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next(self, at_end: bool = False) -> bytes:
        """The next chunk that has bytes; b"" only ``at_end``, where the checksum is looked at."""
        if self._chunks is None:
            self._chunks = self._file.chunks()
        chunk = next((chunk for chunk in self._chunks if chunk), b"")
        if not chunk and not at_end:
            raise ImageError(f"{self._file.path} has fewer bytes than it should; nothing was kept")
        return chunk


class _Counter:
    def __init__(self, whole: int, progress: Progress | None) -> None:
        self._done, self._whole, self._progress = 0, whole, progress

    def add(self, count: int) -> None:
        self._done += count
        if self._progress and count:
            self._progress(self._done, self._whole)


def _parents(path: str) -> list[str]:
    return [path[:at] for at, character in enumerate(path) if character == "/"]


def _volume(name: str) -> str:
    """ECMA-119 8.4.7: 32 characters."""
    return re.sub(r"[^A-Z0-9_.-]", "_", name.upper())[:32]
