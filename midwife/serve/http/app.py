"""The boot plane over HTTP (RFC 9110), as UEFI firmware, mboot, iPXE and busybox wget use it.

Every name goes through the control process' resolver. Content-Length is always sent, on HEAD too: mboot sizes
its modules by HEAD and takes a chunked answer for a protocol error. aiohttp's FileResponse gives Range, ETag
and sendfile; the two things that it lets through wrongly (If-Range with another ETag) or cannot know (how much
of the file really left) are mended in ``_Download``.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from midwife.serve.link import ControlAway, ControlLink
from midwife.serve.messages import Ask, Content, Found, Outcome, Refused, Report

__all__ = ["boot_app"]

LINK: web.AppKey[ControlLink] = web.AppKey("link", ControlLink)

_SERVER = "midwife"
_PROGRESS_SECONDS = 0.4
_SLICE = 8 << 20  # bytes
_MAX_NAME = 2048  # characters


def boot_app(link: ControlLink) -> web.Application:
    """The application of the boot plane: one handler for every path, GET and HEAD only."""
    app = web.Application(middlewares=[_plain_errors])
    app[LINK] = link
    app.router.add_route("*", "/{name:.*}", _serve)
    return app


@web.middleware
async def _plain_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors in one line of text: it ends up on a firmware console."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = web.Response(status=error.status, text=f"{error.status} {error.reason}\n")
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    if not response.prepared:
        response.headers[hdrs.SERVER] = _SERVER
    return response


async def _serve(request: web.Request) -> web.StreamResponse:
    if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
        raise web.HTTPMethodNotAllowed(request.method, [hdrs.METH_GET, hdrs.METH_HEAD])
    name = request.match_info["name"]
    link = request.app[LINK]
    client = _host(request.transport, "peername")
    if len(name) > _MAX_NAME or "\0" in name:
        link.report(Report("refused", "http", client, name[:80], detail="name too long or with a zero byte"))
        raise web.HTTPBadRequest(reason="Bad name")
    ask = Ask(
        0,
        "http",
        name,
        client,
        _host(request.transport, "sockname"),
        dict(request.query),
        request.headers.get(hdrs.USER_AGENT, "")[:200],
    )
    try:
        outcome = await link.ask(ask)
    except ControlAway as error:
        structlog.get_logger().warning(
            "not answered", part="http", client=client, name=name, reason=str(error)
        )
        raise web.HTTPServiceUnavailable(
            headers={"Retry-After": "2"}, reason="Restarting, try again"
        ) from None
    return _respond(request, name, client, outcome, link)


def _respond(
    request: web.Request, name: str, client: str, outcome: Outcome, link: ControlLink
) -> web.StreamResponse:
    match outcome:
        case Refused():
            link.report(Report("refused", "http", client, name, detail=outcome.reason))
            return web.Response(status=outcome.status, text=f"{outcome.status} {outcome.reason}\n")
        case Content():
            return _content(request, outcome)
        case Found():
            return _Download(
                outcome, Report("started", "http", client, name, outcome.attempt, size=outcome.size), link
            )


def _content(request: web.Request, content: Content) -> web.Response:
    """A rendered text. It may differ at the next request, so nobody may keep it."""
    tag = f'"{hashlib.sha256(content.body).hexdigest()[:32]}"'
    headers = {hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-store", hdrs.CONTENT_TYPE: content.type}
    if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=content.body, headers=headers)


class _Download(web.FileResponse):
    """A file on its way, reporting how far it came."""

    def __init__(self, found: Found, report: Report, link: ControlLink) -> None:
        super().__init__(Path(found.path), headers={hdrs.CONTENT_TYPE: "application/octet-stream"})
        self._report = report
        self._link = link
        self._began = 0.0

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Answer, without the request headers that must not have a say."""
        unwanted = {hdrs.ACCEPT_ENCODING}  # else aiohttp would serve x.gz for x: mboot unpacks by itself
        if not _range_allowed(request, Path(self._path)):
            unwanted |= {hdrs.RANGE, hdrs.IF_RANGE}
        headers = request.headers.copy()
        for name in unwanted:
            headers.popall(name, None)
        self._began = time.monotonic()
        return await super().prepare(request.clone(headers=headers))

    async def _sendfile(
        self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int
    ) -> AbstractStreamWriter:
        """As the base class does, but in slices, so that a 200 MB module shows progress."""
        writer = await web.StreamResponse.prepare(self, request)
        transport = request.transport
        if writer is None or transport is None:
            raise ConnectionResetError("connection lost")
        loop = asyncio.get_running_loop()
        self._tell("started", 0, f"offset={offset}" if offset else "")
        at, end, told = offset, offset + count, self._began
        try:
            while at < end:
                sent = await loop.sendfile(transport, fobj, at, min(_SLICE, end - at))
                if not sent:
                    raise ConnectionAbortedError("the file became shorter")
                at += sent
                if (now := time.monotonic()) - told >= _PROGRESS_SECONDS and at < end:
                    told = now
                    self._tell("progress", at)
            await self.write_eof()
        except (OSError, asyncio.CancelledError) as error:
            self._tell("aborted", at, str(error) or "client went away")
            transport.abort()
            raise
        self._tell("served", at)
        return writer

    def _tell(self, kind: str, sent: int, detail: str = "") -> None:
        seconds = time.monotonic() - self._began
        self._link.report(replace(self._report, kind=kind, sent=sent, seconds=seconds, detail=detail))


def _range_allowed(request: web.BaseRequest, path: Path) -> bool:
    """RFC 9110 section 13.1.5: with an If-Range ETag that is not ours, the whole file is sent.

    aiohttp evaluates the date form only and answers 206 whatever the ETag says.
    """
    wanted = request.headers.get(hdrs.IF_RANGE, "")
    if not wanted.startswith(('"', "W/")):
        return True
    try:
        stat = path.stat()
    except OSError:
        return True
    return wanted == f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'


def _host(transport: asyncio.Transport | None, which: str) -> str:
    name = transport.get_extra_info(which) if transport else None
    host = str(name[0]) if name else ""
    return host.removeprefix("::ffff:")  # IPv4 on a dual-stack listener
