"""The boot plane's HTTP, as a process of its own with the real desk behind it.

What firmware and loaders depend on: exact lengths, exact bytes, one connection for many files, and that nobody's
nonsense disturbs anybody else.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from midwife.serve.http.server import BootServer, plain_answer

from .control_stub import ControlStub
from .waiting import eventually
from .web import connect, fetch

_SIZE = 300_001


class Plane:
    """The HTTP process and what it was started with."""

    def __init__(self, folder: Path, before: tuple[str, ...] = ()) -> None:
        self.tree = folder / "tree"
        self.tree.mkdir(parents=True)
        self.control = ControlStub(self.tree, folder / "control.sock")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pipe, self.lifeline = os.pipe()
        fd = self._listener.fileno()
        command = [*before, sys.executable, "-m", "midwife.serve.http"]
        command += ["--control", str(self.control.path), f"--fds={fd}"]
        self.log = folder / "http.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=self._pipe, stderr=log, pass_fds=[fd])

    def put(self, name: str, content: bytes) -> bytes:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return content

    def stop(self) -> None:
        os.close(self.lifeline)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            os.close(self._pipe)
            self._listener.close()
            self.control.close()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One process for the whole module: that it still answers the last test is part of the proof."""
    plane = Plane(tmp_path_factory.mktemp("plane"))
    plane.put("esx/b.b00", random.Random(1).randbytes(_SIZE))
    yield plane
    plane.stop()
    told = plane.log.read_text()
    assert "Traceback" not in told, told
    assert plane.process.returncode == 0, told


@pytest.fixture
def kernel(plane: Plane) -> bytes:
    return (plane.tree / "esx/b.b00").read_bytes()


# what loaders do


def test_a_file_arrives_whole_with_its_length_and_validators(plane: Plane, kernel: bytes) -> None:
    answer = fetch(plane.port, "/esx/b.b00")
    assert answer.status == 200
    assert answer.body == kernel
    assert answer.headers["content-length"] == str(_SIZE)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"].startswith('"')
    assert "content-encoding" not in answer.headers
    assert answer.headers["server"] == "midwife"


def test_head_says_how_long_the_file_is_and_counts_as_a_probe(plane: Plane) -> None:
    with connect(plane.port) as mboot:
        head = mboot.ask("/a/a02/esx/b.b00", "HEAD")
        get = mboot.ask("/a/a02/esx/b.b00")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(_SIZE)
    assert head.headers["etag"] == get.headers["etag"]
    probe = plane.control.wait("probe", "a02")
    served = plane.control.wait("served", "a02")
    assert (probe.attempt, probe.sent) == ("a02", 0)
    assert (served.attempt, served.sent, served.size) == ("a02", _SIZE, _SIZE)
    assert (served.client, served.name) == ("127.0.0.1", "a/a02/esx/b.b00")


def test_mboot_loads_sixty_modules_over_one_connection(plane: Plane) -> None:
    modules = {f"esx/mod{number}.v00": os.urandom(1 + number * 500) for number in range(60)}
    for name, content in modules.items():
        plane.put(name, content)
    with connect(plane.port) as mboot:
        for name, content in modules.items():
            assert mboot.ask(f"/a/k3v9/{name}", "HEAD").headers["content-length"] == str(len(content))
            assert mboot.ask(f"/a/k3v9/{name}").body == content


def test_an_empty_file_is_served_and_counted(plane: Plane) -> None:
    plane.put("esx/empty.v00", b"")
    answer = fetch(plane.port, "/a/a04/esx/empty.v00")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "0", b"")
    plane.control.wait("served", "a04")


def test_a_firmware_that_speaks_http_1_0_needs_no_host_header(plane: Plane, kernel: bytes) -> None:
    with connect(plane.port) as firmware:
        answer = firmware.ask("/esx/b.b00", version="1.0")
        assert (answer.status, answer.body) == (200, kernel)
        assert firmware.at_end(), "HTTP/1.0 without keep-alive ends with the answer"


def test_connection_close_is_obeyed(plane: Plane, kernel: bytes) -> None:
    with connect(plane.port) as client:
        answer = client.ask("/esx/b.b00", Connection="close")
        assert answer.body == kernel
        assert client.at_end()


