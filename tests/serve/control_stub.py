"""A control process for data-plane tests: the real desk, with answers from a directory and reports in a list."""

import asyncio
import socket
import threading
from collections import Counter
from pathlib import Path

from midwife.serve.control.desk import Desk
from midwife.serve.messages import Ask, Content, Found, Outcome, Pushed, Refused, Report, split_attempt
from midwife.serve.names import BadName, clean

__all__ = ["ControlStub"]


class ControlStub:
    """Serves one Unix socket from a thread of its own."""

    def __init__(self, tree: Path, path: Path) -> None:
        self.tree = tree
        self.path = path
        self.texts: dict[str, bytes] = {}
        """Name to rendered text."""
        self.asked: Counter[str] = Counter()
        self._reports: list[Report] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._desk = Desk(self._resolve, self._report, lambda push: Pushed(push.id, False, ""))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._desk.start(self._listener), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._listener.close()

    def flush(self) -> None:
        """As after a change of the site."""
        self._loop.call_soon_threadsafe(self._desk.flush)

    def wait(self, kind: str, attempt: str = "") -> Report:
        """The first report of this kind (for this attempt). Tests tell their reports apart by the attempt."""
        with self._changed:
            found: list[Report] = []

            def there() -> bool:
                found[:] = [one for one in self._reports if one.kind == kind and one.attempt == attempt]
                return bool(found)

            assert self._changed.wait_for(there, 20), (
                f"no report {kind!r} of {attempt!r} in {self._reports[-20:]}"
            )
            return found[0]

    def has(self, kind: str, attempt: str) -> bool:
        """Whether there is such a report now."""
        with self._changed:
            return any(one.kind == kind and one.attempt == attempt for one in self._reports)

    def forget_reports(self) -> None:
        """For what has no attempt: only reports from here on count."""
        with self._changed:
            self._reports.clear()

    async def _hang_up(self) -> None:
        await self._desk.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _resolve(self, ask: Ask) -> Outcome:
        self.asked[ask.name] += 1
        attempt, rest = split_attempt(ask.name)
        if rest in self.texts:
            return Content(ask.id, self.texts[rest], attempt)
        try:
            path = self.tree / clean(rest)
        except BadName as error:
            return Refused(ask.id, str(error), 403)
        if not path.is_file():
            return Refused(ask.id, f"no file {rest[:80]!r}")
        return Found(ask.id, str(path), path.stat().st_size, attempt, cache=True)

    def _report(self, report: Report) -> None:
        with self._changed:
            self._reports.append(report)
            self._changed.notify_all()
