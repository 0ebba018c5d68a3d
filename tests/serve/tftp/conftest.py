"""The real server process, a control process that the tests can fill and kill, and a host on a raw socket."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

import midwife
from midwife.serve.messages import Ask, Message, Report, decode
from midwife.wire import tftp

FAKE_CONTROL = Path(__file__).with_name("fake_control.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(midwife.__file__).parents[1])}
PATIENCE = 20.0


class Control:
    """The fake control process."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "control.sock"
        self._table = folder / "table.json"
        self._names: dict[str, object] = {}
        self._write()
        self._news = threading.Condition()
        self.heard: list[Message] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, FAKE_CONTROL, self.socket, self._table],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert "ready" in self._process.stdout.readline()
        threading.Thread(target=self._listen, args=[self._process.stdout], daemon=True).start()

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdin.close()

    def knows(self, name: str, **entry: object) -> None:
        """Fill the table; ``knows("x", path=…, cache=True)``."""
        self._names[name] = entry
        self._write()

    def never_answers(self, name: str) -> None:
        self._names[name] = None
        self._write()

    def says(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def report(self, kind: str, name: str | None = None, **fields: object) -> Report:
        """The first report of that kind (of that file), waited for."""

        def fits(message: Message) -> bool:
            return (
                isinstance(message, Report)
                and message.kind == kind
                and (name is None or message.name == name)
                and all(getattr(message, key) == value for key, value in fields.items())
            )

        return self._wait(fits, f"report {kind} {name} {fields}")

    def asked(self, name: str) -> Ask:
        """The first question for that name, waited for."""
        return self._wait(lambda m: isinstance(m, Ask) and m.name == name, f"question for {name}")

    def count(self, what: Callable[[Message], bool]) -> int:
        with self._news:
            return sum(map(what, self.heard))

    def _wait(self, fits: Callable[[Message], bool], what: str) -> Message:
        with self._news:
            arrived = self._news.wait_for(lambda: any(map(fits, self.heard)), PATIENCE)
            assert arrived, f"waited {PATIENCE} s for {what}; heard {self.heard[-20:]}"
            return next(filter(fits, self.heard))

    def _listen(self, lines) -> None:
        with lines:
            for line in lines:
                with self._news:
                    self.heard.append(decode(line.encode()))
                    self._news.notify_all()

    def _write(self) -> None:
        new = self._table.with_suffix(".new")
        new.write_text(json.dumps(self._names))
        new.rename(self._table)


class Server:
    """``python -m midwife.serve.tftp`` as the supervisor runs it."""

    def __init__(self, folder: Path, control: Control, *options: str, hosts: tuple[str, ...]) -> None:
        listeners = [bound(host) for host in hosts]
        self.address = listeners[0].getsockname()[:2]
        self.address6 = next((s.getsockname()[:2] for s in listeners if s.family == socket.AF_INET6), None)
        self.port = self.address[1]
        self._log = folder / "tftp.log"
        fds = [s.fileno() for s in listeners]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "midwife.serve.tftp", "--control", control.socket),
                    *("--fds", ",".join(map(str, fds)), "--stdin-lifeline", *options),
                ],
                pass_fds=fds,
                stdin=subprocess.PIPE,
                stderr=log,
                env=ENVIRONMENT,
            )
        for listener in listeners:
            listener.close()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ends(self) -> int:
        """The exit status, waited for."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()


class Host:
    """A booting host, packet by packet. ``tid`` is the port that answered it."""

    def __init__(self, server: tuple[str, int], source: str = "") -> None:
        self._server = server
        self._sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((source or ("::1" if ":" in server[0] else "127.0.0.1"), 0))
        self._sock.settimeout(PATIENCE)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.tid: tuple[str, int] | None = None
        self.payload = b""
        self.data_packets = 0

    @property
    def port(self) -> int:
        return self._sock.getsockname()[1]

    def asks(self, name: str, mode: str = "octet", **options: object) -> None:
        self.sends(tftp.Request(name, mode, tuple((k, str(v)) for k, v in options.items())))

    def sends(self, packet: tftp.Packet | bytes) -> None:
        raw = packet if isinstance(packet, bytes) else tftp.encode(packet)
        to = self._server if raw[:2] in (b"\0\1", b"\0\2") or self.tid is None else self.tid
        self._sock.sendto(raw, to)

    def acks(self, block: int) -> None:
        self.sends(tftp.Ack(block & 0xFFFF))

    def hears(self) -> tftp.Packet:
        raw, self.tid = self._sock.recvfrom(70000)
        packet = tftp.decode(raw)
        if isinstance(packet, tftp.Data):
            self.data_packets += 1
        return packet

    def loads(self, name: str, **options: object) -> bytes:
        """The whole file, as an honest and patient client reads it."""
        self.asks(name, **options)
        blksize, window, expected, in_window, body = 512, 1, 1, 0, []
        while True:
            packet = self.hears()
            if isinstance(packet, tftp.Error):
                pytest.fail(f"server answered {packet}")
            if isinstance(packet, tftp.OptionAck):
                granted = dict(packet.options)
                blksize, window = int(granted.get("blksize", 512)), int(granted.get("windowsize", 1))
                self.acks(0)
            elif packet.block == expected & 0xFFFF:
                body.append(packet.payload)
                in_window += 1
                expected += 1
                last = len(packet.payload) < blksize
                if last or in_window == window:
                    in_window = 0
                    self.acks(packet.block)
                if last:
                    return b"".join(body)

    def plays(self, transcript: str) -> None:
        """``>>`` lines are sent, ``<<`` lines must come in this order. On a busy machine the server may repeat
        a packet before our answer reaches it; repetitions are passed over."""
        heard_before: set[str] = set()
        for number, line in enumerate(filter(None, map(str.strip, transcript.splitlines())), 1):
            direction, words = line[:2], line[3:].split()
            if direction == ">>":
                self.sends(_packet(words))
            else:
                heard = _words(self.hears())
                while heard != line[3:] and heard in heard_before:
                    heard = _words(self.hears())
                heard_before.add(heard)
                assert heard == line[3:], f"line {number}: expected {line[3:]!r}, heard {heard!r}"

    def close(self) -> None:
        self._sock.close()


def _packet(words: list[str]) -> tftp.Packet:
    match words:
        case ["RRQ", name, *options]:
            return tftp.Request(
                name, "octet", tuple((o.partition("=")[0], o.partition("=")[2]) for o in options)
            )
        case ["WRQ", name]:
            return tftp.Request(name, write=True)
        case ["ACK", block]:
            return tftp.Ack(int(block))
        case ["ERROR", code, *text]:
            return tftp.Error(int(code), " ".join(text))
    raise ValueError(words)


def _words(packet: tftp.Packet) -> str:
    match packet:
        case tftp.Data(block, payload):
            return f"DATA {block} of {len(payload)}"
        case tftp.OptionAck(options):
            return " ".join(["OACK", *(f"{k}={v}" for k, v in options)])
        case tftp.Error(code, text):
            return f"ERROR {code} {text}"
        case tftp.Ack(block):
            return f"ACK {block}"
    raise ValueError(packet)


def bound(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, 0))
    return sock


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that can only be looked at."""
    end, pause = monotonic() + PATIENCE, threading.Event()
    while not holds():
        assert monotonic() < end, f"waited {PATIENCE} s for {what}"
        pause.wait(0.01)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as an image has them; contents without a pattern, so that a misplaced block is seen."""
    root = tmp_path_factory.mktemp("tree")
    noise = random.Random(1350)
    for name, size in {
        "mboot.efi": 201024,
        "empty": 0,
        "exact": 3 * 512,
        "boot.cfg": 700,
        "s.v00": 3_000_000,
        "rollover": 600 << 10,
    }.items():
        (root / name).write_bytes(noise.randbytes(size))
    (root / "ks.cfg").write_bytes(b"vmaccepteula\nrootpw x\r\ninstall\n")
    return root


def _control(folder: Path, tree: Path) -> Control:
    control = Control(folder)
    for file in tree.iterdir():
        control.knows(file.name, path=str(file), cache=True)
    control.start()
    return control


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> Iterator[Control]:
    control = _control(tmp_path_factory.mktemp("control"), tree)
    yield control
    control.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, control: Control) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), control, hosts=("127.0.0.1", "::1"))
    yield server
    server.close()
    assert "bug in the TFTP server" not in server.log


@pytest.fixture
def own_control(tmp_path: Path, tree: Path) -> Iterator[Control]:
    """For tests that kill it."""
    control = _control(tmp_path, tree)
    yield control
    control.kill()


@pytest.fixture
def own_server(tmp_path: Path, own_control: Control) -> Iterator[Callable[..., Server]]:
    """Starts a server of the test's own, with options."""
    started: list[Server] = []

    def start(*options: str, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Server:
        started.append(Server(tmp_path, own_control, *options, hosts=hosts))
        return started[-1]

    yield start
    for server in started:
        server.close()
        assert "bug in the TFTP server" not in server.log


@pytest.fixture
def host(server: Server) -> Iterator[Host]:
    host = Host(server.address)
    yield host
    host.close()


@pytest.fixture
def new_host() -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def make(server: tuple[str, int], source: str = "") -> Host:
        hosts.append(Host(server, source))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()
