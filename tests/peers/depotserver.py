"""A web server on loopback that has a depot, with Range and validators as RFC 9110 has them, and with faults.

Of the standard library only, and no code of midwife's. It keeps what it was asked, in order.
"""

import hashlib
import re
import ssl
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["Asked", "DepotServer", "Fault", "files_of", "serving"]


def files_of(bundle: Path) -> dict[str, bytes]:
    """A bundle unpacked is an online depot."""
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@dataclass(frozen=True)
class Asked:
    """A request."""

    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> str:
        """Of the Range header."""
        return self.headers.get("Range", "")


@dataclass
class Fault:
    """What goes wrong with a file, ``times`` times (-1: always); what stays None is as it should be."""

    times: int = 1
    status: int | None = None
    location: str | None = None
    cut: int | None = None
    """The connection breaks after so many bytes of the body."""
    length: int | None = None
    """Content-Length that lies."""
    coding: str | None = None
    """Content-Encoding."""
    no_range: bool = False
    """Range is ignored."""
    no_validator: bool = False
    content_range: str | None = None
    no_length: bool = False
    """No Content-Length: the body ends with the connection."""
    drip: float | None = None
    """Seconds between single bytes of the body."""
    silent: bool = False
    """No answer at all, until the server stops."""


@dataclass
class DepotServer:
    """``files`` by path without the leading slash; all of it may be changed while it serves."""

    files: dict[str, bytes]
    faults: dict[str, Fault] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    before: Callable[[str], None] = lambda _: None
    """Called with each path before it is answered."""

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [one.path for one in self.asked]

    def fault(self, path: str) -> Fault:
        """The fault that is due now."""
        found = self.faults.get(path)
        if found is None or found.times == 0:
            return Fault()
        found.times -= 1
        return found


def _handler(server: DepotServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.split("?")[0].lstrip("/")
            server.asked.append(Asked(path, dict(self.headers)))
            server.before(path)
            self.close_connection = True
            fault = server.fault(path)
            if fault.silent:
                server.stopped.wait(30)
                return
            if fault.status is not None:
                self.send_response(fault.status)
                if fault.location is not None:
                    self.send_header("Location", fault.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif path not in server.files:
                self.send_error(404)
            else:
                self.send_file(server.files[path], fault)

        def send_file(self, data: bytes, fault: Fault) -> None:
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            if self.headers.get("If-None-Match") == tag:
                self.send_response(304)
                self.end_headers()
                return
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            fresh = self.headers.get("If-Range", tag) == tag
            start = int(asked[1]) if asked and fresh and not fault.no_range else 0
            if start and start >= len(data):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            body = data[start:]
            if start:
                told = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self.send_header("Content-Range", fault.content_range or told)
            if not fault.no_validator:
                self.send_header("ETag", tag)
            if fault.coding is not None:
                self.send_header("Content-Encoding", fault.coding)
            if fault.no_length:
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(body) if fault.length is None else fault.length))
            self.end_headers()
            self.send_body(body if fault.cut is None else body[: fault.cut], fault)

        def send_body(self, body: bytes, fault: Fault) -> None:
            try:
                if fault.drip is None:
                    self.wfile.write(body)
                    return
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if server.stopped.wait(fault.drip):
                        return
            except OSError:
                pass  # the client had enough of it

    return Handler


@contextmanager
def serving(files: Mapping[str, bytes], tls: ssl.SSLContext | None = None) -> Iterator[DepotServer]:
    """Serves while the block runs."""
    server = DepotServer(dict(files))
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as listening:
        if tls is not None:
            listening.socket = tls.wrap_socket(listening.socket, server_side=True)
        server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            listening.shutdown()
            thread.join()
