"""proxyDHCP: boot information beside a DHCP server that gives none (PXE 2.1 section 2.2.1, RFC 4578).

A thin shell: datagrams from ports 67 and 4011 go through ``midwife.wire.dhcp`` and
``midwife.core.dhcpanswer``, and what comes out is sent. It hands out no addresses, decides nothing, and no
packet can make it raise.
"""

import array
import asyncio
import errno
import fcntl
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncio_dgram
import structlog

from midwife.core.dhcpanswer import (
    BOOT_SERVER_PORT,
    SERVER_PORT,
    Decision,
    PortKind,
    Reply,
    Silence,
    answer,
    facts_of,
    is_netboot,
    refusal,
)
from midwife.core.facts import Facts
from midwife.serve.quiet import Quiet
from midwife.wire.dhcp import DhcpError, DhcpPacket, build, describe, parse

__all__ = ["Decision", "DhcpSeen", "ProxyDhcp", "ProxyDhcpError", "interface_of", "open_sockets"]

_QUIET_SECONDS = 10.0
"""A broken or hostile sender gets one log line in this time, with the number of those left out."""

_SIOCGIFCONF = 0x8912  # netdevice(7); the socket module has no name for it


class ProxyDhcpError(Exception):
    """proxyDHCP cannot start or go on; the message has one problem a line, each with what to do."""


@dataclass(frozen=True, slots=True)
class DhcpSeen:
    """A network-boot client was heard. Told for every one of its packets, answered or not."""

    facts: Facts
    answered: bool
    outcome: str
    """For the timeline: what was offered, or why nothing was."""
    message: str
    """DISCOVER, REQUEST, INFORM, …"""
    port: PortKind
    source: str
    interface: str
    summary: tuple[str, ...]
    """The packet, one field or option a line (``midwife.wire.dhcp.describe``)."""
    reply: tuple[str, ...] = ()
    """The answer in the same form; empty if there was none."""


