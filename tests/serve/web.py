"""Web clients that show everything: raw bytes in, raw bytes out, one connection or many, fast or slow."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Answer", "Connection", "connect", "fetch"]

_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)


class Connection:
    """One TCP connection, used as often as the server allows."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""

    def send(self, text: str | bytes) -> None:
        """Exactly these bytes."""
        self.sock.sendall(text.encode("latin-1") if isinstance(text, str) else text)

    def ask(self, target: str, method: str = "GET", version: str = "1.1", **headers: str) -> Answer:
        """One request and its answer. Header names are written with _ for -."""
        lines = [f"{method} {target} HTTP/{version}"]
        if version == "1.1":
            lines.append("Host: boot")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]))
        return self.answer(method)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer; the body stays to be read."""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._some()
        text, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, as long as its Content-Length says; every answer of the boot plane has one."""
        status, headers = self.head()
        assert "transfer-encoding" not in headers, "mboot takes a chunked answer for a protocol error"
        length = 0 if method == "HEAD" or status == 304 else int(headers["content-length"])
        return Answer(status, headers, self.read(length))

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        parts, left = [], count
        while left:
            if not self._rest:
                self._rest = self._some()
            part, self._rest = self._rest[:left], self._rest[left:]
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def at_end(self) -> bool:
        """Whether the server hangs up, without another byte, within the patience of the socket."""
        try:
            return not self._rest and not self.sock.recv(1)
        except ConnectionError:
            return not self._rest

    def _some(self) -> bytes:
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError("the server hung up")
        return data


@contextmanager
def connect(port: int, *, buffer: int = 0) -> Iterator[Connection]:
    """A connection to 127.0.0.1; a small receive buffer makes a slow reader."""
    with socket.socket() as sock:
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.settimeout(_PATIENCE)
        sock.connect(("127.0.0.1", port))
        yield Connection(sock)


def fetch(port: int, target: str, method: str = "GET", version: str = "1.1", **headers: str) -> Answer:
    """One request on a connection of its own."""
    with connect(port) as connection:
        return connection.ask(target, method, version, **headers)
