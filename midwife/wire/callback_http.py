"""The head of an HTTP request that carries a callback, and the response around the reply line.

Just enough of RFC 9112 for one POST per connection from the small clients of boot environments (busybox wget,
http.client, curl, an HTTP/1.0 line typed into nc). Pure: no sockets, no clock; the body is not looked at.
"""

import re
from dataclasses import dataclass

from midwife.wire.callback import Reply, Verdict, encode_reply

__all__ = ["MAX_HEAD", "HttpError", "HttpHead", "encode_response", "is_http", "parse_head"]

MAX_HEAD = 8192
"""Longest request head in bytes, empty line included."""

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,4096}) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*(.*?)[ \t]*")
_PHRASE = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_STATUS = {Verdict.OK: 200, Verdict.LATER: 503, Verdict.REFUSED: 403}


class HttpError(ValueError):
    """The request cannot carry a callback: ``status`` for the client, ``reason`` for it and the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class HttpHead:
    """A POST that we can take."""

    minor: int
    """Minor version of HTTP/1: 0 or 1."""
    length: int | None
    """Content-Length in bytes; None: the body ends with its line or the connection."""
    expects_continue: bool = False
    """The client waits for ``100 Continue`` before it sends the body (curl does)."""


def is_http(line: bytes) -> bool:
    """Whether the first line of a connection is an HTTP/1 request line."""
    return _REQUEST_LINE.fullmatch(line.rstrip(b"\r\n")) is not None


def parse_head(data: bytes) -> HttpHead:
    """The head of a POST, up to and including its empty line. Raises HttpError for everything else."""
    if len(data) > MAX_HEAD:
        raise HttpError(431, f"the request head is longer than {MAX_HEAD} bytes")
    # RFC 9112 section 2.2 lets a server take a bare LF for a line end; people type requests into nc.
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    request = _REQUEST_LINE.fullmatch(lines[0])
    if not request:
        raise HttpError(400, "not an HTTP/1 request line")
    headers: dict[bytes, bytes] = {}
    for line in lines[1:]:
        if not line:
            break
        found = _FIELD.fullmatch(line)
        if not found:
            raise HttpError(400, "malformed header field")
        name = found[1].lower()
        # Two lengths that differ are request smuggling (RFC 9112 section 6.3).
        if name == b"content-length" and headers.get(name, found[2]) != found[2]:
            raise HttpError(400, "two different Content-Length fields")
        headers[name] = found[2]
    if request[1] != b"POST":
        raise HttpError(405, "callbacks are POST requests; see docs/reference/callback.md")
    if b"transfer-encoding" in headers:
        raise HttpError(411, "send the message with Content-Length, not chunked")
    minor = int(request[3])
    expects = minor == 1 and headers.get(b"expect", b"").lower() == b"100-continue"
    length = headers.get(b"content-length")
    if length is None:
        return HttpHead(minor, None, expects)
    if not re.fullmatch(rb"[0-9]{1,9}", length):
        raise HttpError(400, "Content-Length is not a number")
    return HttpHead(minor, int(length), expects)


def encode_response(reply: Reply, status: int = 0, *, with_body: bool = True) -> bytes:
    """The whole HTTP response around a reply; ``status`` 0: 200 for ok, 503 for later, 403 for refused.

    ``with_body=False`` answers HEAD: the length is told, the body left out.
    """
    body = encode_reply(reply)
    code = status or _STATUS[reply.verdict]
    head = [
        f"HTTP/1.1 {code} {_PHRASE[code]}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if code == 405:
        head.append("Allow: POST")
    if reply.verdict is Verdict.LATER:
        head.append(f"Retry-After: {reply.seconds or 30}")
    return ("\r\n".join(head) + "\r\n\r\n").encode() + (body if with_body else b"")
