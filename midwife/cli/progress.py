"""Progress of long work on stderr: a bar on a terminal, a line now and then in a log.

Rich is imported when a bar is drawn, not before: other commands must answer at once.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from midwife.cli.common import printable
from midwife.images.flow import Progress

__all__ = ["progress_shown"]


@contextmanager
def progress_shown(name: str, *, quiet: bool) -> Iterator[Progress | None]:
    """A bar on a terminal; elsewhere a line at most every two seconds, for logs; None if ``quiet``."""
    name = printable(name)
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        # A file's name is no markup and no format: it goes in as the task's description.
        label = TextColumn("{task.description}", markup=False)
        with Bar(
            label, BarColumn(), DownloadColumn(True), TimeRemainingColumn(), console=Console(stderr=True)
        ) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total or None)
    else:
        yield _Lines(name)


class _Lines:
    """Progress for logs: no more than one line every two seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = time.monotonic()
        self._done = -1

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if (now >= self._next or done == total) and done != self._done:
            self._next = now + 2
            self._done = done
            how_far = f"{done * 100 // total} %" if total else f"{done >> 20} MiB"
            click.echo(f"{self._name}: {how_far}", err=True)
