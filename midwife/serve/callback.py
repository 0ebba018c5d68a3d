"""The callback listener: hosts call here over TCP, UDP or HTTP, all on one port (docs/reference/callback.md).

A thin shell around ``wire.callback``: it bounds what a caller may cost (bytes, seconds, connections, log
lines) and hands every call to one function, which decides. It knows no hosts, no tokens and no database.
"""

import asyncio
import contextlib
import ipaddress
import socket
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog
from asyncio_dgram import TransportClosed, from_socket
from asyncio_dgram.aio import DatagramServer

from midwife.core.facts import Facts
from midwife.serve.quiet import Quiet
from midwife.wire.callback import (
    MAX_SIZE,
    CallbackError,
    CallbackMessage,
    Reply,
    Verdict,
    encode_reply,
    parse_message,
    parse_reply,
)
from midwife.wire.callback_http import MAX_HEAD, HttpError, HttpHead, encode_response, is_http, parse_head
from midwife.wire.identity import InvalidIdentity, clean_hostname, clean_serial, parse_mac, parse_uuid

__all__ = ["Call", "CallbackListener", "Limits", "Transport", "facts_of"]


class Transport(StrEnum):
    """How a call came in."""

    BARE = "tcp-bare"
    """A TCP connection without a byte on it: ESXi's own PBHOST= (seen in 6.7), ``nc -z``, a port scanner."""
    TCP = "tcp"
    UDP = "udp"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Call:
    """One call, for the function that decides."""

    transport: Transport
    client: str
    """The caller's address without port; IPv4 in its own notation even on an IPv6 socket."""
    local: str
    """Our address that was called; "" for a datagram to a socket bound to every address."""
    message: CallbackMessage | None
    """None for a bare connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What callers may cost. Seconds are deadlines of a whole phase: a byte now and then buys nothing."""

    connections: int = 256
    per_client: int = 16
    silence: float = 5.0
    """Seconds without a first byte after which a connection is a bare call."""
    read: float = 10.0
    """Seconds from the first byte to the end of the message, and again for our reply."""
    log_every: float = 60.0
    """Seconds between two log lines about the same client's nonsense."""


def facts_of(message: CallbackMessage) -> Facts:
    """What the message makes known; malformed MAC addresses and UUIDs and vendors' dummies are left out.

    The caller's address is no fact of the message (NAT, a relay): see ``Call.client``.
    """
    macs = []
    for text in message.macs:
        with contextlib.suppress(InvalidIdentity):
            macs.append(parse_mac(text))
    uuid = ""
    with contextlib.suppress(InvalidIdentity):
        uuid = parse_uuid(message.uuid)
    host, _, domain = clean_hostname(message.hostname).partition(".")
    return Facts(
        macs=tuple(dict.fromkeys(macs)),
        uuid=uuid,
        serial=clean_serial(message.serial),
        vendor=clean_serial(message.vendor),
        model=clean_serial(message.model),
        # A host without a name of its own says "localhost": as good as nothing.
        hostname="" if host == "localhost" else host,
        domain="" if host == "localhost" else domain,
        version=" ".join(message.version.split()),
    )


def _plain_address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


