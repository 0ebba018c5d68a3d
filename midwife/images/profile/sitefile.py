"""Files in a site that both people and commands change: written whole, one writer at a time, never outside.

The lock is on the directory itself, so nothing of it shows in the user's version control. Knows no YAML.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from midwife.images.errors import ProfileError

__all__ = ["inside", "locked", "write"]


def inside(root: Path, path: Path) -> Path:
    """The path with symbolic links followed, which must not lead out of the site (ProfileError)."""
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise ProfileError(f"{path} leads out of the site, to {real}; change that file itself")
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
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
