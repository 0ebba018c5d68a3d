"""A lab's name and working directory, and the clean-up after labs whose process died without cleaning up.

A live lab holds a lock on a file in its directory. A directory whose lock can be had is a dead lab's: what
carries its name (processes by an environment variable, network namespaces by their names) is removed.
"""

import atexit
import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self, TypeVar

from .process import descendants_of_lab, stop_pids

__all__ = ["LabBase", "LabError", "run"]

_PREFIX = "mwl"


class _Stoppable(Protocol):
    def stop(self) -> None: ...


_S = TypeVar("_S", bound=_Stoppable)


class LabError(Exception):
    """This machine cannot have such a lab; the message says what is missing."""


def run(*argv: str) -> str:
    """The output of a command that must succeed. Raises LabError with what it said."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise LabError(f"no command {argv[0]} here") from None
    if done.returncode != 0:
        raise LabError(f"'{' '.join(argv)}' failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class LabBase:
    """What every lab has: a unique name, a directory for logs, and children that end with it.

    Used as a context manager, or with ``close``; an exit of Python without either closes it, too.
    """

    def __init__(self, logs: Path | None = None) -> None:
        """logs: where consoles and logs are written and stay; none: the lab's own directory, which goes."""
        with _turn() as home:
            _sweep(home)
            self.name = f"{_PREFIX}{secrets.token_hex(3)}"
            self._home = home / self.name
            self._home.mkdir(mode=0o700)
            self._lock = _lock(self._home)
        self.workdir = logs or self._home
        self.workdir.mkdir(parents=True, exist_ok=True)
        self._children: list[_Stoppable] = []
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every child, removes the namespaces and the lab's own directory. May be called again."""
        atexit.unregister(self.close)
        for child in reversed(self._children):
            child.stop()
        self._children.clear()
        _remove(self._home)
        self._lock.close()

    def keep(self, child: _S) -> _S:
        """Has the lab stop this process or machine when it closes."""
        self._children.append(child)
        return child


def _home() -> Path:
    """The directory of this user's labs; refused if somebody else has put it there."""
    home = Path(tempfile.gettempdir()) / f"midwife-labs-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        raise LabError(f"{home} belongs to somebody else; remove it or set TMPDIR")
    return home


def _lock(directory: Path) -> IO[str]:
    """Raises BlockingIOError while somebody else holds it."""
    handle = (directory / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise
    return handle


@contextmanager
def _turn() -> Iterator[Path]:
    """The directory of labs, while nobody else makes or sweeps one."""
    home = _home()
    with (home / "turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield home


def _sweep(home: Path) -> None:
    """Removes what dead labs left."""
    for directory in home.iterdir():
        if not directory.is_dir():
            continue
        try:
            handle = _lock(directory)
        except BlockingIOError:  # held: that lab lives
            continue
        with handle:
            _remove(directory)


def _remove(directory: Path) -> None:
    name = directory.name
    stop_pids(descendants_of_lab(name))
    for namespace in Path("/run/netns").glob(f"{name}-*"):
        subprocess.run(["ip", "netns", "del", namespace.name], check=False, capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)
