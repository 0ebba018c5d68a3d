"""The connections of the boot plane: aiohttp's low-level server with our limits and our way of telling errors.

aiohttp logs a traceback for every malformed request and names its own and Python's version in the answer; on a
hostile network the first is a flood and the second a gift. It knows no names and no files.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import hdrs, web

__all__ = ["SERVER", "BootServer", "peer_address", "plain_answer"]

SERVER = "midwife"
"""Our name in answers; versions are nobody's business on a boot network."""
_IDLE = 60.0
"""Seconds that a connection may go without a complete request, at its start (slow or silent clients) and
between two (mboot keeps one connection for all its modules)."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Malformed = Callable[[str, str], None]
"""Told the client's address and what was wrong."""


class BootServer(web.Server):
    """Makes the protocol of each connection; ``handler`` answers one request."""

    def __init__(self, handler: Handler, malformed: Malformed, idle: float = _IDLE) -> None:
        super().__init__(handler)
        self._malformed = malformed
        self._idle = idle

    def __call__(self) -> web.RequestHandler:
        """A connection's protocol, as ``loop.create_server`` wants it."""
        return _Connection(self, self._malformed, self._idle)


class _Connection(web.RequestHandler):
    def __init__(self, server: BootServer, malformed: Malformed, idle: float) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=idle,
            lingering_time=2.0,
        )
        self._malformed = malformed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """One line for the log, one for the client, and the end of the connection."""
        client = peer_address(request, "peername")
        if status < 500:
            # aiohttp's message quotes the bytes over several lines; the first says what is wrong.
            text = (message or str(exc)).splitlines()
            self._malformed(client, text[0][:200] if text else "not HTTP")
        else:
            structlog.get_logger().error(
                "bug in the HTTP server; please report it", client=client, exc_info=exc
            )
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was under way already")
        answer = plain_answer(status, f"{status} {'Bad Request' if status < 500 else 'Internal error'}\n")
        answer.force_close()
        return answer


def plain_answer(
    status: int, body: str | bytes | None, headers: Mapping[Any, str] | None = None
) -> web.Response:
    """An answer under our name. Texts are one line: they end up on a firmware console."""
    raw = body.encode(errors="backslashreplace") if isinstance(body, str) else body
    given = {hdrs.CONTENT_TYPE: "text/plain; charset=utf-8", **(headers or {}), hdrs.SERVER: SERVER}
    return web.Response(status=status, body=raw, headers=given)


def peer_address(request: web.BaseRequest, which: str) -> str:
    """The client's (``peername``) or our own (``sockname``) address, without port."""
    transport = request.transport
    name = transport.get_extra_info(which) if transport else None
    host = str(name[0]) if name else ""
    return host.removeprefix("::ffff:")  # IPv4 on a dual-stack listener
