"""TFTP packets as values: RFC 1350, options by RFC 2347, 2348 (blksize), 2349 (tsize, timeout), 7440
(windowsize).

Pure: bytes in, dataclasses out, and what the server grants a client. It knows no sockets, no clock, no files.
``decode`` is total: any bytes give a packet or ``PacketError``.
"""

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "DEFAULT_BLKSIZE",
    "MAX_BLKSIZE",
    "MAX_REQUEST",
    "MAX_WINDOWSIZE",
    "Ack",
    "Data",
    "Error",
    "ErrorCode",
    "Mode",
    "OptionAck",
    "Options",
    "Packet",
    "PacketError",
    "Request",
    "Terms",
    "decode",
    "encode",
    "negotiate",
    "to_netascii",
]

DEFAULT_BLKSIZE = 512
MIN_BLKSIZE = 8
MAX_BLKSIZE = 65464
"""RFC 2348: 65535 less the headers of IPv4, UDP and TFTP, rounded by the authors."""
MAX_WINDOWSIZE = 64
"""The largest window granted (RFC 7440 allows 65535). Above it some clients overrun their own socket
buffer."""
MAX_REQUEST = 1024
"""Octets. RFC 2347 allows 512; twice that does no harm and a longer request is no request."""

_RRQ, _WRQ, _DATA, _ACK, _ERROR, _OACK = range(1, 7)
_MAX_DIGITS = 10

Options = tuple[tuple[str, str], ...]


class PacketError(ValueError):
    """The datagram is not TFTP; the message says what is wrong with it, in printable characters."""


class ErrorCode(IntEnum):
    """RFC 1350 section 5, and 8 from RFC 2347."""

    UNDEFINED = 0
    NOT_FOUND = 1
    ACCESS = 2
    DISK_FULL = 3
    ILLEGAL = 4
    UNKNOWN_TID = 5
    EXISTS = 6
    NO_USER = 7
    OPTIONS = 8


class Mode:
    """Transfer modes, as they stand in a request after lower-casing."""

    OCTET = "octet"
    NETASCII = "netascii"
    MAIL = "mail"


@dataclass(frozen=True, slots=True)
class Request:
    """RRQ or, with ``write``, WRQ. Mode and option names are in lower case; options keep the client's
    order."""

    name: str
    mode: str = Mode.OCTET
    options: Options = ()
    write: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """One block; ``block`` is the number on the wire (0..65535, it rolls over to 0)."""

    block: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """``block`` has arrived, and everything before it."""

    block: int


@dataclass(frozen=True, slots=True)
class Error:
    """The transfer is over. ``text`` is made printable: it ends up in logs."""

    code: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class OptionAck:
    """OACK: the options that were granted."""

    options: Options


Packet = Request | Data | Ack | Error | OptionAck


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed on. ``granted`` is what the OACK says; empty: no OACK, the first block answers."""

    blksize: int = DEFAULT_BLKSIZE
    windowsize: int = 1
    timeout: int | None = None
    """Seconds the client wants between retransmissions; None: the server measures."""
    granted: Options = ()


def decode(packet: bytes) -> Packet:
    """The packet in a datagram. Raises PacketError."""
    if len(packet) < (2 if packet == b"\0\6" else 4):  # an OACK may grant nothing
        raise PacketError(f"{len(packet)} bytes are too short for a TFTP packet")
    kind = int.from_bytes(packet[:2], "big")
    number = int.from_bytes(packet[2:4], "big")
    match kind:
        case 1 | 2:
            return _request(packet, write=kind == _WRQ)
        case 3:
            return Data(number, packet[4:])
        case 4:
            return Ack(number)
        case 5:
            return Error(number, _printable(packet[4:].split(b"\0", 1)[0]))
        case 6:
            return OptionAck(_options(packet[2:].split(b"\0")))
    raise PacketError(f"opcode {kind} is none of TFTP's (1 to 6)")


def encode(packet: Packet) -> bytes:
    """The datagram for a packet. Raises ValueError for text with a NUL in it, OverflowError past 16 bits."""
    match packet:
        case Request(name, mode, options, write):
            return _short(_WRQ if write else _RRQ) + _strings(name, mode, *_flat(options))
        case Data(block, payload):
            return _short(_DATA) + _short(block) + payload
        case Ack(block):
            return _short(_ACK) + _short(block)
        case Error(code, text):
            return _short(_ERROR) + _short(code) + _strings(text)
        case OptionAck(options):
            return _short(_OACK) + _strings(*_flat(options))


def negotiate(options: Options, size: int, max_blksize: int = MAX_BLKSIZE) -> Terms:
    """What a server grants for a file of ``size`` octets over a path that carries ``max_blksize`` octets a
    block.

    An option that is unknown, out of its RFC's range, or no number is left out of the answer (RFC 2347), and
    so is everything that was not asked for. Of an option given twice the first counts.
    """
    blksize, windowsize, timeout = DEFAULT_BLKSIZE, 1, None
    granted: dict[str, str] = {}
    for name, text in options:
        value = _number(text)
        if value is None or name in granted:
            continue
        match name:
            case "blksize" if MIN_BLKSIZE <= value <= MAX_BLKSIZE:
                blksize = min(value, max_blksize)
                granted[name] = str(blksize)
            case "tsize":
                granted[name] = str(size)
            case "timeout" if 1 <= value <= 255:
                timeout = value
                granted[name] = str(value)
            case "windowsize" if 1 <= value <= 65535:
                windowsize = min(value, MAX_WINDOWSIZE)
                granted[name] = str(windowsize)
    return Terms(blksize, windowsize, timeout, tuple(granted.items()))


def to_netascii(text: bytes) -> bytes:
    """RFC 764 as RFC 1350 wants it: the end of a line is CR LF, a CR of the file itself is CR NUL."""
    return text.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


def _request(packet: bytes, *, write: bool) -> Request:
    if len(packet) > MAX_REQUEST:
        raise PacketError(f"a request of {len(packet)} bytes; RFC 2347 allows 512")
    fields = packet[2:].split(b"\0")
    if len(fields) < 3:  # name NUL mode NUL
        raise PacketError("the request's file name or mode does not end with NUL")
    try:
        name = fields[0].decode()
    except UnicodeDecodeError:
        raise PacketError("the file name in the request is not UTF-8") from None
    if not name or not name.isprintable():
        raise PacketError("the file name in the request is empty or holds control characters")
    mode = fields[1].lower()
    if mode not in (b"octet", b"netascii", b"mail"):
        raise PacketError(f"transfer mode {_printable(mode)!r} is none of octet, netascii, mail")
    return Request(name, mode.decode(), _options(fields[2:]), write)


def _options(fields: list[bytes]) -> Options:
    """Name and value by turns; the last field is what follows the last NUL and is no value.

    Some boot ROMs pad their request with zeros: an empty name ends the list.
    """
    pairs = []
    for name, value in zip(fields[:-1:2], fields[1:-1:2], strict=False):
        if not name:
            break
        pairs.append((_printable(name).lower(), _printable(value)))
    return tuple(pairs)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _printable(text: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in text.decode(errors="replace"))


def _short(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _flat(options: Options) -> list[str]:
    return [text for pair in options for text in pair]


def _strings(*texts: str) -> bytes:
    if any("\0" in text for text in texts):
        raise ValueError("TFTP strings end with NUL and cannot hold one")
    return b"".join(text.encode() + b"\0" for text in texts)
