"""DHCPv4 packets: bytes to ``DhcpPacket`` and back.

Implements RFC 2131 (header), RFC 2132 (options, option overload) and RFC 3396 (an option that occurs several
times is one long option). It knows nothing of sockets, of who may be answered, or of what a boot file is.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import NoReturn

from midwife.wire.dhcpoptions import (
    MessageType,
    Option,
    address_of,
    architectures_of,
    guid_of,
    message_type_of,
    option_name,
    text_of,
    user_classes_of,
)

__all__ = ["BOOTREPLY", "BOOTREQUEST", "DhcpError", "DhcpPacket", "build", "describe", "parse"]

BOOTREQUEST = 1
BOOTREPLY = 2

_HEADER = 236
_COOKIE = b"\x63\x82\x53\x63"
_MINIMUM = 300
"""A BOOTP packet's size (RFC 951); relays and ROMs drop shorter ones (RFC 1542 section 2.1)."""

_ZERO = "0.0.0.0"
_OVERLOADS_FILE = 1
_OVERLOADS_SNAME = 2


class DhcpError(ValueError):
    """The bytes are not a DHCP packet, or the packet cannot be written as bytes.

    ``offset`` is where in the datagram the trouble is (for ``build``: 0), ``reason`` says what it is.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"at byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DhcpPacket:
    """One packet. Addresses are dotted text, ``sname`` and ``file`` what stands before their first NUL.

    Each option code occurs once; their order is that of the packet (pad, end and overload are not kept).
    """

    op: int
    xid: int
    chaddr: bytes = b""
    """The hardware address, ``hlen`` bytes of it."""
    htype: int = 1
    hops: int = 0
    secs: int = 0
    flags: int = 0
    ciaddr: str = _ZERO
    yiaddr: str = _ZERO
    siaddr: str = _ZERO
    giaddr: str = _ZERO
    sname: bytes = b""
    file: bytes = b""
    options: tuple[tuple[int, bytes], ...] = field(default=())

    def option(self, code: int) -> bytes | None:
        """The option's value, None if it is not in the packet (which differs from an empty one)."""
        return next((value for known, value in self.options if known == code), None)

    def _bytes(self, code: int) -> bytes:
        return self.option(code) or b""

    @property
    def message_type(self) -> MessageType:
        """Option 53, NONE if absent or unknown."""
        return message_type_of(self._bytes(Option.MESSAGE_TYPE))

    @property
    def mac(self) -> str:
        """``52:54:00:12:34:56``; "" if the hardware is not Ethernet or the address names no one machine."""
        usable = self.htype == 1 and len(self.chaddr) == 6 and any(self.chaddr) and not self.chaddr[0] & 1
        return self.chaddr.hex(":") if usable else ""

    @property
    def broadcast(self) -> bool:
        """Whether the client asks for broadcast answers (RFC 2131 section 4.1)."""
        return bool(self.flags & 0x8000)

    @property
    def relayed(self) -> bool:
        """Whether a relay agent passed the packet on."""
        return self.giaddr != _ZERO

    @property
    def vendor_class(self) -> str:
        """Option 60, "" if absent."""
        return text_of(self._bytes(Option.VENDOR_CLASS))

    @property
    def user_classes(self) -> tuple[str, ...]:
        """Option 77 in either encoding."""
        return user_classes_of(self._bytes(Option.USER_CLASS))

    @property
    def architectures(self) -> tuple[int, ...]:
        """Option 93, () if absent."""
        return architectures_of(self._bytes(Option.CLIENT_ARCH))

    @property
    def guid(self) -> str:
        """Option 97 as dmidecode prints it, "" if absent."""
        return guid_of(self._bytes(Option.CLIENT_GUID))

    @property
    def server_id(self) -> str:
        """Option 54, "" if absent."""
        return address_of(self._bytes(Option.SERVER_ID))

    @property
    def host_name(self) -> str:
        """Option 12, "" if absent. As the client wrote it: not fit for file names or templates."""
        return text_of(self._bytes(Option.HOST_NAME))


def _fail(offset: int, reason: str) -> NoReturn:
    raise DhcpError(offset, reason)


def _read_options(data: bytes, start: int, end: int, found: dict[int, bytes]) -> None:
    """Adds the options between ``start`` and ``end`` to ``found``; repeated ones are joined (RFC 3396)."""
    at = start
    while at < end:
        code = data[at]
        if code == Option.END:
            return
        if code == Option.PAD:
            at += 1
            continue
        if at + 1 >= end:
            _fail(at, f"{option_name(code)} has no length byte")
        length = data[at + 1]
        if at + 2 + length > end:
            _fail(at, f"{option_name(code)} says {length} bytes, only {end - at - 2} are left")
        found[code] = found.get(code, b"") + data[at + 2 : at + 2 + length]
        at += 2 + length
    # No end option: RFC 2131 wants one, the options read so far are whole all the same.


