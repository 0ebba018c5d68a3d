"""Waiting for what other processes do: for a condition, with a deadline, and saying for what."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["children_of", "ended", "eventually", "process"]

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str, deadline: float = 20.0) -> T:
    """The first true value of the condition. It is asked again and again: there is nothing to be woken by."""
    end = time.monotonic() + deadline
    while True:
        if value := condition():
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"waited {deadline:g} s for: {what}; it is still {value!r}")
        time.sleep(0.02)


def children_of(parent: int) -> dict[int, str]:
    """Process id to command line of the living children."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (directory / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found[int(directory.name)] = (directory / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has just ended
            continue
    return found


def process(parent: int, module: str) -> int:
    """The child that runs ``python -m module``, 0 while there is none."""
    return next((pid for pid, command in children_of(parent).items() if f"-m {module}" in command), 0)


def ended(pid: int) -> bool:
    """Whether the process is gone (a zombie is)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