def test_curl_gets_the_same_bytes(plane: Plane, kernel: bytes, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl on this machine")
    url = f"http://127.0.0.1:{plane.port}/esx/b.b00"
    first = tmp_path / "first"
    subprocess.run(["curl", "-sSf", "-r", "0-99999", "-o", first, url], check=True)
    subprocess.run(["curl", "-sSf", "-C", "-", "-o", first, url], check=True)
    assert first.read_bytes() == kernel, "a resumed download is the same file"
    compressed = subprocess.run(["curl", "-sSf", "--compressed", url], check=True, capture_output=True)
    assert compressed.stdout == kernel


def test_the_query_string_does_not_belong_to_the_name(plane: Plane, kernel: bytes) -> None:
    assert fetch(plane.port, "/esx/b.b00?x=1&x=2&=&%00=%ff").body == kernel


def test_a_proxy_may_ask_with_the_whole_url(plane: Plane, kernel: bytes) -> None:
    assert fetch(plane.port, f"http://127.0.0.1:{plane.port}/esx/b.b00").body == kernel


@pytest.mark.parametrize(
    "target", ["//esx/b.b00", "/esx//b.b00", "/esx/%62.b00", "/esx%2Fb.b00", "/./esx/b.b00"]
)
def test_loaders_write_the_same_name_in_many_ways(plane: Plane, kernel: bytes, target: str) -> None:
    assert fetch(plane.port, target).body == kernel


# ranges and validators (RFC 9110 sections 13 and 14)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=1000-1999", 1000, 2000),
        ("bytes=300000-", 300_000, _SIZE),
        ("bytes=299990-999999999", 299_990, _SIZE),
        ("bytes=-1", _SIZE - 1, _SIZE),
        ("bytes=-99999999", 0, _SIZE),
        ("bytes=0-", 0, _SIZE),
    ],
)
def test_one_range_gives_these_bytes(plane: Plane, kernel: bytes, asked: str, start: int, stop: int) -> None:
    answer = fetch(plane.port, "/esx/b.b00", Range=asked)
    assert answer.status == 206
    assert answer.body == kernel[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{_SIZE}"


@pytest.mark.parametrize("asked", [f"bytes={_SIZE}-", f"bytes={_SIZE + 5}-{_SIZE + 9}", "bytes=-0"])
def test_a_range_beyond_the_end_is_416_and_the_connection_lives(
    plane: Plane, kernel: bytes, asked: str
) -> None:
    with connect(plane.port) as client:
        refused = client.ask("/esx/b.b00", Range=asked)
        assert (refused.status, refused.headers["content-range"]) == (416, f"bytes */{_SIZE}")
        assert client.ask("/esx/b.b00").body == kernel


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,4-5", "bytes=0-0, -1", "bytes=9-3", "bytes=a-b", "bytes=", "bytes=-", "lines=1-2", "0-5"],
)
def test_several_ranges_and_nonsense_give_the_whole_file(plane: Plane, kernel: bytes, asked: str) -> None:
    answer = fetch(plane.port, "/esx/b.b00", Range=asked)
    assert (answer.status, answer.body) == (200, kernel)


def test_a_range_has_no_meaning_for_head(plane: Plane) -> None:
    answer = fetch(plane.port, "/esx/b.b00", "HEAD", Range="bytes=0-9")
    assert (answer.status, answer.headers["content-length"]) == (200, str(_SIZE))


def test_who_has_the_file_is_told_304(plane: Plane) -> None:
    first = fetch(plane.port, "/esx/b.b00", "HEAD")
    with connect(plane.port) as client:
        for header in (
            {"If_None_Match": first.headers["etag"]},
            {"If_None_Match": f'"x", {first.headers["etag"]}'},
        ):
            assert client.ask("/esx/b.b00", **header).status == 304
        assert client.ask("/esx/b.b00", If_Modified_Since=first.headers["last-modified"]).status == 304
        assert client.ask("/esx/b.b00", If_None_Match='"other"').status == 200


