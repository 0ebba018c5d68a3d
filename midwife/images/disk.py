"""Writing so that nothing is ever half there, and the words for a disk that would not take it.

A file is written under another name beside its own, made durable, renamed: a full disk, Ctrl-C or an error
leaves nothing, ``kill -9`` a ``.tmp-`` file. Knows no format; directories are shelf.py's.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from midwife.images.errors import ImageError

__all__ = [
    "LARGER_DISK",
    "check_space",
    "fsync_path",
    "new_file",
    "replacing",
    "told_size",
    "unwritable",
    "write_all",
]

LARGER_DISK = "make room, or move `server.data` to a larger disk"
"""Advice for what is kept in the data directory."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SLACK = 16 << 20


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Like ``replacing``, for a file that a user named. Raises ImageError for every OSError, whoever raised it
    inside the block.
    """
    try:
        target = Path(os.path.realpath(target))  # a link stays a link
        if target.is_dir():
            raise ImageError(f"{target} is a directory; give the name of the file to write")
        if target.exists() and not target.is_file():  # renamed over, /dev/null would be one no more
            raise ImageError(f"{target} is a device or pipe; give the name of the file to write")
        umask = os.umask(0)
        os.umask(umask)
        with replacing(target, 0o666 & ~umask) as file:
            yield file
    except OSError as error:
        raise unwritable(error, target) from error


@contextmanager
def replacing(target: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file for writing and reading that takes the place of ``target`` if the block ends without an error.

    ``mode``: its permissions. It is durable then, with its name. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".tmp-{target.name[:100]}-", dir=target.parent)
    draft = Path(name)
    try:
        with open(descriptor, "w+b") as file:  # noqa: PTH123 - a descriptor
            os.fchmod(descriptor, mode)
            yield file
            file.flush()
            os.fsync(descriptor)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    fsync_path(target.parent)


def write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    """A raw write may be short, last of all when the disk is nearly full. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[write(view) or 0 :]


def fsync_path(path: Path) -> None:
    """Make a file's content, or a directory's names, durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_space(directory: Path, needed: int, what: str, advice: str = LARGER_DISK) -> None:
    """Raises ImageError if the disk has no room for that many bytes and some more; OSError."""
    free = shutil.disk_usage(directory).free
    if free < needed + _SLACK:
        raise ImageError(
            f"{what} needs {told_size(needed + _SLACK)} in {directory}, but only {told_size(free)} are free; "
            f"{advice}"
        )


def unwritable(error: OSError, target: Path, advice: str = "make room") -> ImageError:
    """The error in words; ``advice`` is for a full disk."""
    if error.errno in _FULL:
        return ImageError(f"no room to write {target}: {error.strerror}; nothing was kept; {advice}")
    return ImageError(f"cannot write {target}: {error.strerror or error}; nothing was kept")


def told_size(count: int) -> str:
    """``612.3 MiB``: bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