class ProxyDhcp:
    """Serves until its task is cancelled: ``await ProxyDhcp(...).run()``.

    The sockets are bound already (``open_sockets``, or by a supervisor) and belong to the proxy from here on.
    ``ask`` is called for packets that deserve a decision, ``seen`` for every packet of a network-boot client;
    both are called in the event loop and must not block.
    """

    def __init__(
        self,
        *,
        sockets67: Sequence[socket.socket],
        sockets4011: Sequence[socket.socket],
        server: str,
        ask: Callable[[Facts], Decision],
        seen: Callable[[DhcpSeen], None],
        log: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sockets: list[tuple[socket.socket, PortKind]] = [(s, SERVER_PORT) for s in sockets67]
        self._sockets += [(s, BOOT_SERVER_PORT) for s in sockets4011]
        self._server = server
        self._ask = ask
        self._seen = seen
        self._log = log or structlog.get_logger().bind(part="proxydhcp")
        self._clock = clock
        self._quiet = Quiet(_QUIET_SECONDS)

    async def run(self) -> None:
        """Raises ProxyDhcpError if a socket is lost; bad packets and failed sends are logged and survived."""
        streams: list[Any] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                for sock, port in self._sockets:
                    interface = _device(sock)
                    sock.setblocking(False)
                    stream = await asyncio_dgram.from_socket(sock)
                    streams.append(stream)
                    tasks.create_task(self._serve(stream, port, interface))
        except ExceptionGroup as lost:
            raise ProxyDhcpError("\n".join(str(error) for error in lost.exceptions)) from lost
        finally:
            for stream in streams:
                stream.close()
            for sock, _ in self._sockets[len(streams) :]:
                sock.close()

    async def _serve(self, stream: Any, port: PortKind, interface: str) -> None:
        while True:
            try:
                data, source = await stream.recv()
            except OSError as error:  # of an earlier send, or the link went down: the socket still works
                self._send_failed(error, "")
                continue
            except asyncio_dgram.TransportClosed:
                where = f" on {interface}" if interface else ""
                raise ProxyDhcpError(
                    f"the socket of port {port}{where} was closed; restart midwife"
                ) from None
            try:
                await self._handle(stream, port, interface, data, source[:2])
            except Exception:
                # A bug here or in what we call costs this packet its answer, not the service.
                if (left_out := self._quiet.may_speak(self._clock(), "broken")) is not None:
                    self._log.exception("dhcp-packet-failed", source=source[0], left_out=left_out)

    async def _handle(
        self, stream: Any, port: PortKind, interface: str, data: bytes, source: tuple[str, int]
    ) -> None:
        try:
            packet = parse(data)
        except DhcpError as error:
            if (left_out := self._quiet.may_speak(self._clock(), "bad")) is not None:
                self._log.warning(
                    "dhcp-packet-malformed",
                    source=source[0],
                    port=port,
                    reason=str(error),
                    size=len(data),
                    left_out=left_out,
                )
            return
        if not is_netboot(packet):
            return
        facts = facts_of(packet)
        outcome = self._outcome(packet, port, facts, source)
        told = outcome.reason if isinstance(outcome, Silence) else _told(outcome)
        answered = isinstance(outcome, Reply)
        if isinstance(outcome, Reply):
            failed = await self._send(stream, outcome, facts.mac)
            if failed:
                told, answered = f"not sent: {failed}", False
        self._log.info(
            "dhcp-answered" if answered else "dhcp-silent",
            mac=facts.mac,
            message=packet.message_type.name,
            firmware=facts.firmware.value,
            port=port,
            interface=interface,
            outcome=told,
        )
        self._seen(
            DhcpSeen(
                facts=facts,
                answered=answered,
                outcome=told,
                message=packet.message_type.name,
                port=port,
                source=source[0],
                interface=interface,
                summary=describe(packet),
                reply=describe(outcome.packet) if isinstance(outcome, Reply) else (),
            )
        )

    def _outcome(
        self, packet: DhcpPacket, port: PortKind, facts: Facts, source: tuple[str, int]
    ) -> Reply | Silence:
        refused = refusal(packet, server=self._server, port_kind=port)
        if refused:
            return refused
        target, why = self._ask(facts)
        return answer(packet, server=self._server, boot=target, port_kind=port, source=source, why=why)

    async def _send(self, stream: Any, reply: Reply, mac: str) -> str:
        """ "" if the datagram left, else what the kernel said."""
        _drain(stream)  # asyncio-dgram raises the error of an earlier send in place of sending this one
        await stream.send(build(reply.packet), (reply.address, reply.port))
        error = _drain(stream)
        if error is None:
            return ""
        self._send_failed(error, mac)
        return f"{reply.address}:{reply.port}: {error.strerror or error}"

    def _send_failed(self, error: OSError, mac: str) -> None:
        if (left_out := self._quiet.may_speak(self._clock(), "unsent")) is not None:
            self._log.warning(
                "dhcp-send-failed", mac=mac, reason=error.strerror or str(error), left_out=left_out
            )


def _told(reply: Reply) -> str:
    packet = reply.packet
    name = next((line for line in describe(packet) if line.startswith("boot-file")), "")
    return f"{packet.message_type.name} {name.partition(': ')[2]} to {reply.address}:{reply.port}"


def _drain(stream: Any) -> OSError | None:
    """The last error that the stream has kept, none kept afterwards."""
    last: OSError | None = None
    while True:
        try:
            stream.exception  # noqa: B018 - raises what is queued, one at a time
        except OSError as error:
            last = error
            continue
        return last


def _device(sock: socket.socket) -> str:
    """The interface a socket is bound to, "" for none."""
    name = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    return name.split(b"\0", 1)[0].decode(errors="replace")


def _addresses() -> tuple[tuple[str, str], ...]:
    """(interface, IPv4 address) of this machine, secondary addresses included (netdevice(7), SIOCGIFCONF)."""
    entry = 40 if struct.calcsize("P") == 8 else 32  # sizeof(struct ifreq): a name, then a union
    buffer = array.array("B", bytes(entry * 1024))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("iP", len(buffer), buffer.buffer_info()[0])
        used = struct.unpack("iP", fcntl.ioctl(sock, _SIOCGIFCONF, request))[0]
    data = buffer.tobytes()[:used]
    return tuple(
        # An address with a label shows as eth0:1; sockets are bound to eth0.
        (
            data[at : at + 16].split(b"\0", 1)[0].decode().partition(":")[0],
            socket.inet_ntoa(data[at + 20 : at + 24]),
        )
        for at in range(0, used, entry)
    )


def interface_of(address: str) -> str:
    """The interface that carries an IPv4 address of this machine. Raises ProxyDhcpError if none does."""
    known = _addresses()
    for name, carried in known:
        if carried == address:
            return name
    have = ", ".join(f"{carried} ({name})" for name, carried in known) or "none"
    raise ProxyDhcpError(
        f"no interface has the address {address}; this machine has {have}. "
        "Set server.address in midwife.yaml to one of these, or, behind NAT, name proxydhcp.interfaces"
    )


def _holders(port: int) -> str:
    """Which programs have the UDP port, as far as /proc shows: ``dnsmasq (pid 812)``, "" if it does not."""
    suffix = f":{port:04X}"
    table = Path("/proc/thread-self/net/udp").read_text(encoding="ascii").splitlines()[1:]
    wanted = {f"socket:[{line.split()[9]}]" for line in table if line.split()[1].endswith(suffix)}
    names = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(fd.readlink()) in wanted for fd in (process / "fd").iterdir()):
                names.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return ", ".join(sorted(names))