def test_a_resumed_download_continues_only_the_same_file(plane: Plane, kernel: bytes) -> None:
    first = fetch(plane.port, "/esx/b.b00", "HEAD")
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    later, earlier = formatdate(2_000_000_000, usegmt=True), formatdate(1_000_000_000, usegmt=True)
    for validator in (etag, modified):
        answer = fetch(plane.port, "/esx/b.b00", Range="bytes=10-19", If_Range=validator)
        assert (answer.status, answer.body) == (206, kernel[10:20]), validator
    for validator in ('"other"', f"W/{etag}", etag.strip('"'), later, earlier, "yesterday", '"'):
        answer = fetch(plane.port, "/esx/b.b00", Range="bytes=10-19", If_Range=validator)
        assert (answer.status, answer.body) == (200, kernel), validator


def test_gzip_beside_the_file_is_another_file(plane: Plane) -> None:
    plain = plane.put("esx/s.v00", b"plain" * 1000)
    plane.put("esx/s.v00.gz", b"packed")
    plane.put("esx/s.v00.br", b"packed otherwise")
    answer = fetch(plane.port, "/esx/s.v00", Accept_Encoding="gzip, br, identity")
    assert answer.body == plain
    assert "content-encoding" not in answer.headers


def test_a_rendered_text_is_never_kept_and_has_its_length(plane: Plane) -> None:
    plane.control.texts["boot.cfg"] = b"kernel=b.b00\n"
    answer = fetch(plane.port, "/boot.cfg", Range="bytes=0-3")
    assert (answer.status, answer.body) == (200, b"kernel=b.b00\n")
    assert answer.headers["cache-control"] == "no-store"
    assert fetch(plane.port, "/boot.cfg", "HEAD").headers["content-length"] == "13"
    assert fetch(plane.port, "/boot.cfg", If_None_Match=answer.headers["etag"]).status == 304
    plane.control.texts["boot.cfg"] = b"kernel=other\n"
    assert fetch(plane.port, "/boot.cfg", If_None_Match=answer.headers["etag"]).body == b"kernel=other\n"


# what others do


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/../http.log", 403),
        ("/esx/../../http.log", 403),
        ("/%2e%2e/http.log", 403),
        ("/..%2fhttp.log", 403),
        ("/..%5chttp.log", 403),
        ("/esx/b.b00%00.txt", 400),
        ("/esx/%0d%0aX-Evil:1", 403),
        ("/esx/%ff%fe", 404),
        ("/esx/" + "x" * 3000, 400),
        ("/nothing", 404),
        ("/", 404),
        ("/admin", 404),
        ("/metrics", 404),
        ("*", 400),
    ],
)
def test_names_that_are_not_ours(plane: Plane, target: str, status: int) -> None:
    answer = fetch(plane.port, target)
    assert answer.status == status
    assert answer.body.count(b"\n") == 1, "one line, it ends up on a firmware console"
    assert answer.headers["server"] == "midwife"
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PATCH"])
def test_only_reading(plane: Plane, method: str) -> None:
    answer = fetch(plane.port, "/esx/b.b00", method, Content_Length="0")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_body_is_not_taken_for_the_next_request(plane: Plane, kernel: bytes) -> None:
    with connect(plane.port) as client:
        client.send(
            "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 34\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert client.answer().status == 405
        assert client.ask("/esx/b.b00").body == kernel
    assert not plane.control.asked["smuggled"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0\1\2\3\4\5\6\7\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /esx/b.b00 HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
    ],
)
def test_garbage_gets_one_line_and_disturbs_nobody(plane: Plane, kernel: bytes, nonsense: bytes) -> None:
    plane.control.forget_reports()
    with connect(plane.port) as good, connect(plane.port) as bad:
        good.ask("/esx/b.b00", "HEAD")
        with contextlib.suppress(ConnectionError):  # told, and hung up on, before it has said everything
            bad.send(nonsense)
        with contextlib.suppress(ConnectionError, EOFError):
            status, headers = bad.head()
            assert 400 <= status < 500
            assert "python" not in headers["server"].lower()
        assert good.ask("/esx/b.b00").body == kernel
    told = plane.control.wait("malformed")
    assert told.client == "127.0.0.1"
    assert len(told.detail) <= 200


