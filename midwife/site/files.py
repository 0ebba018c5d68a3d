"""Files in a site that both people and commands change: written whole, one writer at a time, never outside.

The lock is on the directory itself, so nothing of it shows in the user's version control. Knows no YAML.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FileRefused", "inside", "locked", "read", "replace", "unchanged", "write"]


class FileRefused(ValueError):
    """The file cannot be read, or must not be written; the message says which and why."""


def read(root: Path, file: str, most: int) -> bytes | None:
    """A file of the site, None if there is none. Raises FileRefused.

    Of one with more than ``most`` bytes one byte more is given: whoever parses it says that it is too large.
    """
    path = root / file
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            raise FileRefused(f"{file} is not a regular file")
        with path.open("rb") as stream:
            return stream.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileRefused(f"{file}: cannot be read: {error.strerror}") from None


def replace(root: Path, file: str, before: bytes | None, raw: bytes) -> None:
    """Write a file that was ``before`` when it was read (None: it was not there). Raises FileRefused."""
    try:
        path = inside(root, root / file)
        with locked(path.parent):
            unchanged(root, file, before)
            write(path, raw, new=before is None)
    except OSError as error:
        raise FileRefused(f"{file} cannot be written: {error.strerror}") from None


def inside(root: Path, path: Path) -> Path:
    """The path with symbolic links followed, which must not lead out of the site (FileRefused)."""
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise FileRefused(f"{path} leads out of the site, to {real}; change that file itself")
    return real


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The right to change the files of a directory; waits for another midwife. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def unchanged(root: Path, file: str, raw: bytes | None) -> None:
    """Raises FileRefused if the file of the site is not as it was read (None: it was not there), or OSError."""
    try:
        now: bytes | None = (root / file).read_bytes()
    except FileNotFoundError:
        now = None
    if now != raw:
        what = "is gone" if now is None else "is new" if raw is None else "was changed by somebody else"
        raise FileRefused(f"{file} {what} since it was read; nothing was written. Look at it and try again")


def write(path: Path, raw: bytes, *, new: bool) -> None:
    """Whole or not at all. ``new``: never over a file that is there. Raises OSError."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(raw)
            out.flush()
            os.fchmod(fd, 0o644 if new else path.stat().st_mode & 0o777)
            os.fsync(fd)
        if new:
            os.link(draft, path)  # unlike rename, it refuses to replace
            draft.unlink()
        else:
            draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the new name
    finally:
        os.close(folder)
