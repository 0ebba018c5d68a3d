"""The sockets of the data plane: which address a request was sent to, and a socket that answers from it.

RFC 1350 section 4 (a port per transfer), RFC 1123 section 4.2.3 (broadcast requests are ignored), Linux's
IP_PKTINFO (ip(7)) and IPV6_RECVPKTINFO (RFC 3542). It knows no TFTP packets.
"""

import contextlib
import ipaddress
import socket
import struct
from dataclasses import dataclass

from midwife.wire.tftp import DEFAULT_BLKSIZE, MAX_BLKSIZE

__all__ = ["Address", "Arrival", "Peer", "open_peer", "prepare_listener", "read_request"]

Address = tuple[str, int] | tuple[str, int, int, int]
"""As Python's socket module writes it: host and port, for IPv6 also flow and scope."""

LISTEN_BUFFER = 4 << 20
"""Octets: a thousand hosts that ask in the same instant, times the kernel's accounting of a small packet."""
SEND_BUFFER = 1 << 20
"""Octets: a window of 64 blocks with the kernel's accounting; the default of 208 KiB holds about 90
packets."""
_IP_PKTINFO = 8
_IP_MTU = 14
_IPV6_MTU = 24
_SO_RCVBUFFORCE = 33
_PKTINFO4 = struct.Struct(
    "i4s4s"
)  # interface, local address (ipi_spec_dst), address in the header (ipi_addr)
_PKTINFO6 = struct.Struct("16si")
_ANY4 = bytes(4)
_MAPPED = "::ffff:"
_HEADERS4 = 20 + 8 + 4  # IPv4, UDP, TFTP's opcode and block number
_HEADERS6 = 40 + 8 + 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram on the listening port."""

    packet: bytes
    client: Address
    local: Address | None
    """Where the client sent it (port 0); None: to a broadcast or multicast address, nobody's request."""

    @property
    def host(self) -> str:
        """The client's address without port, zone and IPv4-in-IPv6 form: as it stands in reports."""
        return self.client[0].split("%", 1)[0]


@dataclass(frozen=True, slots=True)
class Peer:
    """A connected socket of our own for one client."""

    sock: socket.socket
    max_blksize: int
    """The largest block that crosses the path without being fragmented. Some firmware cannot put fragments
    together, and one lost fragment loses the block."""


def prepare_listener(fd: int) -> socket.socket:
    """The inherited listening socket, set to tell the addresses asked. Raises OSError (no UDP socket)."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise OSError(f"file descriptor {fd} is no socket ({error.strerror})") from None
    if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise OSError(f"file descriptor {fd} is no UDP socket (the supervisor passes bound sockets in --fds)")
    sock.setblocking(False)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, LISTEN_BUFFER)
    except PermissionError:  # without CAP_NET_ADMIN: as much as net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LISTEN_BUFFER)
    return sock


def read_request(sock: socket.socket) -> Arrival:
    """The next datagram. Raises BlockingIOError where there is none, OSError for a pending ICMP error."""
    packet, ancillary, _, client = sock.recvmsg(2048, 256)
    local: Address | None = None
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            local = _local4(data)
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            local = _local6(data)
    return Arrival(packet, _unmapped(client), local)


def open_peer(local: Address, client: Address) -> Peer:
    """A socket at the address the client asked, on a new port, that hears only this client.

    Raises OSError: no route, too many open files, an address that has just been removed.
    """
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind(local)
        sock.connect(client)
        with contextlib.suppress(BlockingIOError):
            while True:  # what strangers may have sent to the port between bind and connect
                sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        return Peer(sock, _max_blksize(sock))
    except BaseException:
        sock.close()
        raise


def _max_blksize(sock: socket.socket) -> int:
    if sock.family == socket.AF_INET6:
        room = sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU) - _HEADERS6
    else:
        room = sock.getsockopt(socket.IPPROTO_IP, _IP_MTU) - _HEADERS4
    return max(DEFAULT_BLKSIZE, min(room, MAX_BLKSIZE))


def _local4(data: bytes) -> Address | None:
    _, local, asked = _PKTINFO4.unpack_from(data)
    # They differ for a broadcast and a multicast. A packet that was queued before IP_PKTINFO was set (this
    # process is being restarted, and the supervisor holds the port) has no local address: then we trust the
    # header.
    if local not in (asked, _ANY4):
        return None
    return socket.inet_ntoa(asked), 0


def _local6(data: bytes) -> Address | None:
    raw, interface = _PKTINFO6.unpack_from(data)
    address = ipaddress.IPv6Address(raw)
    if address.is_multicast:
        return None
    if address.ipv4_mapped is not None:
        mapped = address.ipv4_mapped
        return None if mapped.is_multicast or str(mapped) == "255.255.255.255" else (str(mapped), 0)
    return str(address), 0, 0, interface if address.is_link_local else 0


def _unmapped(client: Address) -> Address:
    """An IPv4 client of a dual-stack socket is an IPv4 client."""
    if client[0].startswith(_MAPPED) and "." in client[0]:
        return client[0].removeprefix(_MAPPED), client[1]
    return client
