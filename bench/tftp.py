"""TFTP: midwife's data plane against tftpd-hpa, atftpd and dnsmasq, in one run. Prints ratios; no test.

    python bench/tftp.py [--rounds N] [--megabytes N] [--fetch]

Each server is pinned to one core and the client, which is the same for all, to another. The servers take turns
within a round. CPU is that of the server's control group (children and system time included); it is
the fair figure, because the Python client is the bottleneck wherever its load is printed above 80 %. Every byte
is compared.
"""

import argparse
import contextlib
import json
import os
import random
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench-peers"
sys.path.insert(0, str(ROOT))

from midwife.serve.messages import Ask, Found, decode, encode, split_attempt  # noqa: E402
from midwife.wire import tftp  # noqa: E402

RETRY, TRIES = 1.0, 6
"""The client's timer, seconds, doubling; as boot firmware has it."""


@dataclass(frozen=True)
class Cell:
    """What is loaded: by how many hosts, in blocks and windows of which size."""

    blksize: int
    window: int
    hosts: int = 1

    def __str__(self) -> str:
        return f"{self.hosts} x blksize {self.blksize} windowsize {self.window}"


@dataclass
class Result:
    megabytes: float = 0.0
    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0
    client_load: list[float] = field(default_factory=list)
    retries: int = 0
    failed: int = 0
    granted: str = ""


CELLS = (Cell(512, 1), Cell(1468, 1), Cell(1468, 4), Cell(1468, 16), Cell(1468, 1, 100), Cell(1468, 4, 100))


class Client:
    """Many hosts in one process, on epoll; each loads the file once."""

    def __init__(self, server: tuple[str, int], cell: Cell, name: str, body: bytes) -> None:
        self._cell = cell
        self._body = body
        self._epoll = select.epoll()
        self.retries = self.failed = 0
        self.granted = ""
        options = [("blksize", str(cell.blksize))] if cell.blksize != 512 else []
        options += [("windowsize", str(cell.window))] if cell.window > 1 else []
        self._request = tftp.encode(tftp.Request(name, "octet", tuple(options)))
        self._hosts: dict[int, _Host] = {}
        for _ in range(cell.hosts):
            host = _Host(server)
            self._hosts[host.sock.fileno()] = host
            self._epoll.register(host.sock.fileno(), select.EPOLLIN)
            self._say(host, self._request)

    def run(self) -> None:
        while self._hosts:
            for fd, _ in self._epoll.poll(0.05, 256):
                host = self._hosts.get(fd)
                with contextlib.suppress(BlockingIOError):
                    while host is not None and fd in self._hosts:
                        self._take(host)
            now = time.monotonic()
            for host in [h for h in self._hosts.values() if now >= h.deadline]:
                self.retries += 1
                host.tries += 1
                if host.tries > TRIES:
                    self._done(host, failed=True)
                else:
                    self._say(host, host.last)

    def _take(self, host: "_Host") -> None:
        packet, sender = host.sock.recvfrom(70_000)
        if not host.answered:
            host.sock.connect(sender)
            host.answered = True
        kind = packet[1]
        if kind == 6:
            granted = dict(tftp.decode(packet).options)
            self.granted = " ".join(f"{k}={v}" for k, v in granted.items())
            host.blksize = int(granted.get("blksize", 512))
            host.window = int(granted.get("windowsize", 1))
            self._say(host, b"\0\4\0\0")
        elif kind == 3:
            self._block(host, packet)
        else:
            self._done(host, failed=True)

    def _block(self, host: "_Host", packet: bytes) -> None:
        number = packet[2] << 8 | packet[3]
        if number != (host.block + 1) & 0xFFFF:
            return
        host.block += 1
        host.got.append(packet[4:])
        host.in_window += 1
        last = len(packet) - 4 < host.blksize
        if last or host.in_window == host.window:
            host.in_window = 0
            host.tries = 0
            self._say(host, b"\0\4" + packet[2:4])
        if last:
            self._done(host, failed=b"".join(host.got) != self._body)

    def _say(self, host: "_Host", packet: bytes) -> None:
        host.last = packet
        host.deadline = time.monotonic() + RETRY * 2**host.tries
        if host.answered:
            host.sock.send(packet)
        else:
            host.sock.sendto(packet, host.server)

    def _done(self, host: "_Host", *, failed: bool) -> None:
        self.failed += failed
        del self._hosts[host.sock.fileno()]
        self._epoll.unregister(host.sock.fileno())
        host.sock.close()


