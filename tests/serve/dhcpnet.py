"""A LAN of its own for DHCP tests: three network namespaces on one bridge, and a client that replays packets.

The booting machine is in the namespace with the bridge, the DHCP server at 192.168.77.1 and midwife at
192.168.77.3 each in one of their own, because port 67 cannot be had twice in one.
"""

import asyncio
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncio_dgram
import pytest

from midwife.wire.dhcp import DhcpError, DhcpPacket, parse

__all__ = ["DHCP_SERVER", "MIDWIFE", "Lan", "client_stream", "exchange", "lan", "running"]

DHCP_SERVER = "192.168.77.1"
MIDWIFE = "192.168.77.3"
CLIENT_MAC = "52:54:00:00:00:01"
"""The machine of the captures."""

_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lan:
    """Names of the namespaces."""

    client: str
    server: str
    midwife: str

    def inside(self, namespace: str, make: Callable[[], T]) -> T:
        """What ``make`` gives when called in that namespace; sockets made there stay there."""
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                _enter(namespace)
                results.append(make())
            except BaseException as error:  # handed to the caller below
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def client_socket(self, port: int = 68) -> socket.socket:
        """A socket of the booting machine, which may have no address yet."""

        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"br0\0")
            sock.bind(("", port))
            sock.setblocking(False)
            return sock

        return self.inside(self.client, make)

    def give_client(self, address: str) -> None:
        """Configure the address that the DHCP server gave."""
        _ip("-n", self.client, "addr", "replace", f"{address}/24", "dev", "br0")


def _enter(namespace: str) -> None:
    """Moves the calling thread into the namespace, for good."""
    with Path(f"/run/netns/{namespace}").open("rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True, text=True)


@contextmanager
def lan() -> Iterator[Lan]:
    """The LAN; skips the test where this machine makes no network namespaces."""
    stem = f"mw{os.getpid()}"
    net = Lan(client=f"{stem}c", server=f"{stem}s", midwife=f"{stem}m")
    made: list[str] = []
    try:
        for name in (net.client, net.server, net.midwife):
            try:
                _ip("netns", "add", name)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"ip netns add failed (needs root and CAP_SYS_ADMIN): {error}")
            made.append(name)
        bridge = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        _ip("-n", net.client, "link", "add", "br0", "address", CLIENT_MAC, *bridge.split())
        for port, peer, address in (("port1", net.server, DHCP_SERVER), ("port2", net.midwife, MIDWIFE)):
            pair = f"link add {port} netns {net.client} type veth peer name eth0 netns {peer}"
            _ip(*pair.split())
            _ip("-n", net.client, "link", "set", port, "master", "br0", "up")
            _ip("-n", peer, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", peer, "link", "set", device, "up")
        _ip("-n", net.client, "link", "set", "br0", "up")
        yield net
    finally:
        for name in made:
            _ip("netns", "del", name)


@contextmanager
def running(
    namespace: str, command: Sequence[str], ready: str, env: dict[str, str] | None = None
) -> Iterator[None]:
    """A server in a namespace, once a line of its output contains ``ready``; ended with the block."""
    process = subprocess.Popen(
        ("ip", "netns", "exec", namespace, *command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
    )
    lines: list[str] = []
    told = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)
            if ready in line:
                told.set()
        told.set()  # it ended; if too early, the lines below say why

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert told.wait(20), f"waited 20 s for {command[0]} to say {ready!r}: {lines}"
        assert any(ready in line for line in lines), f"{command[0]} ended before it said {ready!r}: {lines}"
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
        reader.join()
        if process.stdout:
            process.stdout.close()


async def exchange(
    stream: Any, data: bytes, target: tuple[str, int], wanted: Callable[[DhcpPacket], bool], what: str
) -> DhcpPacket:
    """Sends until the wanted answer comes, as firmware does: again after a second, for 15 seconds."""
    heard: list[DhcpPacket] = []
    for _ in range(15):
        await stream.send(data, target)
        try:
            async with asyncio.timeout(1):
                while True:
                    answer, _ = await stream.recv()
                    try:
                        heard.append(parse(answer))
                    except DhcpError:
                        continue
                    if wanted(heard[-1]):
                        return heard[-1]
        except TimeoutError:
            continue
    raise AssertionError(f"waited 15 s for {what}; heard {heard}")


@asynccontextmanager
async def client_stream(net: Lan, port: int = 68) -> AsyncIterator[Any]:
    """The booting machine's socket as an asyncio stream; the port is free again after the block."""
    sock = net.client_socket(port)
    stream = await asyncio_dgram.from_socket(sock)
    try:
        yield stream
    finally:
        stream.close()
        sock.close()  # the transport would do it in the loop's next turn only