def test_three_hundred_slow_clients_do_not_slow_the_next(plane: Plane, kernel: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(plane.port)).send("GET /esx/b.b00 HTTP/1.1\r\nX-Slow: ")
        assert fetch(plane.port, "/esx/b.b00").body == kernel


async def test_a_connection_that_never_asks_is_closed() -> None:
    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return plain_answer(200, "hello\n")

    server = BootServer(answer, lambda _client, _reason: None, idle=0.2)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        for opening in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(opening)
            assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 20)
        assert said.endswith(b"hello\n"), "after an answer, too, an idle connection ends"
        writer.close()
        await server.shutdown(1)


def test_a_client_that_leaves_in_the_middle_is_told_as_aborted(plane: Plane, kernel: bytes) -> None:
    big = 64 << 20
    with (plane.tree / "big").open("wb") as file:
        file.truncate(big)
    with connect(plane.port, buffer=4096) as client:
        client.send("GET /a/a25/big HTTP/1.1\r\nHost: x\r\n\r\n")
        client.head()
        client.read(100_000)
    gone = plane.control.wait("aborted", "a25")
    assert (gone.attempt, gone.size) == ("a25", big)
    assert gone.sent < big
    assert gone.detail
    assert fetch(plane.port, "/esx/b.b00").body == kernel


def test_a_long_download_tells_how_far_it_is(plane: Plane) -> None:
    megabytes = 64
    with (plane.tree / "long").open("wb") as file:
        file.truncate(megabytes << 20)
    with connect(plane.port, buffer=1 << 16) as client:
        client.send("GET /a/a26/long HTTP/1.1\r\nHost: x\r\n\r\n")
        client.head()
        taken = 0

        def news() -> bool:  # a megabyte now and then: news is told at most every 0.4 s
            nonlocal taken
            client.read(1 << 20)
            taken += 1
            return plane.control.has("progress", "a26")

        eventually(news, "news of progress")
        client.read((megabytes - taken) << 20)
    assert 0 < plane.control.wait("progress", "a26").sent < megabytes << 20
    assert plane.control.wait("served", "a26").seconds >= plane.control.wait("progress", "a26").seconds


def test_a_file_that_shrinks_under_a_download_breaks_that_download_only(plane: Plane, kernel: bytes) -> None:
    path = plane.tree / "shrinking"
    with path.open("wb") as file:
        file.truncate(256 << 20)
    with connect(plane.port, buffer=4096) as client:
        client.send("GET /a/a27/shrinking HTTP/1.1\r\nHost: x\r\n\r\n")
        client.head()
        client.read(1000)
        os.truncate(path, 1 << 20)
        with pytest.raises((EOFError, ConnectionError)):
            client.read(256 << 20)
    told = plane.control.wait("aborted", "a27")
    assert "shorter" in told.detail
    assert fetch(plane.port, "/esx/b.b00").body == kernel


def test_a_file_that_disappears_ends_its_downloads_and_is_asked_for_again(plane: Plane) -> None:
    content = plane.put("esx/leaving.v00", os.urandom(4 << 20))
    with connect(plane.port, buffer=4096) as client:
        client.send("GET /esx/leaving.v00 HTTP/1.1\r\nHost: x\r\n\r\n")
        _, headers = client.head()
        (plane.tree / "esx/leaving.v00").unlink()
        assert client.read(int(headers["content-length"])) == content
    with connect(plane.port) as client:
        gone = client.ask("/esx/leaving.v00")
        assert (gone.status, gone.body) == (404, b"")
        plane.put("esx/leaving.v00", b"back")
        assert client.ask("/esx/leaving.v00").body == b"back"
    assert plane.control.asked["esx/leaving.v00"] == 2, "the cached answer was forgotten"


def test_a_plain_file_is_asked_for_once_until_the_site_changes(plane: Plane) -> None:
    plane.put("esx/once.v00", b"x")
    for attempt in ("1", "2", "3"):
        fetch(plane.port, f"/a/{attempt}/esx/once.v00")
    assert sum(plane.control.asked[f"a/{attempt}/esx/once.v00"] for attempt in "123") == 1
    plane.control.flush()

    def asked_again() -> bool:
        fetch(plane.port, "/a/4/esx/once.v00")
        return plane.control.asked["a/4/esx/once.v00"] > 0

    eventually(asked_again, "the cache to be flushed")


