"""The callback listener on the loopback, called by nc, busybox nc, curl, http.client and by hostile sockets."""

import asyncio
import contextlib
import http.client
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
import structlog
from structlog.testing import capture_logs

from midwife.core.facts import Facts
from midwife.serve.callback import Call, CallbackListener, Limits, Transport, facts_of
from midwife.wire.callback import CallbackMessage, Phase, Reply, Verdict

LINE = b"MIDWIFE/1 token=t0ken serial=S1 macs=52:54:00:12:34:56\n"
OK = b"MIDWIFE/1 ok attempt=a1\n"


@dataclass
class Service:
    """A listener on both loopbacks' TCP and UDP, and what its calls were."""

    port: int
    calls: list[Call] = field(default_factory=list)
    answer: Callable[[Call], Reply] = lambda call: Reply(Verdict.OK, attempt="a1")
    rang: asyncio.Event = field(default_factory=asyncio.Event)

    def handle(self, call: Call) -> Reply:
        self.calls.append(call)
        self.rang.set()
        return self.answer(call)

    async def next_call(self) -> Call:
        await asyncio.wait_for(self.rang.wait(), 20)
        self.rang.clear()
        return self.calls[-1]


def bound(kind: socket.SocketKind, address: str, port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.bind((address, port))
    return sock


def same_port() -> tuple[socket.socket, socket.socket, int]:
    """A TCP and a UDP socket on one port; another process may hold the UDP one, then the next is tried."""
    for _ in range(50):
        tcp = bound(socket.SOCK_STREAM, "127.0.0.1")
        port = tcp.getsockname()[1]
        try:
            return tcp, bound(socket.SOCK_DGRAM, "127.0.0.1", port), port
        except OSError:
            tcp.close()
    raise AssertionError("no port is free for both TCP and UDP")


@contextlib.asynccontextmanager
async def running(limits: Limits | None = None) -> AsyncIterator[Service]:
    tcp, udp, port = same_port()
    service = Service(port)
    listener = CallbackListener(service.handle, limits=limits, log=structlog.get_logger())
    await listener.start([tcp], [udp])
    try:
        yield service
    finally:
        await listener.close()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with running() as found:
        yield found


async def program(*command: str, data: bytes = LINE) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await asyncio.wait_for(process.communicate(data), 20)
    return output


async def say(port: int, data: bytes, *, eof: bool = False) -> bytes:
    """Everything a plain socket hears after it said this."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    if eof:
        writer.write_eof()
    heard = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return heard


@pytest.mark.parametrize(
    "nc", [["nc", "-w", "15"], ["busybox", "nc", "-w", "15"]], ids=["OpenBSD", "busybox"]
)
async def test_nc_sends_the_line_and_prints_the_reply(service: Service, nc: list[str]) -> None:
    assert await program(*nc, "127.0.0.1", str(service.port)) == OK

    call = await service.next_call()
    assert (call.transport, call.client, call.local) == (Transport.TCP, "127.0.0.1", "127.0.0.1")
    assert call.message == CallbackMessage(token="t0ken", serial="S1", macs=("52:54:00:12:34:56",))


async def test_a_line_without_its_end_counts_when_the_caller_has_finished(service: Service) -> None:
    assert await say(service.port, b"MIDWIFE/1 phase=pre", eof=True) == OK
    message = (await service.next_call()).message
    assert message is not None
    assert message.phase is Phase.PRE


async def test_a_line_in_pieces(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    for piece in (b"M", b"IDWIFE/1 serial=", b"S1", b"\r\n"):
        writer.write(piece)
        await writer.drain()
    assert await asyncio.wait_for(reader.read(), 20) == OK
    writer.close()


async def test_the_same_host_may_call_again_and_again(service: Service) -> None:
    for _ in range(3):
        assert await say(service.port, LINE) == OK
    assert len(service.calls) == 3


@pytest.mark.parametrize("command", [["nc", "-z"], ["busybox", "nc"]], ids=["OpenBSD -z", "busybox"])
async def test_a_connection_without_a_byte_is_a_bare_call(service: Service, command: list[str]) -> None:
    """What ESXi's own PBHOST= does: connect, close."""
    await program(*command, "127.0.0.1", str(service.port), data=b"")

    call = await service.next_call()
    assert (call.transport, call.client, call.message) == (Transport.BARE, "127.0.0.1", None)


async def test_a_reset_without_a_byte_is_a_bare_call_too() -> None:
    async with running(Limits(per_client=1)) as service:
        _, first = await asyncio.open_connection("127.0.0.1", service.port)
        with contextlib.suppress(ConnectionError):  # turned away: so the first one has been accepted
            assert await say(service.port, b"") == b""
        assert service.calls == []

        raw = first.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.transport.abort()

        assert (await service.next_call()).transport is Transport.BARE


async def test_silence_is_a_bare_call() -> None:
    async with running(Limits(silence=0.05)) as service:
        assert await say(service.port, b"") == b""
        assert (await service.next_call()).transport is Transport.BARE


async def test_a_datagram_is_answered_with_a_datagram(service: Service) -> None:
    answer = await program("nc", "-u", "-W", "1", "-w", "15", "127.0.0.1", str(service.port))

    assert answer == OK
    call = await service.next_call()
    assert (call.transport, call.client, call.local) == (Transport.UDP, "127.0.0.1", "127.0.0.1")
    assert call.message is not None
    assert call.message.token == "t0ken"


async def test_a_datagram_that_is_a_reply_or_noise_is_not_answered(service: Service) -> None:
    """Else a spoofed sender makes two services talk for ever, or us a reflector."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", service.port))
        loop = asyncio.get_running_loop()
        for noise in (
            b"",
            b"\0" * 9000,
            b"GET / HTTP/1.0\r\n\r\n",
            OK,
            b"MIDWIFE/1 refused x\n",
            b"MIDWIFE/1 ok\n",
        ):
            sock.send(noise)
        sock.send(b"MIDWIFE/1 serial=%zz\n")
        sock.send(LINE)
        heard = [await asyncio.wait_for(loop.sock_recv(sock, 9000), 20) for _ in range(2)]

    assert heard[0].startswith(b"MIDWIFE/1 refused reason=serial:")
    assert heard[1] == OK
    assert len(service.calls) == 1


async def test_an_icmp_error_for_an_answer_does_not_stop_the_datagrams(service: Service) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.connect(("127.0.0.1", service.port))
        gone.send(LINE)
    for _ in range(2):
        assert await program("nc", "-u", "-W", "1", "-w", "15", "127.0.0.1", str(service.port)) == OK


async def test_curl_posts(service: Service) -> None:
    url = f"http://127.0.0.1:{service.port}/any/path?x=1"
    for option in ("--http1.0", "--http1.1"):
        output = await program("curl", "-s", option, "-w", "%{http_code}", "--data-binary", "@-", url)
        assert output == OK + b"200"
        assert (await service.next_call()).transport is Transport.HTTP
    asked = await program("curl", "-s", "-H", "Expect: 100-continue", "--data-binary", "@-", url)
    assert asked == OK


async def test_busybox_wget_posts(service: Service) -> None:
    url = f"http://127.0.0.1:{service.port}/"
    output = await program("busybox", "wget", "-q", "-O", "-", "--post-data", LINE.decode().strip(), url)
    assert output == OK


async def test_http_client_reads_every_verdict(service: Service) -> None:
    def post(method: str, body: bytes | None) -> tuple[int, bytes, str | None]:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
        connection.request(method, "/", body=body)
        response = connection.getresponse()
        try:
            return response.status, response.read(), response.getheader("Allow")
        finally:
            connection.close()

    assert await asyncio.to_thread(post, "POST", LINE) == (200, OK, None)
    service.answer = lambda call: Reply(Verdict.LATER, seconds=7, reason="busy")
    assert (await asyncio.to_thread(post, "POST", LINE))[0] == 503
    service.answer = lambda call: Reply(Verdict.REFUSED, reason="token")
    assert await asyncio.to_thread(post, "POST", LINE) == (403, b"MIDWIFE/1 refused reason=token\n", None)
    status, body, _ = await asyncio.to_thread(post, "POST", b"hello")
    assert (status, body[:27]) == (400, b"MIDWIFE/1 refused reason=th")
    for method in ("GET", "HEAD", "PUT"):
        status, body, allow = await asyncio.to_thread(post, method, None)
        assert (status, allow, bool(body)) == (405, "POST", method != "HEAD")
    assert len(service.calls) == 3


async def test_http_without_content_length_ends_with_line_or_connection(service: Service) -> None:
    head = b"POST / HTTP/1.0\r\n\r\n"
    for request, eof in ((head + LINE, False), (head + LINE.strip(), True)):
        assert (await say(service.port, request, eof=eof)).endswith(b"\r\n\r\n" + OK)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello 192.0.2.1\n", b"MIDWIFE/1 refused reason=the%20line%20does%20not%20start"),
        (b"\n", b"MIDWIFE/1 refused reason=the%20line%20does%20not%20start"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", b"MIDWIFE/1 refused reason=bytes%20above%20127"),
        (b"MIDWIFE/1 a=" + b"x" * 100_000 + b"\n", b"MIDWIFE/1 refused reason=longer%20than%208192%20bytes"),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"HTTP/1.1 431 "),
        (b"POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n", b"HTTP/1.1 413 "),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 411 "),
        (b"POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\nshort", b"HTTP/1.1 400 "),
    ],
    ids=["words", "empty line", "TLS", "endless line", "endless head", "large body", "chunked", "short body"],
)
async def test_nonsense_is_refused_in_one_log_line(service: Service, data: bytes, reason: bytes) -> None:
    with capture_logs() as logs:
        heard = await say(service.port, data, eof=True)

    assert heard.startswith(reason)
    assert [(entry["event"], entry["client"]) for entry in logs] == [("callback.malformed", "127.0.0.1")]
    assert service.calls == []
    assert await say(service.port, LINE) == OK


async def test_repeated_nonsense_is_logged_once_and_then_counted() -> None:
    async with running(Limits(log_every=3600)) as service:
        with capture_logs() as logs:
            for _ in range(20):
                await say(service.port, b"hello\n")
        assert len(logs) == 1


async def test_a_message_that_never_ends_is_cut() -> None:
    async with running(Limits(read=0.05)) as service:
        with capture_logs() as logs:
            assert await say(service.port, b"MIDWIFE/1 serial=") == b""
        assert [(entry["event"], entry["reason"]) for entry in logs] == [
            ("callback.cut", "the message did not end in time")
        ]
        assert service.calls == []
        assert await say(service.port, LINE) == OK


async def test_one_client_cannot_take_all_connections_and_others_still_get_through() -> None:
    async with running(Limits(per_client=2, connections=3)) as service:
        idle = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(2)]
        for _, writer in idle:  # a first byte each, so that both are surely counted
            writer.write(b"M")
            await writer.drain()
        with capture_logs() as logs:
            third = await asyncio.open_connection("127.0.0.1", service.port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(third[0].read(), 20) == b""
        assert [entry["event"] for entry in logs] == ["callback.crowded"]

        assert await program("nc", "-s", "127.0.0.2", "-w", "15", "127.0.0.1", str(service.port)) == OK
        assert service.calls[-1].client == "127.0.0.2"

        idle[0][1].write(b"IDWIFE/1\n")  # the first two were only slow: still served
        assert await asyncio.wait_for(idle[0][0].read(), 20) == OK
        for _, writer in [*idle, third]:
            writer.close()


async def test_a_handler_that_fails_asks_the_host_to_come_again(service: Service) -> None:
    def fail(call: Call) -> Reply:
        raise RuntimeError("the database is away")

    service.answer = fail
    with capture_logs() as logs:
        heard = await say(service.port, LINE)

    assert heard.startswith(b"MIDWIFE/1 later seconds=30 ")
    assert [entry["event"] for entry in logs] == ["callback.failed"]
    assert "the database is away" in logs[0]["traceback"]
    assert "t0ken" not in str(logs)


async def test_an_ipv4_caller_of_an_ipv6_socket_has_its_own_address() -> None:
    service = Service(0)
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    service.port = sock.getsockname()[1]
    listener = CallbackListener(service.handle)
    await listener.start([sock], [])
    try:
        assert await say(service.port, LINE) == OK
        assert await program("nc", "-w", "15", "::1", str(service.port)) == OK
    finally:
        await listener.close()

    assert [(call.client, call.local) for call in service.calls] == [("127.0.0.1",) * 2, ("::1",) * 2]


async def test_closing_ends_open_conversations() -> None:
    async with running() as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"MIDWIFE/1 ")
        await writer.drain()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", service.port)


def test_facts_of_a_message_leave_out_what_identifies_nothing() -> None:
    message = CallbackMessage(
        uuid="03000200-0400-0500-0006-000700080009",  # AMI's sample UUID
        serial="To be filled by O.E.M.",
        macs=("52-54-00-AA-BB-CC", "nonsense", "525400aabbcc"),
        hostname="localhost.localdomain",
        vendor=" Dell  Inc. ",
        model="Default string",
        version="VMware ESXi 8.0.3 ",
    )

    assert facts_of(message) == Facts(
        macs=("52:54:00:aa:bb:cc",), vendor="Dell Inc.", version="VMware ESXi 8.0.3"
    )


def test_facts_of_a_message_keep_what_does() -> None:
    message = CallbackMessage(
        uuid="4C4C4544-0042-4610-8053-B3C04F345433", serial="3BFS4T3", hostname="esx-01.lab.example"
    )

    facts = facts_of(message)

    assert (facts.uuid, facts.serial) == ("4c4c4544-0042-4610-8053-b3c04f345433", "3BFS4T3")
    assert (facts.hostname, facts.domain) == ("esx-01", "lab.example")
    assert facts_of(CallbackMessage(uuid="junk")).uuid == ""
