"""Looks at every imported image when the service starts and when its site is read again.

In a thread, and only files that were touched since they were looked at last are read: nobody waits for it. What
is wrong is told in the log and the timeline; the library refuses the image by what verify.py recorded.
"""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from midwife.images.boot import imported
from midwife.images.boot.verify import Verdict, verify_image
from midwife.images.errors import ImageError

__all__ = ["ImageCheck"]

Note = Callable[[str, str], None]


class ImageCheck:
    """One check at a time; a new one ends the one before."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._log = structlog.get_logger().bind(part="control")
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()

    def start(self, images_dir: Path) -> None:
        """Begin; returns at once. Needs a running event loop."""
        self.close()
        self._stop = threading.Event()
        self._task = asyncio.create_task(self._run(images_dir, self._stop))

    def close(self) -> None:
        """End it within a block of a file."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, images_dir: Path, stop: threading.Event) -> None:
        for name in await asyncio.to_thread(imported.stored, images_dir):
            try:
                verdict = await asyncio.to_thread(
                    verify_image, images_dir, name, every=False, stop=stop.is_set
                )
            except (ImageError, OSError) as error:
                self._log.warning("image.unverified", image=name, reason=str(error))
            else:
                self._tell(verdict)

    def _tell(self, verdict: Verdict) -> None:
        if not verdict.problems:
            self._log.info("image.verified", image=verdict.name, files=verdict.files, read=verdict.hashed)
            return
        problems = list(verdict.problems[:20])
        self._log.error("image.broken", image=verdict.name, problems=problems, count=len(verdict.problems))
        more = f" (and {len(verdict.problems) - 1} more files)" if len(verdict.problems) > 1 else ""
        self._note("image-broken", f"{verdict.name} is out of service: {verdict.problems[0]}{more}")
