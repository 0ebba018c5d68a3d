"""The asyncio end of the line to the control process, for the HTTP data plane.

Asks are answered out of the cache where the control process said that the answer holds for everybody; reports
go out in order. When the control process is gone the link reconnects with back-off: cached names go on being
served, other asks wait for the new process (firmware that is told 503 gives up booting), and reports wait in a
bounded queue.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from dataclasses import dataclass, replace
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

_ANSWER_TIMEOUT = 10.0  # seconds; a restart of the control process takes one or two
_FIRST_RETRY = 0.05
_LAST_RETRY = 1.0
_LINE_LIMIT = 8 << 20  # bytes; a rendered configuration in base64 is a few KiB
_REPORTS_KEPT = 10_000
_UNSENT_LIMIT = 4 << 20  # bytes in our buffer for a control process that does not read
_NAMES_CACHED = 8192


class ControlAway(Exception):
    """The control process did not answer in time; it may be being restarted."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    ask: Ask
    answer: asyncio.Future[Outcome]


class ControlLink:
    """One connection to the control process, kept up."""

    def __init__(self, path: Path, timeout: float = _ANSWER_TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._cache: dict[str, Found] = {}
        self._reports: deque[Report] = deque(maxlen=_REPORTS_KEPT)
        self._writer: asyncio.StreamWriter | None = None
        self._log = structlog.get_logger().bind(part="http")

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        delay = _FIRST_RETRY
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=_LINE_LIMIT)
            except OSError:
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY)
                continue
            delay = _FIRST_RETRY
            self._connected(writer)
            try:
                await self._read(reader)
                self._log.warning("the control process hung up; cached files are still served")
            except (OSError, ValueError) as error:
                self._log.warning("control link broken", reason=str(error))
            finally:
                self._lost()
            await asyncio.sleep(delay)

    def _connected(self, writer: asyncio.StreamWriter) -> None:
        """What waits goes first: the new process knows nothing of the former one's conversation."""
        self._writer = writer
        self._send_reports()
        for waiting in self._waiting.values():
            writer.write(encode(waiting.ask))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = decode(line)
            match message:
                case Flush():
                    self._cache.clear()
                case Found() | Content() | Refused():
                    waiting = self._waiting.pop(message.id, None)
                    if waiting and not waiting.answer.done():
                        waiting.answer.set_result(message)

    def _lost(self) -> None:
        if self._writer:
            with contextlib.suppress(OSError):
                self._writer.close()
        self._writer = None

    async def ask(self, ask: Ask) -> Outcome:
        """What the name stands for. Raises ControlAway."""
        attempt, rest = split_attempt(ask.name)
        if cached := self._cache.get(rest):
            return replace(cached, attempt=attempt)
        number = next(self._ids)
        waiting = _Waiting(replace(ask, id=number), asyncio.get_running_loop().create_future())
        self._waiting[number] = waiting
        if self._writer:
            self._writer.write(encode(waiting.ask))
        try:
            outcome = await asyncio.wait_for(waiting.answer, self._timeout)
        except TimeoutError:
            raise ControlAway(f"the control process gave no answer within {self._timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if isinstance(outcome, Found) and outcome.cache:
            if len(self._cache) >= _NAMES_CACHED:
                self._cache.clear()
            self._cache[rest] = outcome
            return replace(outcome, attempt=attempt)
        return outcome

    def forget(self, name: str) -> None:
        """A cached answer turned out to be wrong: ask again next time."""
        self._cache.pop(split_attempt(name)[1], None)

    def report(self, report: Report) -> None:
        """Tell what was served; never waits. A control process that is away or does not read misses progress."""
        if report.kind != "progress" or (self._writer and not self._is_full(self._writer)):
            self._reports.append(report)
        self._send_reports()

    def _send_reports(self) -> None:
        while self._reports and self._writer and not self._is_full(self._writer):
            self._writer.write(encode(self._reports.popleft()))

    @staticmethod
    def _is_full(writer: asyncio.StreamWriter) -> bool:
        return writer.is_closing() or writer.transport.get_write_buffer_size() >= _UNSENT_LIMIT
