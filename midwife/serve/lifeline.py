"""What a child process and its supervisor agree on: how the end of either is understood.

A child learns that its supervisor is gone, even by kill -9, because its standard input ends.
"""

import asyncio
import os
import sys
from collections.abc import Callable

__all__ = ["GIVE_UP", "watch_stdin"]

GIVE_UP = 2
"""Exit code for: starting me again will not help, somebody must mend something first."""


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