def test_two_hundred_downloads_at_a_time_are_all_right(plane: Plane) -> None:
    size, clients = 20 << 20, 200
    content = plane.put("esx/large.v00", random.Random(2).randbytes(size))
    wanted = hashlib.sha256(content).digest()
    wrong: list[str] = []

    def load(number: int) -> None:
        buffer = bytearray(1 << 18)
        digest = hashlib.sha256()
        try:
            with connect(plane.port) as client:
                client.send(f"GET /a/{number}/esx/large.v00 HTTP/1.1\r\nHost: x\r\n\r\n")
                client.head()
                left = size - len(client._rest)
                digest.update(client._rest)
                while left and (count := client.sock.recv_into(buffer)):
                    digest.update(memoryview(buffer)[:count])
                    left -= count
            if digest.digest() != wanted:
                wrong.append(f"{number}: other bytes, {left} missing")
        except OSError as error:
            wrong.append(f"{number}: {error}")

    threads = [threading.Thread(target=load, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{plane.process.pid}/status").read_text())
    assert peak
    assert int(peak[1]) < 100_000, "memory does not grow with what is downloaded"


# the process


@pytest.fixture
def own_plane(tmp_path: Path) -> Iterator[Callable[..., Plane]]:
    """Planes that the test may break."""
    made: list[Plane] = []

    def make(*before: str) -> Plane:
        made.append(Plane(tmp_path / str(len(made)), before))
        return made[-1]

    yield make
    for plane in made:
        with contextlib.suppress(OSError):
            plane.stop()


def test_files_leave_by_sendfile(own_plane: Callable[..., Plane], tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("no strace on this machine")
    trace = tmp_path / "trace"
    plane = own_plane("strace", "-f", "-qq", "-e", "trace=sendfile", "-o", str(trace))
    content = plane.put("big", os.urandom(20 << 20))
    answer = fetch(plane.port, "/big")
    if answer.body != content and "ptrace" in plane.log.read_text():
        pytest.skip("strace may not trace here")
    assert answer.body == content
    plane.stop()
    moved = sum(int(count) for count in re.findall(r"sendfile\(.*= (\d+)$", trace.read_text(), re.M))
    assert moved == len(content), "every byte of the file, and no read() and write() of it"


def test_stopping_finishes_downloads_and_takes_no_new_ones(own_plane: Callable[..., Plane]) -> None:
    plane = own_plane()
    content = plane.put("big", os.urandom(16 << 20))
    with connect(plane.port, buffer=4096) as client:
        client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        client.head()
        first = client.read(1000)
        plane.process.send_signal(signal.SIGTERM)
        plane._listener.close()  # as the supervisor does

        def refused() -> bool:
            try:
                fetch(plane.port, "/big", "HEAD")
            except (OSError, EOFError):
                return True
            return False

        eventually(refused, "new connections to be refused")
        assert first + client.read(len(content) - 1000) == content
    assert plane.process.wait(20) == 0


def test_a_dead_supervisor_is_noticed(own_plane: Callable[..., Plane]) -> None:
    plane = own_plane()
    plane.put("x", b"x")
    assert fetch(plane.port, "/x").status == 200
    plane.stop()
    assert plane.process.returncode == 0


def test_when_the_control_process_never_answers_the_client_is_told_to_come_back(tmp_path: Path) -> None:
    """In process, with a short patience: ten seconds are too long for a test."""
    from midwife.serve.http.app import boot_server
    from midwife.serve.link import ControlLink

    async def story() -> bytes:
        server = boot_server(ControlLink(tmp_path / "nobody.sock", timeout=0.05))
        async with await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0) as listener:
            reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
            writer.write(b"GET /boot.ipxe HTTP/1.0\r\n\r\n")
            said = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return said

    said = asyncio.run(story())
    assert said.startswith(b"HTTP/1.0 503 ")
    assert b"Retry-After: 2" in said
