"""The boot plane over HTTP (RFC 9110), as UEFI firmware, mboot, iPXE and busybox wget use it.

Every name goes through the control process' resolver; nothing is decided here. Content-Length is always sent, on
HEAD and on refusals too: mboot sizes its modules by HEAD and takes a chunked answer for a protocol error.
"""

import hashlib
from pathlib import Path

import structlog
from aiohttp import hdrs, web

from midwife.serve.http.download import Download
from midwife.serve.http.server import BootServer, peer_address, plain_answer
from midwife.serve.link import ControlAway, ControlLink
from midwife.serve.messages import Ask, Content, Found, Outcome, Refused, Report

__all__ = ["boot_server"]

_MAX_NAME = 2048  # characters


def boot_server(link: ControlLink) -> BootServer:
    """The protocol of the boot plane: one handler for every path, GET and HEAD only."""

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        return await _serve(request, link)

    def malformed(client: str, reason: str) -> None:
        link.report(Report("malformed", "http", client, detail=reason))

    return BootServer(serve, malformed)


async def _serve(request: web.BaseRequest, link: ControlLink) -> web.StreamResponse:
    if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
        return plain_answer(405, "405 only GET and HEAD\n", {hdrs.ALLOW: "GET, HEAD"})
    name = request.path.removeprefix("/")
    client = peer_address(request, "peername")
    if len(name) > _MAX_NAME or "\0" in name:
        link.report(Report("refused", "http", client, name[:80], detail="name too long or with a zero byte"))
        return plain_answer(400, "400 Bad name\n")
    ask = Ask(
        0,
        "http",
        name,
        client,
        peer_address(request, "sockname"),
        dict(request.query),
        request.headers.get(hdrs.USER_AGENT, "")[:200],
    )
    try:
        outcome = await link.ask(ask)
    except ControlAway as error:
        structlog.get_logger().warning(
            "not answered", part="http", client=client, name=name, reason=str(error)
        )
        return plain_answer(503, "503 Restarting, try again\n", {hdrs.RETRY_AFTER: "2"})
    return _respond(request, ask, outcome, link)


def _respond(request: web.BaseRequest, ask: Ask, outcome: Outcome, link: ControlLink) -> web.StreamResponse:
    client, name = ask.client, ask.name
    match outcome:
        case Refused():
            link.report(Report("refused", "http", client, name, detail=outcome.reason))
            return plain_answer(outcome.status, f"{outcome.status} {outcome.reason}\n")
        case Content():
            return _content(request, outcome)
        case Found():

            def tell(report: Report) -> None:
                if report.kind == "refused":
                    link.forget(name)  # removed or replaced under us; the control process knows better by now
                link.report(report)

            started = Report("started", "http", client, name, outcome.attempt, size=outcome.size)
            return Download(Path(outcome.path), started, tell)


def _content(request: web.BaseRequest, content: Content) -> web.Response:
    """A rendered text. It may differ at the next request, so nobody may keep it."""
    tag = f'"{hashlib.sha256(content.body).hexdigest()[:32]}"'
    headers = {hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-store", hdrs.CONTENT_TYPE: content.type}
    if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
        return plain_answer(304, None, headers)
    return plain_answer(200, content.body, headers)
