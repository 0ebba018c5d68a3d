"""The control process' end of the Unix socket: the data plane asks here what names stand for, and reports.

One connection per data-plane process. Only our own user can open the socket (its file is mode 0600), so what
comes through it is trusted to be well formed; a broken line ends that connection, which then reconnects. A bug
in an answer must not: every host's next question comes through the same connection.
"""

import asyncio
import contextlib
import socket
import traceback
from collections.abc import Callable

import structlog

from midwife.serve.messages import Ask, Flush, Outcome, Push, Pushed, Refused, Report, decode, encode

__all__ = ["Desk"]

_LINE_LIMIT = 1 << 20  # bytes


class Desk:
    """Answers the data plane."""

    def __init__(
        self,
        resolve: Callable[[Ask], Outcome],
        report: Callable[[Report], None],
        push: Callable[[Push], Pushed],
    ) -> None:
        self._resolve = resolve
        self._report = report
        self._push = push
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._log = structlog.get_logger().bind(part="control")

    async def start(self, listener: socket.socket) -> None:
        """Take over the bound, listening socket."""
        # Not start_unix_server: from Python 3.13 on it removes the socket's file when it closes, and the next
        # control process listens on the same socket, under the same name.
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=_LINE_LIMIT)

    async def close(self) -> None:
        """Hang up on everybody."""
        if self._server:
            self._server.close()
        for writer in list(self._writers):
            writer.close()

    def flush(self) -> None:
        """Tell every data plane to forget its cached answers."""
        for writer in self._writers:
            writer.write(encode(Flush()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            writer.write(encode(Flush()))  # whatever it cached was learned from a former control process
            while line := await reader.readline():
                match decode(line):
                    case Ask() as ask:
                        writer.write(encode(self._answer(ask)))
                        await writer.drain()
                    case Report() as report:
                        self._take(report)
                    case Push() as push:
                        writer.write(encode(self._push(push)))
                        await writer.drain()
        except (OSError, ValueError) as error:
            self._log.warning("data plane connection lost", reason=f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            pass  # the service stops; Python 3.11 logs a cancelled connection task as an error of ours
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()

    def _answer(self, ask: Ask) -> Outcome:
        try:
            return self._resolve(ask)
        except Exception:
            # Formatted here: renderers that print local variables would print tokens.
            self._log.error(
                "bug in answering a name; please report it",
                proto=ask.proto,
                client=ask.client,
                name=ask.name,
                traceback=traceback.format_exc(),
            )
            return Refused(ask.id, "internal error; the service's log says more", 500)

    def _take(self, report: Report) -> None:
        try:
            self._report(report)
        except Exception:
            self._log.error(
                "bug in taking a report; please report it", kind=report.kind, traceback=traceback.format_exc()
            )
