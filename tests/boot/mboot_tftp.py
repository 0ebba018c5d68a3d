"""A TFTP client that behaves as UEFI firmware's (EDK2), which ESXi's loader reads its files with.

Of every file it first asks the size and breaks off with ERROR 8 right after the answer (RFC 2349 tsize), then
reads it with blksize 1468 and windowsize 4 (RFC 2348, RFC 7440). Shares no code with midwife's TFTP.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager

from .mboot_cfg import NOT_FOUND, PROTOCOL, MbootError

__all__ = ["TftpFiles"]

_RRQ, _DATA, _ACK, _ERROR, _OACK = 1, 3, 4, 5, 6
_USER_ABORTED = 8  # RFC 2347's number for "will not go on with these options"; EDK2 sends it after every size
_TRIES = 6


class TftpFiles:
    """The files of one server. Every request is noted in the journal as ``size NAME`` or ``read NAME``."""

    def __init__(
        self,
        server: str,
        port: int,
        journal: list[str],
        *,
        timeout: float = 2.0,
        blksize: int = 1468,
        windowsize: int = 4,
    ) -> None:
        """timeout: seconds after which a packet is sent again."""
        self._address = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM)[0]
        self._journal = journal
        self._timeout = timeout
        self._blksize = blksize
        self._windowsize = windowsize

    def size(self, name: str) -> int:
        """Bytes of the file, by tsize; the transfer is broken off. Raises MbootError."""
        self._journal.append(f"size {name}")
        options = {"tsize": "0", "blksize": str(self._blksize), "windowsize": str(self._windowsize)}
        with self._transfer() as link:
            packet = link.ask(_request(name, options), name)
            if packet[:2] != struct.pack("!H", _OACK):
                # Seen: "NBP filesize is 0 Bytes", "PXE-E53: No boot filename received".
                raise MbootError(PROTOCOL, f"{name}: the server does not tell the size (tsize)")
            granted = _options(packet)
            link.send(struct.pack("!HH", _ERROR, _USER_ABORTED) + b"User aborted the transfer\0")
        if not granted.get("tsize", "").isdigit():
            raise MbootError(PROTOCOL, f"{name}: no tsize in the OACK {granted}")
        return int(granted["tsize"])

    def read(self, name: str) -> bytes:
        """The file, as the loader reads it: the size first, then the bytes. Raises MbootError."""
        size = self.size(name)
        self._journal.append(f"read {name}")
        options = {"blksize": str(self._blksize), "windowsize": str(self._windowsize)}
        with self._transfer() as link:
            packet = link.ask(_request(name, options), name)
            granted: dict[str, str] = {}
            if packet[:2] == struct.pack("!H", _OACK):
                granted = _options(packet)
                packet = link.ask(struct.pack("!HH", _ACK, 0), name)
            data = self._receive(link, packet, name, granted)
        if len(data) != size:
            raise MbootError(PROTOCOL, f"{name}: {len(data)} bytes came, tsize said {size}")
        return data

    def _receive(self, link: "_Link", packet: bytes, name: str, granted: dict[str, str]) -> bytes:
        blksize = int(granted.get("blksize", "512"))
        window = int(granted.get("windowsize", "1"))
        if blksize > self._blksize or window > self._windowsize:
            raise MbootError(PROTOCOL, f"{name}: the server granted more than was asked: {granted}")
        data = bytearray()
        block = 0
        unacknowledged = 0
        while True:
            kind, number = struct.unpack("!HH", packet[:4])
            if kind == _DATA and number == (block + 1) & 0xFFFF:
                block = number
                data += packet[4:]
                unacknowledged += 1
                last = len(packet) - 4 < blksize
                if last or unacknowledged == window:
                    unacknowledged = 0
                    if last:
                        link.send(struct.pack("!HH", _ACK, block))
                        return bytes(data)
                    packet = link.ask(struct.pack("!HH", _ACK, block), name)
                    continue
            # In the middle of a window nothing is sent; silence or a gap is answered with the last good block.
            packet = link.next(struct.pack("!HH", _ACK, block), name)

    @contextmanager
    def _transfer(self) -> Iterator["_Link"]:
        family, kind, protocol, _, address = self._address
        with closing(socket.socket(family, kind, protocol)) as sock:
            sock.settimeout(self._timeout)
            yield _Link(sock, address)


class _Link:
    """One transfer's socket: the server answers from a port of its own, and from then on only that one counts."""

    def __init__(self, sock: socket.socket, address: tuple[object, ...]) -> None:
        self._sock = sock
        self._to = address
        self._fixed = False

    def send(self, packet: bytes) -> None:
        self._sock.sendto(packet, self._to)

    def ask(self, packet: bytes, name: str) -> bytes:
        """Sends, and returns what comes back; sends again in silence. Raises MbootError."""
        self.send(packet)
        return self.next(packet, name)

    def next(self, again: bytes, name: str) -> bytes:
        """The next packet; in silence ``again`` is sent. Raises MbootError."""
        for _ in range(_TRIES):
            try:
                packet, source = self._sock.recvfrom(65535)
            except TimeoutError:
                self.send(again)
                continue
            if not self._fixed and source[0] == self._to[0]:
                self._to, self._fixed = source, True
            if source != self._to or len(packet) < 4:
                continue
            if packet[:2] == struct.pack("!H", _ERROR):
                code = struct.unpack("!H", packet[2:4])[0]
                text = packet[4:].split(b"\0")[0].decode(errors="replace")
                raise MbootError(NOT_FOUND if code == 1 else PROTOCOL, f"{name}: TFTP error {code} {text}")
            return packet
        raise MbootError(PROTOCOL, f"{name}: no answer from {self._to}")


def _request(name: str, options: dict[str, str]) -> bytes:
    words = [name, "octet", *(word for option in options.items() for word in option)]
    return struct.pack("!H", _RRQ) + b"".join(word.encode() + b"\0" for word in words)


def _options(packet: bytes) -> dict[str, str]:
    words = packet[2:].decode("latin-1").split("\0")
    return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=False)}
