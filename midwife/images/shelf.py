"""The directory ``<data>/images``: one image a directory, changed by one process at a time, never half.

The depot library keeps its directory by the same rules and with the same functions.
Whatever is being made or thrown away has a name that starts with ``.tmp-``; a crash leaves only that, and the
next change or start of the service clears it away. Knows no ISO and no boot.cfg.
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

from midwife.images.errors import ImageError
from midwife.images.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from midwife.images.names import check_image_name

__all__ = [
    "clear_leftovers",
    "discard",
    "draft_directory",
    "exclusive",
    "fsync_path",
    "publish",
    "remove",
    "set_netboot",
    "stored",
]

_LOCK = ".lock"
_DRAFT = ".tmp-"
_AT_FDCWD = -100  # fcntl.h: paths are relative to the working directory
_RENAME_EXCHANGE = 2  # linux/fs.h


@contextmanager
def exclusive(images: Path, wait: float = 0) -> Iterator[None]:
    """The right to change the library; clears what a killed import left. Raises ImageError.

    ``wait``: seconds, if somebody else has it.
    """
    try:
        images.mkdir(parents=True, exist_ok=True)
        lock = (images / _LOCK).open("a")
    except OSError as error:
        raise ImageError(f"cannot write to {images}: {error.strerror}") from None
    with lock:
        end = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it if we are killed
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise ImageError(
                        f"another midwife is changing {images}; try again when it is done"
                    ) from None
            time.sleep(0.1)
        _clear(images)
        yield


def clear_leftovers(images: Path) -> None:
    """At the start of the service: remove what a killed import left, unless an import is running now."""
    if images.is_dir():
        try:
            with exclusive(images):
                pass
        except ImageError:
            return  # whoever holds the lock has cleared already


def stored(images: Path) -> list[str]:
    """Names of the imported images, sorted."""
    if not images.is_dir():
        return []
    found = (entry.name for entry in images.iterdir() if (entry / MANIFEST).is_file())
    return sorted(name for name in found if not name.startswith("."))


@contextmanager
def draft_directory(images: Path) -> Iterator[Path]:
    """A directory to build an image in; gone afterwards unless it was published. Raises OSError."""
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=images))
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


def remove(images: Path, name: str) -> None:
    """Take an image out of the library. Raises ImageError."""
    with exclusive(images):
        directory = _existing(images, name)
        discard(directory)


def discard(directory: Path) -> None:
    """Throw a directory of the library away; needs the right to change it. Raises OSError."""
    doomed = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=directory.parent))
    # Renamed first: whoever looks sees the whole image or none.
    directory.rename(doomed / directory.name)
    fsync_path(directory.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def set_netboot(images: Path, name: str, on: bool) -> Manifest:
    """Record whether the boot module is added to an image. Raises ImageError."""
    with exclusive(images):
        directory = _existing(images, name)
        manifest = read_manifest(directory).with_netboot(on)
        try:
            write_manifest(directory, manifest)
        except OSError as error:
            raise ImageError(f"cannot write to {directory}: {error.strerror}") from None
        return manifest


def _exchange(draft: Path, target: Path) -> None:
    """Linux swaps two names in one step (renameat2(2), RENAME_EXCHANGE), but Python has no name for it."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
        done = swap(_AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) == 0
    except AttributeError:  # a C library without it
        done = False
    if not done:  # a file system without it: for a moment there is no such image
        aside = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=target.parent)) / target.name
        target.rename(aside)
        draft.rename(target)
        aside.rename(draft)
        aside.parent.rmdir()


def _existing(images: Path, name: str) -> Path:
    check_image_name(name)
    if name not in stored(images):
        known = ", ".join(stored(images)) or "none"
        raise ImageError(f"no imported image is called {name!r}; imported are: {known}")
    return images / name


def _clear(images: Path) -> None:
    for leftover in images.glob(f"{_DRAFT}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def fsync_path(path: Path) -> None:
    """Make a file's content, or a directory's names, durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