class _Host:
    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.answered = False
        self.blksize, self.window = 512, 1
        self.block = self.in_window = self.tries = 0
        self.got: list[bytes] = []
        self.last = b""
        self.deadline = 0.0


def client_main(options: argparse.Namespace) -> None:
    """The client's own process: one cell against one server, one JSON line."""
    cell = Cell(options.blksize, options.window, options.hosts)
    body = Path(options.file).read_bytes()
    before, began = time.process_time(), time.monotonic()
    client = Client((options.host, options.port), cell, Path(options.file).name, body)
    client.run()
    seconds = time.monotonic() - began
    print(
        json.dumps(
            {
                "seconds": seconds,
                "load": (time.process_time() - before) / seconds,
                "retries": client.retries,
                "failed": client.failed,
                "granted": client.granted,
            }
        )
    )


class Peer:
    """A running server in a control group of its own: in.tftpd's children count only there."""

    def __init__(self, name: str, address: tuple[str, int], process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.address = address
        self.process = process
        self._group: Path | None = None
        for base in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")):
            with contextlib.suppress(OSError):
                if (base / "cgroup.procs").exists():
                    group = base / f"midwife-bench-{process.pid}"
                    group.mkdir()
                    (group / "cgroup.procs").write_text(str(process.pid))
                    self._group = group

    def cpu(self) -> float | None:
        """Seconds so far, or None where that cannot be known (no version 2 control groups, or not root)."""
        if self._group is None:
            return None
        words = (self._group / "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        if self._group is not None:
            with contextlib.suppress(OSError):  # a child may be ending
                self._group.rmdir()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def find(program: str) -> str | None:
    """Installed, or unpacked by --fetch."""
    for folder in (*os.environ["PATH"].split(":"), "/usr/sbin", CACHE / "usr/sbin", CACHE / "usr/bin"):
        if (path := Path(folder) / program).exists():
            return str(path)
    return None


def fetch_peers() -> None:
    """tftpd-hpa and atftpd conflict as packages: unpacked beside the system, not installed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for package in ("tftpd-hpa", "atftpd", "dnsmasq-base"):
        subprocess.run(["apt-get", "download", package], cwd=CACHE, check=False, capture_output=True)
    for archive in CACHE.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive, CACHE], check=True)


def answer_for_midwife(path: Path, tree: Path) -> None:
    """The control process's part: every name is a file of the tree."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        link, _ = listener.accept()
        with link, listener, link.makefile("rb") as lines:
            for line in lines:
                message = decode(line)
                if isinstance(message, Ask):
                    file = tree / split_attempt(message.name)[1]
                    link.sendall(encode(Found(message.id, str(file), file.stat().st_size, cache=True)))

    threading.Thread(target=serve, daemon=True).start()


def start_midwife(tree: Path, work: Path, pin: Callable[[], None]) -> Peer:
    answer_for_midwife(work / "control.sock", tree)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "midwife.serve.tftp", "--control", work / "control.sock"),
                *("--fds", str(listener.fileno()), "--max-per-client", "4096"),
            ],
            pass_fds=[listener.fileno()],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            preexec_fn=pin,
        )
        return Peer("midwife", listener.getsockname(), process)


