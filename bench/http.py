"""HTTP: midwife's data plane against nginx (if it is installed) and `python -m http.server`, in one run.

    python bench/http.py [--rounds N] [--megabytes N]

The same client loads the same file from each server in turn, over 1 and over 64 connections. The bytes are checked
by SHA-256 before the measurement. CPU is the server's own (user and system, threads included), from
/proc: it is the fair figure, as client and server share the machine. Prints ratios of the same round; no test.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.serve.control_stub import ControlStub  # noqa: E402

NAME = "lab/module.v00"
CONNECTIONS = (1, 64)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Result:
    """Of one server and one number of connections, a value for each round."""

    speed: list[float] = field(default_factory=list)
    """MB/s over all connections."""
    cpu: list[float] = field(default_factory=list)
    """Seconds of the server's CPU for a GB."""


def cpu_of(pids: list[int]) -> float:
    """Seconds so far."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS


def children(pid: int) -> list[int]:
    """The process and its children: nginx serves from a worker."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def load(port: int, size: int, keep: bool) -> bytes:
    """One download on one connection; the body if it is to be kept."""
    parts = []
    buffer = bytearray(1 << 18)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(f"GET /{NAME} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1 << 16)
        body = head.partition(b"\r\n\r\n")[2]
        parts.append(body)
        left = size - len(body)
        while left and (count := sock.recv_into(buffer)):
            left -= count
            if keep:
                parts.append(bytes(buffer[:count]))
    if left:
        raise SystemExit(f"port {port}: {left} bytes are missing")
    return b"".join(parts) if keep else b""


@contextlib.contextmanager
def midwife(tree: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """Port and process id of midwife's HTTP process; the desk is the real one."""
    control = ControlStub(tree, folder / "control.sock")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        command = [sys.executable, "-m", "midwife.serve.http", "--control", str(control.path), f"--fds={fd}"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[fd], cwd=ROOT)
        yield listener.getsockname()[1], process.pid
    process.communicate(timeout=20)
    control.close()


@contextlib.contextmanager
def http_server(tree: Path, _folder: Path) -> Iterator[tuple[int, int]]:
    """Python's own."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "http.server",
        str(port),
        "--bind",
        "127.0.0.1",
        "--directory",
        str(tree),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield port, process.pid
    process.terminate()
    process.wait(20)


@contextlib.contextmanager
def nginx(tree: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """One worker, as midwife has one process; sendfile on, no log."""
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"{'user root;' if os.geteuid() == 0 else ''}\n"
        "events { worker_connections 1024; }\n"
        f"http {{ sendfile on; tcp_nopush on; access_log off; client_body_temp_path {folder}/t;\n"
        f" server {{ listen 127.0.0.1:{port} backlog=1024; root {tree}; }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    yield port, process.pid
    process.terminate()
    process.wait(20)


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Until it answers."""
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def measure(port: int, pid: int, size: int, connections: int, result: Result) -> None:
    """One round: every connection loads the file once."""
    pids = children(pid)
    threads = [threading.Thread(target=load, args=(port, size, False)) for _ in range(connections)]
    cpu, began = cpu_of(pids), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    megabytes = size * connections / 1e6
    result.speed.append(megabytes / took)
    result.cpu.append((cpu_of(pids) - cpu) / megabytes * 1000)


def main() -> None:
    """Print medians, and the ratios to midwife of the same rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=200)
    arguments = parser.parse_args()
    servers = {"midwife": midwife, "http.server": http_server}
    if shutil.which("nginx"):
        servers["nginx"] = nginx
    else:
        print("nginx is not installed: compared with Python's http.server only")
    results = {(name, count): Result() for name in servers for count in CONNECTIONS}
    with tempfile.TemporaryDirectory(prefix="bench-http-") as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)
        tree = folder / "tree"
        (tree / NAME).parent.mkdir(parents=True)
        content = random.Random(1).randbytes(arguments.megabytes * 1_000_000)
        (tree / NAME).write_bytes(content)
        running = {name: stack.enter_context(serve(tree, folder)) for name, serve in servers.items()}
        wanted = hashlib.sha256(content).digest()
        for name, (port, _) in running.items():
            wait_for(port)
            if hashlib.sha256(load(port, len(content), keep=True)).digest() != wanted:
                sys.exit(f"{name} serves other bytes")
        for number in range(arguments.rounds):
            for count in CONNECTIONS:
                size = len(content)
                for name in list(running) if number % 2 else list(reversed(running)):
                    measure(*running[name], size, count, results[name, count])
    print(f"{arguments.megabytes} MB, {arguments.rounds} rounds, {os.cpu_count()} cores")
    for count in CONNECTIONS:
        ours = results["midwife", count]
        for name in servers:
            theirs = results[name, count]
            speed, cpu = statistics.median(theirs.speed), statistics.median(theirs.cpu)
            line = f"{count:3} connections  {name:12} {speed:6.0f} MB/s  {cpu:.3f} s of CPU per GB"
            if name != "midwife":
                faster = statistics.median(a / b for a, b in zip(ours.speed, theirs.speed, strict=True))
                dearer = statistics.median(a / b for a, b in zip(ours.cpu, theirs.cpu, strict=True) if b)
                line += f"  (midwife: {faster:.2f} x the speed, {dearer:.2f} x the CPU)"
            print(line)


if __name__ == "__main__":
    main()
