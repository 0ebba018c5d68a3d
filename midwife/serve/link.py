"""The asyncio end of the line to the control process, for the HTTP data plane.

Asks are answered out of the cache where the control process said that the answer holds for everybody; reports
go out in order. When the control process is gone the link reconnects with back-off: cached names go on being
served, everything else is answered 503 by the caller, and reports wait in a bounded queue.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from dataclasses import replace
from pathlib import Path

import structlog

from midwife.serve.messages import (
    Ask,
    Content,
    Flush,
    Found,
    Outcome,
    Refused,
    Report,
    decode,
    encode,
    split_attempt,
)

__all__ = ["ControlAway", "ControlLink"]

_ANSWER_TIMEOUT = 10.0  # seconds
_LINE_LIMIT = 8 << 20  # bytes; a rendered configuration in base64 is a few KiB
_REPORTS_KEPT = 10_000


class ControlAway(Exception):
    """The control process cannot be asked now; it is being restarted."""


class ControlLink:
    """One connection to the control process, kept up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._cache: dict[str, Found] = {}
        self._reports: deque[Report] = deque(maxlen=_REPORTS_KEPT)
        self._writer: asyncio.StreamWriter | None = None
        self._log = structlog.get_logger().bind(part="http")

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        delay = 0.05
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._path, limit=_LINE_LIMIT)
            except OSError:
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
                continue
            delay = 0.05
            while self._reports:
                self._writer.write(encode(self._reports.popleft()))
            try:
                await self._read(reader)
            except (OSError, ValueError) as error:
                self._log.warning("control link broken", reason=str(error))
            finally:
                self._lost()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = decode(line)
            match message:
                case Flush():
                    self._cache.clear()
                case Found() | Content() | Refused():
                    waiting = self._waiting.pop(message.id, None)
                    if waiting and not waiting.done():
                        waiting.set_result(message)

    def _lost(self) -> None:
        if self._writer:
            with contextlib.suppress(OSError):
                self._writer.close()
        self._writer = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ControlAway("the control process went away"))
        self._waiting.clear()

    async def ask(self, ask: Ask) -> Outcome:
        """What the name stands for. Raises ControlAway."""
        attempt, rest = split_attempt(ask.name)
        if cached := self._cache.get(rest):
            return replace(cached, attempt=attempt)
        if not self._writer:
            raise ControlAway("the control process is being restarted")
        number = next(self._ids)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(encode(replace(ask, id=number)))
        try:
            outcome: Outcome = await asyncio.wait_for(waiting, _ANSWER_TIMEOUT)
        except TimeoutError:
            raise ControlAway(f"no answer within {_ANSWER_TIMEOUT:.0f} s") from None
        finally:
            self._waiting.pop(number, None)
        if isinstance(outcome, Found) and outcome.cache:
            self._cache[rest] = outcome
            return replace(outcome, attempt=attempt)
        return outcome

    def report(self, report: Report) -> None:
        """Tell what was served; never waits."""
        if self._writer and not self._writer.is_closing():
            self._writer.write(encode(report))
        else:
            self._reports.append(report)