def parse(data: bytes) -> DhcpPacket:
    """The packet in a datagram. Raises DhcpError, and nothing else, whatever the bytes."""
    if len(data) < _HEADER:
        _fail(len(data), f"the packet ends in its header, which has {_HEADER} bytes")
    if data[_HEADER : _HEADER + 4] != _COOKIE:
        _fail(_HEADER, "no DHCP magic cookie 63 82 53 63 (plain BOOTP, or not DHCP at all)")
    op, htype, hlen, hops = data[:4]
    if op not in (BOOTREQUEST, BOOTREPLY):
        _fail(0, f"op is {op}; 1 is a request, 2 a reply")
    if hlen > 16:
        _fail(2, f"the hardware address has {hlen} bytes; the field has 16")
    found: dict[int, bytes] = {}
    _read_options(data, _HEADER + 4, len(data), found)
    # Overload (RFC 2132 section 9.3): file first, then sname, is the order of RFC 3396 section 5.
    overload = found.pop(Option.OVERLOAD, b"")
    uses = overload[0] if len(overload) == 1 and overload[0] <= 3 else 0
    if uses & _OVERLOADS_FILE:
        _read_options(data, 108, _HEADER, found)
    if uses & _OVERLOADS_SNAME:
        _read_options(data, 44, 108, found)
    found.pop(Option.OVERLOAD, None)
    return DhcpPacket(
        op=op,
        htype=htype,
        hops=hops,
        xid=int.from_bytes(data[4:8]),
        secs=int.from_bytes(data[8:10]),
        flags=int.from_bytes(data[10:12]),
        ciaddr=address_of(data[12:16]),
        yiaddr=address_of(data[16:20]),
        siaddr=address_of(data[20:24]),
        giaddr=address_of(data[24:28]),
        chaddr=data[28 : 28 + hlen],
        sname=b"" if uses & _OVERLOADS_SNAME else data[44:108].split(b"\0", 1)[0],
        file=b"" if uses & _OVERLOADS_FILE else data[108:_HEADER].split(b"\0", 1)[0],
        options=tuple(found.items()),
    )


def _number(value: int, size: int, name: str) -> bytes:
    try:
        return value.to_bytes(size)
    except OverflowError:
        _fail(0, f"{name} is {value}, which does not fit {size} bytes")


def _packed(address: str, name: str) -> bytes:
    try:
        return ipaddress.IPv4Address(address).packed
    except ValueError:
        _fail(0, f"{name} is {address!r}, which is no IPv4 address")


def _padded(value: bytes, size: int, name: str) -> bytes:
    if len(value) > size:
        _fail(0, f"{name} has {len(value)} bytes; the field has {size}")
    return value.ljust(size, b"\0")


def _write_option(code: int, value: bytes) -> bytes:
    """The option, in pieces of at most 255 bytes (RFC 3396 section 5)."""
    if not Option.PAD < code < Option.END or code == Option.OVERLOAD:
        _fail(0, f"{option_name(code)} is not an option that can be set")
    pieces = [value[i : i + 255] for i in range(0, len(value), 255)] or [b""]
    return b"".join(bytes((code, len(piece))) + piece for piece in pieces)


def build(packet: DhcpPacket) -> bytes:
    """The datagram, zero-padded to 300 bytes. Relay agent information goes last (RFC 3046 section 2.1).

    Raises DhcpError if a value does not fit its field.
    """
    header = (
        _number(packet.op, 1, "op")
        + _number(packet.htype, 1, "htype")
        + _number(len(packet.chaddr), 1, "hlen")
        + _number(packet.hops, 1, "hops")
        + _number(packet.xid, 4, "xid")
        + _number(packet.secs, 2, "secs")
        + _number(packet.flags, 2, "flags")
        + _packed(packet.ciaddr, "ciaddr")
        + _packed(packet.yiaddr, "yiaddr")
        + _packed(packet.siaddr, "siaddr")
        + _packed(packet.giaddr, "giaddr")
        + _padded(packet.chaddr, 16, "chaddr")
        + _padded(packet.sname, 64, "sname")
        + _padded(packet.file, 128, "file")
    )
    relay_last = sorted(packet.options, key=lambda option: option[0] == Option.RELAY_INFO)
    options = b"".join(_write_option(code, value) for code, value in relay_last)
    return (header + _COOKIE + options + bytes((Option.END,))).ljust(_MINIMUM, b"\0")


def _show(code: int, value: bytes) -> str:
    if code == Option.MESSAGE_TYPE and message_type_of(value):
        return message_type_of(value).name
    if code in (Option.SERVER_ID, Option.REQUESTED_ADDRESS) and len(value) == 4:
        return address_of(value)
    if code in (Option.VENDOR_CLASS, Option.BOOT_FILE, Option.HOST_NAME, Option.TFTP_SERVER_NAME):
        return text_of(value)
    if code == Option.USER_CLASS:
        return ", ".join(user_classes_of(value))
    if code == Option.CLIENT_ARCH:
        return ", ".join(str(number) for number in architectures_of(value))
    if code == Option.CLIENT_GUID and guid_of(value):
        return guid_of(value)
    return value.hex(" ")


def describe(packet: DhcpPacket) -> tuple[str, ...]:
    """The packet for a person, one field or option a line; what is zero or empty is left out."""
    head = {
        "op": "request" if packet.op == BOOTREQUEST else "reply",
        "xid": f"{packet.xid:08x}",
        "client": packet.mac or packet.chaddr.hex(":"),
        "flags": "broadcast" if packet.broadcast else "",
        **{
            name: value
            for name in ("ciaddr", "yiaddr", "siaddr", "giaddr")
            if (value := getattr(packet, name)) != _ZERO
        },
        "sname": text_of(packet.sname),
        "file": text_of(packet.file),
    }
    lines = [f"{name}: {value}" for name, value in head.items() if value]
    return (*lines, *(f"{option_name(code)}: {_show(code, value)}" for code, value in packet.options))
