"""The data directory and its lock: one service a directory, because two would push to the same hosts."""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DataDirError", "DataDirLock", "lock_data_dir"]

_GLANCE = 0.3  # seconds


class DataDirError(Exception):
    """The data directory cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class DataDirLock:
    """The right to this data directory, until ``release``."""

    fd: int
    crashed: bool
    """The service before us did not end in order: its processes may hold their ports for another moment."""

    def release(self) -> None:
        """An empty lock file is what says that the service ended in order."""
        os.ftruncate(self.fd, 0)
        os.close(self.fd)


def lock_data_dir(path: Path) -> DataDirLock:
    """Make the directory (mode 0700), take its lock, write our process id into it.

    The lock is the kernel's (flock on an open file): it is gone with the process, also after kill -9. Raises
    DataDirError.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirError(
            f"{path}: {error.strerror}; set server.data in midwife.yaml, or run as its owner"
        ) from None
    try:
        return _take(path, fd)
    except BaseException:
        os.close(fd)
        raise


def _lock(fd: int) -> None:
    """Raises BlockingIOError. ``midwife status`` holds the lock for a moment to see whether a service runs."""
    end = time.monotonic() + _GLANCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _take(path: Path, fd: int) -> DataDirLock:
    try:
        _lock(fd)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        raise DataDirError(
            f"{path} is in use by another midwife serve (process {holder}); "
            "stop that one, or give this site a server.data of its own"
        ) from None
    except OSError as error:
        raise DataDirError(
            f"{path} cannot be locked: {error.strerror}; "
            "set server.data in midwife.yaml to a directory on a local disk"
        ) from None
    try:
        crashed = bool(os.pread(fd, 1, 0))
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise DataDirError(
            f"{path} cannot be written: {error.strerror}; make room, or set server.data"
        ) from None
    return DataDirLock(fd, crashed)