def _explain(error: OSError, interface: str, port: int) -> str:
    where = f"UDP port {port} on {interface}"
    if error.errno == errno.EADDRINUSE:
        who = _holders(port)
        return (
            f"{where} is taken{f' by {who}' if who else ''}: a DHCP server on this machine, most likely, or "
            "another midwife. One machine cannot have both: put the boot options into that DHCP server "
            "(midwife dhcp-snippet) and set proxydhcp.enabled: false, or run midwife on another machine"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"no permission for {where}: run midwife as root or give it CAP_NET_BIND_SERVICE and CAP_NET_RAW "
            "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW)"
        )
    if error.errno == errno.ENODEV:
        names = ", ".join(name for _, name in socket.if_nameindex())
        return f"there is no interface {interface}; there are {names}. Correct proxydhcp.interfaces"
    return f"{where}: {error.strerror or error}"


def _open(interface: str, address: str, port: int) -> socket.socket:
    """A bound, non-blocking socket. Raises OSError.

    Without SO_REUSEADDR on purpose: Linux would then let us share port 67 with a DHCP server that sets it, too
    (dnsmasq, another midwife), and hand us the unicast renewals that are meant for that server.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        sock.bind((address, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def open_sockets(
    interfaces: Sequence[str],
    address: str,
    *,
    port: int = SERVER_PORT,
    boot_server_port: int = BOOT_SERVER_PORT,
) -> tuple[list[socket.socket], list[socket.socket]]:
    """The sockets for ports 67 and 4011, one each per interface; no interface means the one with ``address``.

    Raises ProxyDhcpError with every problem at once, and then leaves nothing open.
    """
    first: list[socket.socket] = []
    second: list[socket.socket] = []
    problems: list[str] = []
    # 67 hears broadcasts, so it takes every address. 4011 is asked by unicast and must answer from the address
    # that was asked, which matters where an interface has several; behind NAT ours is not on this machine.
    asked = address if any(carried == address for _, carried in _addresses()) else ""
    for interface in interfaces or (interface_of(address),):
        for sockets, bound, number in ((first, "", port), (second, asked, boot_server_port)):
            try:
                sockets.append(_open(interface, bound, number))
            except OSError as error:
                problem = _explain(error, interface, number)
                if problem not in problems:
                    problems.append(problem)
    if problems:
        for sock in first + second:
            sock.close()
        raise ProxyDhcpError("\n".join(problems))
    return first, second
