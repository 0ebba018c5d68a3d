"""The control process' end of the Unix socket: the data plane asks here what names stand for, and reports.

One connection per data-plane process. Only our own user can open the socket (its file is mode 0600), so what
comes through it is trusted to be well formed; a broken line ends that connection, which then reconnects.
"""

import asyncio
import socket
from collections.abc import Callable

import structlog

from midwife.serve.messages import Ask, Flush, Outcome, Report, decode, encode

__all__ = ["Desk"]

_LINE_LIMIT = 1 << 20  # bytes


class Desk:
    """Answers the data plane."""

    def __init__(self, resolve: Callable[[Ask], Outcome], report: Callable[[Report], None]) -> None:
        self._resolve = resolve
        self._report = report
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._log = structlog.get_logger().bind(part="control")

    async def start(self, listener: socket.socket) -> None:
        """Take over the bound, listening socket."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LINE_LIMIT)

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
                        writer.write(encode(self._resolve(ask)))
                        await writer.drain()
                    case Report() as report:
                        self._report(report)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.warning("data plane connection lost", reason=f"{type(error).__name__}: {error}")
        finally:
            self._writers.discard(writer)
            writer.close()
