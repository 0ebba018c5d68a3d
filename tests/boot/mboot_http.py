"""The HTTP client of ESXi's loader when UEFI booted it over HTTP: HEAD for sizes, GET for files, one connection
kept alive, sizes only by Content-Length, at most 20 redirects, each request tried three times at the most.
"""

import contextlib
import http.client
from urllib.parse import quote, urljoin, urlsplit

from .mboot_cfg import NOT_FOUND, PROTOCOL, MbootError

__all__ = ["HttpFiles"]

_AGENT = "esx-boot/2.0"
_REDIRECTS = frozenset({301, 302, 307, 308})
_MAX_REDIRECTS = 20
_TRIES = 3


class HttpFiles:
    """Files by full URL. Every request is noted in the journal as ``HEAD URL`` or ``GET URL``."""

    def __init__(self, journal: list[str], query: tuple[str, ...] = (), *, timeout: float = 10.0) -> None:
        """query: ``key=value`` parameters that are added to every request (mboot's option -q)."""
        self._journal = journal
        self._query = query
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._server = ""
        self.connections = 0
        """How many times it had to connect: 1 where the server keeps the connection alive."""

    def size(self, url: str) -> int:
        """Bytes of the file, by HEAD. Raises MbootError."""
        return self._fetch("HEAD", url)[0]

    def read(self, url: str) -> bytes:
        """The file, by GET. Raises MbootError."""
        return self._fetch("GET", url)[1]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fetch(self, method: str, url: str) -> tuple[int, bytes]:
        target = url
        for _ in range(_MAX_REDIRECTS + 1):
            parts = urlsplit(target)
            if parts.scheme != "http" or not parts.hostname:
                raise MbootError(NOT_FOUND, f"{target} is not a full http URL")
            self._journal.append(f"{method} {target}")
            status, headers, body = self._exchange(method, target)
            if status in _REDIRECTS:
                target = urljoin(target, headers.get("Location", ""))
                continue
            if status != 200:
                raise MbootError(
                    NOT_FOUND if status == 404 else PROTOCOL, f"{method} {target}: HTTP {status}"
                )
            length = headers.get("Content-Length")
            if length is None or not length.isdigit():
                raise MbootError(PROTOCOL, f"{method} {target}: no Content-Length")
            if method == "GET" and len(body) != int(length):
                raise MbootError(PROTOCOL, f"{target}: {len(body)} bytes of {length}")
            return int(length), body
        raise MbootError(PROTOCOL, f"{url}: more than {_MAX_REDIRECTS} redirects")

    def _exchange(self, method: str, url: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        parts = urlsplit(url)
        queries = [text for text in (parts.query, *(quote(word, safe="=") for word in self._query)) if text]
        path = (parts.path or "/") + ("?" + "&".join(queries) if queries else "")
        problem: Exception = OSError("never tried")
        for _ in range(_TRIES):
            try:
                connection = self._connected(parts.netloc)
                connection.request(method, path, headers={"User-Agent": _AGENT, "Accept": "*/*"})
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                problem = error
                self.close()
                continue
            return response.status, response.headers, body
        raise MbootError(PROTOCOL, f"{method} {url}: {problem}")

    def _connected(self, server: str) -> http.client.HTTPConnection:
        if self._connection is None or self._server != server:
            self.close()
            self._connection = http.client.HTTPConnection(server, timeout=self._timeout)
            self._connection.auto_open = (
                0  # a server that closes costs mboot one of its tries; it must cost one here
            )
            self._connection.connect()
            self.connections += 1
            self._server = server
        return self._connection

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()