class CallbackListener:
    """Serves callbacks on sockets that somebody else has bound (the supervisor keeps them over restarts)."""

    def __init__(
        self,
        handle: Callable[[Call], Reply],
        *,
        limits: Limits | None = None,
        log: structlog.typing.FilteringBoundLogger | None = None,
    ) -> None:
        """``handle`` is called in the event loop and must not block for long; it may raise: the caller is
        then told to come again, and the traceback is logged."""
        self._handle = handle
        self._limits = limits or Limits()
        self._log: structlog.typing.FilteringBoundLogger = log or structlog.get_logger(part="callback")
        self._quiet = Quiet(self._limits.log_every)
        self._servers: list[asyncio.Server] = []
        self._streams: list[DatagramServer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: Counter[str] = Counter()

    async def start(self, tcp: Sequence[socket.socket], udp: Sequence[socket.socket]) -> None:
        """Takes over bound sockets (TCP ones need not listen yet). On return, calls are answered."""
        for sock in udp:
            stream = await from_socket(sock)
            if not isinstance(stream, DatagramServer):
                raise TypeError("a connected UDP socket cannot listen for callbacks")
            self._streams.append(stream)
            task = asyncio.create_task(self._datagrams(stream))
            self._tasks.add(task)
        for sock in tcp:
            server = await asyncio.start_server(self._connection, sock=sock, limit=MAX_HEAD, backlog=512)
            self._servers.append(server)

    async def close(self) -> None:
        """Stops at once; closes the sockets."""
        for server in self._servers:
            server.close()
        for stream in self._streams:
            stream.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    def _note(self, event: str, client: str, reason: str) -> None:
        """Malformed input: one line per client and interval, with the number of those held back."""
        held = self._quiet.may_speak(asyncio.get_running_loop().time(), client)
        if held is not None:
            self._log.warning(event, client=client, reason=reason, unlogged_before=held)

    def _answer(self, call: Call) -> Reply:
        try:
            return self._handle(call)
        except Exception:
            # Formatted here: renderers that print local variables would print tokens.
            trace = traceback.format_exc()
            self._log.error("callback.failed", client=call.client, transport=call.transport, traceback=trace)
            return Reply(Verdict.LATER, seconds=30, reason="internal error; the service's log says more")

    async def _datagrams(self, stream: DatagramServer) -> None:
        name: tuple[str, int] = stream.socket.getsockname()
        local = _plain_address(name[0])
        local = "" if local in ("0.0.0.0", "::") else local
        # asyncio-dgram's queue has no bound. It stays short because the event loop reads one datagram a turn,
        # and this task, which never waits between recv() and send(), empties the queue whenever it runs.
        while True:
            try:
                data, peer = await stream.recv()
                if not isinstance(peer, tuple):  # only Unix sockets have other addresses
                    continue
                reply = self._datagram(data, _plain_address(peer[0]), local)
                if reply is not None:
                    await stream.send(encode_reply(reply), peer)
            except TransportClosed:
                return
            except OSError as error:  # an ICMP error for an earlier answer, or no route back
                self._log.debug("callback.unsent", error=str(error))

    def _datagram(self, data: bytes, client: str, local: str) -> Reply | None:
        try:
            message = parse_message(data)
        except CallbackError as error:
            self._note("callback.malformed", client, error.reason)
            return _refusal(error) if _may_be_answered(data) else None
        return self._answer(Call(Transport.UDP, client, local, message))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if not peer:  # reset before we looked; there is nobody to identify
            writer.transport.abort()
            return
        client = _plain_address(peer[0])
        if self._open.total() >= self._limits.connections or self._open[client] >= self._limits.per_client:
            self._note("callback.crowded", client, "too many connections at a time")
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - start_server runs us as a task
        self._tasks.add(task)
        self._open[client] += 1
        try:
            await self._conversation(reader, writer, client)
        except (OSError, TimeoutError) as error:
            self._note("callback.cut", client, str(error) or "the message did not end in time")
        except asyncio.CancelledError:
            pass  # close(); Python 3.11 logs a cancelled connection task as an error of ours
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]
            self._tasks.discard(task)
            writer.transport.abort()

    async def _conversation(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str
    ) -> None:
        local = _plain_address(writer.get_extra_info("sockname")[0])
        first = b""
        # ESXi closes without a byte; whether with FIN or RST was not seen, so both are a call.
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._limits.silence):
                first = await reader.read(1)
        if not first:
            self._answer(Call(Transport.BARE, client, local, None))
            return
        async with asyncio.timeout(self._limits.read):
            line = await _line(reader, first)
            if is_http(line):
                answer = await self._http(reader, writer, line, client, local)
            else:
                answer = encode_reply(self._line_call(Transport.TCP, line, client, local))
        async with asyncio.timeout(self._limits.read):
            await _reply(reader, writer, answer)

    def _line_call(self, transport: Transport, line: bytes, client: str, local: str) -> Reply:
        """Raises nothing: a malformed line is a refusal."""
        try:
            message = parse_message(line)
        except CallbackError as error:
            self._note("callback.malformed", client, error.reason)
            return _refusal(error)
        return self._answer(Call(transport, client, local, message))

    async def _http(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes, client: str, local: str
    ) -> bytes:
        try:
            head = parse_head(await _head(reader, line))
            body = await _body(reader, writer, head)
            message = parse_message(body)
        except HttpError as error:
            self._note("callback.malformed", client, error.reason)
            refusal = Reply(Verdict.REFUSED, reason=error.reason)
            return encode_response(refusal, error.status, with_body=not line.startswith(b"HEAD "))
        except CallbackError as error:
            self._note("callback.malformed", client, error.reason)
            return encode_response(_refusal(error), 400)
        return encode_response(self._answer(Call(Transport.HTTP, client, local, message)))


def _refusal(error: CallbackError) -> Reply:
    return Reply(Verdict.REFUSED, reason=error.reason)


def _may_be_answered(data: bytes) -> bool:
    """Whether a malformed datagram gets a refusal: only one that tries to be a message. Answering anything
    else would make us a reflector for spoofed addresses, and answering replies would let two services talk to
    each other for ever."""
    if not data.startswith(b"MIDWIFE/"):
        return False
    try:
        parse_reply(data)
    except CallbackError:
        return data.partition(b" ")[2].partition(b" ")[0].rstrip() not in (b"ok", b"later", b"refused")
    return False


async def _line(reader: asyncio.StreamReader, first: bytes) -> bytes:
    """The rest of the first line; cut where it grows longer than any message (parsing then refuses it)."""
    if first == b"\n":
        return first
    try:
        return first + await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:  # closed without a line end: `printf … | nc`
        return first + error.partial
    except asyncio.LimitOverrunError:
        return first + await reader.read(MAX_SIZE + 1)


async def _head(reader: asyncio.StreamReader, line: bytes) -> bytes:
    head = line
    while len(head) <= MAX_HEAD:
        more = await _line(reader, b"")
        head += more
        if more in (b"\r\n", b"\n", b""):
            return head
    return head


async def _body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: HttpHead) -> bytes:
    if head.length is not None and head.length > MAX_SIZE:
        raise HttpError(413, f"longer than {MAX_SIZE} bytes")
    if head.expects_continue:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if head.length is None:
        # HTTP/1.0 lets the end of the connection end the body; a client that waits for us instead has said
        # all with its line.
        return await _line(reader, b"")
    try:
        return await reader.readexactly(head.length)
    except asyncio.IncompleteReadError:
        raise HttpError(400, "the body is shorter than its Content-Length") from None


async def _reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Sends, then reads what the caller still says: closing over unread bytes makes the kernel send RST,
    which can overtake the reply on its way (RFC 9112 section 9.6)."""
    writer.write(answer)
    await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    for _ in range(8):
        if not await reader.read(8192):
            return
