"""How a child process learns that its supervisor is gone, even by kill -9: its standard input ends."""

import asyncio
import os
import sys
from collections.abc import Callable

__all__ = ["watch_stdin"]


def watch_stdin(loop: asyncio.AbstractEventLoop, gone: Callable[[], object]) -> None:
    """Call ``gone`` once when standard input reaches end of file; nothing ever comes through it."""
    fd = sys.stdin.fileno()
    os.set_blocking(fd, False)

    def readable() -> None:
        try:
            if os.read(fd, 64):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        loop.remove_reader(fd)
        gone()

    loop.add_reader(fd, readable)
