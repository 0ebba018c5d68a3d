"""Network namespaces: commands and sockets inside them.

A socket belongs to the namespace of the thread that made it, for ever; so a thread that has entered the
namespace makes it, and anybody may use it. Linux only, needs root.
"""

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .state import run

__all__ = ["Namespace"]

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000  # sched.h


class Namespace:
    """A network namespace that is there already, by the name ``ip netns`` knows it by."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def create(cls, name: str) -> "Namespace":
        """Makes it, with its loopback up. Raises LabError."""
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        return cls(name)

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words before a command that make it run inside."""
        return ("ip", "netns", "exec", self.name)

    def ip(self, command: str) -> None:
        """``ip`` with these words inside the namespace. Raises LabError."""
        run("ip", "-n", self.name, *command.split())

    def set_ipv6(self, name: str, value: int) -> None:
        """Sets net.ipv6.conf.default.NAME, for interfaces still to be made; no effect where /proc is read-only."""
        with contextlib.suppress(OSError):
            self.call(lambda: Path(f"/proc/sys/net/ipv6/conf/default/{name}").write_text(str(value)))

    def call(self, function: Callable[[], _T]) -> _T:
        """What the function returns (or raises) when it runs in a thread inside the namespace."""
        result: list[_T] = []
        problem: list[BaseException] = []

        def inside() -> None:
            try:
                self._enter()
                result.append(function())
            except BaseException as error:  # handed to the caller below
                problem.append(error)

        thread = threading.Thread(target=inside, name=f"in {self.name}")
        thread.start()
        thread.join()
        if problem:
            raise problem[0]
        return result[0]

    def connect(self, address: str, port: int, timeout: float = 5.0) -> socket.socket:
        """A TCP connection made from inside. Raises OSError."""
        return self.call(lambda: socket.create_connection((address, port), timeout=timeout))

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        handle = os.open(Path("/run/netns") / self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(handle, _CLONE_NEWNET) != 0:
                error = ctypes.get_errno()
                raise OSError(error, f"cannot enter the network namespace {self.name}: {os.strerror(error)}")
        finally:
            os.close(handle)