def start_others(tree: Path, pin: Callable[[], None]) -> Iterator[Peer | str]:
    """A running peer, or the name of one that is missing."""
    user = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
    hpa, advanced = free_port(), free_port()
    commands: dict[str, tuple[tuple[str, int], str]] = {
        "in.tftpd": (("127.0.0.1", hpa), f"-L -a 127.0.0.1:{hpa} -u {user} -s {tree}"),
        "atftpd": (
            ("127.0.0.1", advanced),
            f"--daemon --no-fork --bind-address 127.0.0.1 --port {advanced} --user {user} --group {user} "
            f"--maxthread 2000 --no-multicast --verbose=3 {tree}",
        ),
        "dnsmasq": (
            ("127.0.69.1", 69),  # its TFTP port is fixed
            f"--keep-in-foreground --conf-file=/dev/null --port=0 --enable-tftp --tftp-root={tree} --user={user} "
            "--tftp-max=2000 --listen-address=127.0.69.1 --bind-interfaces --pid-file= --quiet-tftp "
            "--log-facility=/dev/null",
        ),
    }
    for name, (address, arguments) in commands.items():
        program = find(name)
        if program is None:
            yield name
            continue
        process = subprocess.Popen(
            [program, *arguments.split()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=pin,
        )
        yield Peer(name, address, process)


def measure(peer: Peer, cell: Cell, file: Path, core: int, result: Result) -> None:
    before = peer.cpu()
    words = ["--client", "--host", peer.address[0], "--port", peer.address[1], "--file", file]
    words += ["--blksize", cell.blksize, "--window", cell.window, "--hosts", cell.hosts]
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    heard = json.loads(done.stdout)
    after = peer.cpu()
    if before is not None and after is not None:
        result.cpu += after - before
    result.megabytes += file.stat().st_size * cell.hosts / 1e6
    result.seconds.append(heard["seconds"])
    result.client_load.append(heard["load"])
    result.retries += heard["retries"]
    result.failed += heard["failed"]
    result.granted = heard["granted"]


def alive(peer: Peer, file: Path) -> bool:
    """Whether it serves at all; a server needs a moment to start."""
    for _ in range(20):
        if peer.process.poll() is not None:
            return False
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.25)
            sock.sendto(tftp.encode(tftp.Request(file.name)), peer.address)
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                packet, sender = sock.recvfrom(2000)
                sock.sendto(tftp.encode(tftp.Error(0, "thank you")), sender)
                return packet[1] == 3
    return False


def show(cell: Cell, results: dict[str, Result], rounds: int) -> None:
    def speed(result: Result) -> float:
        return result.megabytes / rounds / statistics.median(result.seconds)

    def cost(result: Result) -> float:
        return result.cpu * 1e3 / result.megabytes

    ours = results["midwife"]
    print(f"\n{cell}")
    for name, result in results.items():
        spread = (max(result.seconds) - min(result.seconds)) / statistics.median(result.seconds)
        notes = [
            f"granted {result.granted or 'nothing'}",
            f"client {statistics.median(result.client_load):.0%}",
        ]
        notes += [f"spread {spread:.0%}"] if spread > 0.1 else []
        notes += [f"{result.retries} client retries"] if result.retries else []
        notes += [f"{result.failed} FAILED"] if result.failed else []
        cpu = f"{cost(result):6.2f} ms CPU/MB" if result.cpu else "CPU not known"
        ratio = ""
        if name != "midwife":
            ratio = f"midwife: {speed(ours) / speed(result):.2f}x speed"
            ratio += f", {cost(ours) / cost(result):.2f}x CPU" if result.cpu and ours.cpu else ""
        print(f"  {name:9}{speed(result):7.1f} MB/s {cpu}  {ratio:34} ({', '.join(notes)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=8, help="of one cell and round")
    parser.add_argument("--fetch", action="store_true", help="download the peers' Debian packages first")
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    for name in ("host", "file"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("port", "blksize", "window", "hosts"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client_main(options)
        return
    if options.fetch:
        fetch_peers()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("one core only: server and client share it, the figures say little")

    def pin() -> None:
        os.sched_setaffinity(0, {cores[0]})

    with tempfile.TemporaryDirectory(prefix="bench-tftp-") as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        tree = work / "tree"
        tree.mkdir()
        work.chmod(0o755)
        files = {hosts: tree / f"for-{hosts}" for hosts in {cell.hosts for cell in CELLS}}
        for hosts, file in files.items():
            file.write_bytes(random.Random(hosts).randbytes(max(options.megabytes * 10**6 // hosts, 100_000)))
        peers: list[Peer] = []
        for peer in (start_midwife(tree, work, pin), *start_others(tree, pin)):
            if isinstance(peer, str):
                print(f"missing: {peer} (install it, or run with --fetch)")
                continue
            stack.callback(peer.stop)
            if alive(peer, files[1]):
                peers.append(peer)
            else:
                print(f"missing: {peer.name} does not serve here (dnsmasq needs the right to bind port 69)")
        for cell in CELLS:
            results = {peer.name: Result() for peer in peers}
            for _ in range(options.rounds):
                for peer in peers:
                    measure(peer, cell, files[cell.hosts], cores[-1], results[peer.name])
            show(cell, results, options.rounds)


if __name__ == "__main__":
    main()
