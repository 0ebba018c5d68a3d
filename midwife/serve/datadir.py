"""The data directory and its lock: one service a directory, because two would push to the same hosts."""

import fcntl
import os
from pathlib import Path

__all__ = ["DataDirError", "lock_data_dir"]


class DataDirError(Exception):
    """The data directory cannot be used; the text says why and what to do."""


def lock_data_dir(path: Path) -> int:
    """Make the directory (mode 0700), take its lock, write our process id into it.

    The lock is the kernel's (flock on an open file): it is gone with the process, also after kill -9. Returns
    the file descriptor that holds it. Raises DataDirError.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirError(
            f"{path}: {error.strerror}; set server.data in midwife.yaml, or run as its owner"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise DataDirError(
            f"{path} is in use by another midwife serve (process {holder}); "
            "stop that one, or give this site a server.data of its own"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
