"""A directory of directories, one thing each, changed by one process at a time and never half: a library's shelf.

The boot images (``<data>/images``) and the depots (``<data>/depots``) are kept on one each.
Whatever is being made or thrown away has a name that starts with ``.tmp-``; a crash leaves only that, and the
next change or start of the service clears it away. Knows neither images nor depots.
"""

import ctypes
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from midwife.images.disk import LARGER_DISK, fsync_path, unwritable
from midwife.images.errors import ImageError

__all__ = [
    "clear_leftovers",
    "discard",
    "draft_directory",
    "exclusive",
    "publish",
]

_LOCK = ".lock"
_DRAFT = ".tmp-"
_AT_FDCWD = -100  # fcntl.h: paths are relative to the working directory
_RENAME_EXCHANGE = 2  # linux/fs.h


@contextmanager
def exclusive(shelf: Path, wait: float = 0) -> Iterator[None]:
    """The right to change the library; clears what a killed import left. Raises ImageError.

    ``wait``: seconds, if somebody else has it.
    """
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        lock = (shelf / _LOCK).open("a")
    except OSError as error:
        raise unwritable(error, shelf, LARGER_DISK) from None
    with lock:
        end = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it if we are killed
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise ImageError(
                        f"another midwife is changing {shelf}; try again when it is done"
                    ) from None
            time.sleep(0.1)
        _clear(shelf)
        yield


def clear_leftovers(shelf: Path) -> None:
    """At the start of the service: remove what a killed import left, unless an import is running now."""
    if shelf.is_dir():
        try:
            with exclusive(shelf):
                pass
        except ImageError:
            return  # whoever holds the lock has cleared already


@contextmanager
def draft_directory(shelf: Path) -> Iterator[Path]:
    """A directory to build something in; gone afterwards unless it was published. Raises OSError."""
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=shelf))
    try:
        draft.chmod(0o755)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish(draft: Path, target: Path, *, replaces: bool = False) -> None:
    """Make everything in ``draft`` durable, then give it its name. Raises OSError.

    ``replaces``: what had the name before becomes the draft, in one step.
    """
    for directory, _, names in os.walk(draft):
        for name in names:
            fsync_path(Path(directory) / name)
        fsync_path(Path(directory))
    if replaces:
        _exchange(draft, target)
    else:
        draft.rename(target)
    fsync_path(target.parent)


def discard(directory: Path) -> None:
    """Throw a directory of the library away; needs the right to change it. Raises OSError."""
    doomed = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=directory.parent))
    # Renamed first: whoever looks sees all of it or nothing.
    directory.rename(doomed / directory.name)
    fsync_path(directory.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def _exchange(draft: Path, target: Path) -> None:
    """Linux swaps two names in one step (renameat2(2), RENAME_EXCHANGE), but Python has no name for it."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
        done = swap(_AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) == 0
    except AttributeError:  # a C library without it
        done = False
    if not done:  # a file system without it: for a moment it is not there
        aside = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=target.parent)) / target.name
        target.rename(aside)
        draft.rename(target)
        aside.rename(draft)
        aside.parent.rmdir()


def _clear(shelf: Path) -> None:
    for leftover in shelf.glob(f"{_DRAFT}*"):
        shutil.rmtree(leftover, ignore_errors=True)
