"""One question to a web server: redirects, TLS, patience, and what went wrong in words.

RFC 9110 for redirects. ``Broken`` is worth another attempt, ImageError is not; neither tells the secrets of an
address. Knows nothing of files and depots.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from midwife.images.depot.sources.urls import check_url, exact_url, shown_url
from midwife.images.errors import ImageError

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Broken", "Patience", "answered", "plain"]

_REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
_WORDS = {"ClientPayloadError": "it ended too early", "ClientResponseError": "the answer is not HTTP"}


@dataclass(frozen=True, slots=True)
class Patience:
    """All in seconds, except ``slowest`` (bytes a window) and ``fruitless`` (attempts in a row)."""

    connect: float = 30
    headers: float = 60
    silence: float = 60
    """Between two pieces of a body."""
    window: float = 120
    slowest: int = 64 << 10
    """Whoever sends less than this in a window (500 bytes a second) will never be done."""
    pause: float = 2
    """Before the next attempt."""
    fruitless: int = 3
    """Attempts that bring less than ``slowest`` before we give up."""


class Broken(Exception):
    """The connection broke, or the server is busy: worth another attempt."""


@asynccontextmanager
async def answered(
    url: str, headers: Mapping[str, str], patience: Patience
) -> "AsyncIterator[aiohttp.ClientResponse]":
    """The answer to GET, whatever its status; its body is still to be read. Raises Broken and ImageError."""
    import aiohttp  # not above: `midwife depot list` needs no HTTP client

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience.connect, sock_read=patience.silence)
    try:
        async with aiohttp.ClientSession(
            timeout=timeout, trust_env=True, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            async with asyncio.timeout(patience.connect + patience.headers):
                answer = await _follow(session, url, headers)
            async with answer:
                yield answer
    except aiohttp.ClientConnectorSSLError as error:
        raise ImageError(
            f"{shown_url(url)}: no TLS with this server: {_reason(error)}; is it http://?"
        ) from None
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
        raise ImageError(
            f"{shown_url(url)}: the server's certificate is not trusted: {_reason(error)}; "
            "add its CA to the system's, or name it in SSL_CERT_FILE"
        ) from None
    except aiohttp.InvalidURL:
        raise ImageError(f"{shown_url(url)} leads to no usable address") from None
    except TimeoutError:
        raise Broken("the server takes too long to answer, or sends next to nothing") from None
    except aiohttp.ClientConnectionResetError as error:
        raise Broken(f"the connection broke: {_reason(error)}") from None
    except aiohttp.ClientConnectorError as error:
        raise Broken(f"no connection: {_reason(error)}") from None
    except aiohttp.ClientError as error:
        raise Broken(f"the connection broke: {_reason(error)}") from None


async def _follow(
    session: "aiohttp.ClientSession", start: str, headers: Mapping[str, str]
) -> "aiohttp.ClientResponse":
    """Redirects by hand: few, to http and https only, and never from https back to http."""
    from yarl import URL

    url, shown = start, shown_url(start)
    for _ in range(_REDIRECTS + 1):
        # aiohttp's own context is made when it is imported; this one is of now.
        trust: Any = ssl.create_default_context() if url.lower().startswith("https:") else True
        try:
            address = URL(exact_url(url), encoded=True)
        except ValueError:
            raise ImageError(f"{shown} leads to no usable address") from None
        answer = await session.get(address, headers=headers, allow_redirects=False, ssl=trust)
        if answer.status not in _MOVED:
            return answer
        answer.close()
        try:
            to = urljoin(url, answer.headers.get("Location", ""))
        except ValueError:
            raise ImageError(f"{shown} leads to no usable address") from None
        try:
            check_url(to)
        except ImageError as error:
            raise ImageError(f"{shown} leads elsewhere: {error}") from None
        if url.lower().startswith("https:") and not to.lower().startswith("https:"):
            raise ImageError(f"{shown} leads from https to plain http: {shown_url(to)}; refused")
        url = to
    raise ImageError(f"{shown} leads from one address to the next, more than {_REDIRECTS} times")


def plain(text: str) -> str:
    """What a server says, on one line and not for long."""
    return "".join(c if c.isprintable() else "?" for c in text[:80])


def _reason(error: BaseException) -> str:
    """Without the address, which may hold a secret."""
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    text = (
        getattr(inner, "verify_message", "")
        or getattr(inner, "strerror", "")
        or _WORDS.get(type(inner).__name__, type(inner).__name__)
    )
    return plain(str(text))
