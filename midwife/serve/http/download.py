"""One file on its way over HTTP: sendfile, one range, conditional requests, and reports of how far it came.

aiohttp's FileResponse does most of RFC 9110. Mended here is what it gets wrong for boot loaders: it serves
``x.gz`` for ``x`` to clients that accept gzip, answers If-Range and several ranges wrongly, applies ranges to
HEAD, and cannot say how much of the file really left.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from midwife.serve.http.server import SERVER
from midwife.serve.messages import Report

__all__ = ["Download"]

_PROGRESS_SECONDS = 0.4
_SLICE = 4 << 20  # bytes; progress is told between two
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")
_BEYOND = f"bytes={10**18}-"


class Download(web.FileResponse):
    """The answer for a file; ``tell`` gets a report when it starts, moves on and ends, however it ends."""

    def __init__(self, path: Path, report: Report, tell: Callable[[Report], None]) -> None:
        super().__init__(path, headers={hdrs.CONTENT_TYPE: "application/octet-stream", hdrs.SERVER: SERVER})
        self._report = report
        self._tell_all = tell
        self._began = 0.0

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Answer; the request headers that must not have a say are taken off."""
        self._began = time.monotonic()
        writer = await super().prepare(request.clone(headers=_relevant(request, self._path)))
        if self.status in (403, 404):
            self._tell("refused", 0, f"{self._path} cannot be read")
        elif request.method == hdrs.METH_HEAD:
            self._tell("probe", 0)
        elif self.status == 200 and not self.content_length:  # an empty file arrives without sendfile
            self._tell("served", 0)
        return writer

    async def _prepare_headers(self) -> None:
        if self.status >= 400:
            self.content_length = 0  # else aiohttp says "chunked" for the empty body of a 404 or 416
        await super()._prepare_headers()

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
                if transport.is_closing():
                    raise ConnectionResetError("client went away")
                sent = await loop.sendfile(transport, fobj, at, min(_SLICE, end - at))
                if not sent:
                    raise ConnectionAbortedError("the file became shorter")
                at += sent
                if (now := time.monotonic()) - told >= _PROGRESS_SECONDS and at < end:
                    told = now
                    self._tell("progress", at)
            await self.write_eof()
        except asyncio.CancelledError:
            self._tell("aborted", at, "the service stops")
            transport.abort()
            raise
        except (OSError, RuntimeError) as error:  # RuntimeError: asyncio's word for a transport being closed
            self._tell("aborted", at, str(error) or "client went away")
            transport.abort()
            raise ConnectionAbortedError(str(error)) from None
        self._tell("served", at)
        return writer

    def _tell(self, kind: str, sent: int, detail: str = "") -> None:
        seconds = time.monotonic() - self._began
        self._tell_all(replace(self._report, kind=kind, sent=sent, seconds=seconds, detail=detail))


def _relevant(request: web.BaseRequest, path: Path) -> CIMultiDict[str]:
    """The request's headers without Accept-Encoding, If-Range (evaluated here) and ranges that do not count."""
    headers = CIMultiDict(request.headers)
    asked = headers.get(hdrs.RANGE)
    for name in (hdrs.ACCEPT_ENCODING, hdrs.IF_RANGE, hdrs.RANGE):
        headers.popall(name, None)
    if asked and request.method == hdrs.METH_GET and _if_range_holds(request, path):
        one = _single_range(asked)
        if one:
            headers[hdrs.RANGE] = one
    return headers


def _single_range(text: str) -> str:
    """The Range header if it names one range, "" for what is to be ignored (RFC 9110 section 14.2).

    Several ranges are answered with the whole file, which is always allowed and never needs multipart.
    """
    match = _RANGE.fullmatch(text.strip())
    if not match:
        return ""
    first, last, suffix = match.groups()
    if suffix is not None:
        return (
            text.strip() if int(suffix) else _BEYOND
        )  # the last 0 bytes: 416 (section 14.1.2), not all of it
    return "" if last and int(last) < int(first) else text.strip()


def _if_range_holds(request: web.BaseRequest, path: Path) -> bool:
    """RFC 9110 section 13.1.5: unless the validator is exactly ours, the whole file is sent."""
    wanted = request.headers.get(hdrs.IF_RANGE, "").strip()
    if not wanted:
        return True
    try:
        found = path.stat()
        if wanted.startswith(('"', "W/")):
            return wanted == f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
        return parsedate_to_datetime(wanted).timestamp() == math.ceil(found.st_mtime)
    except (OSError, ValueError, OverflowError):
        return False
