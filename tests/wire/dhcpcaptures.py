"""DHCP packets that real firmware and real servers sent, out of tests/data/pcaps, read with dpkt."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dpkt

__all__ = ["CAPTURES", "Datagram", "captures", "datagrams", "sent_by_client", "sent_by_proxy"]

CAPTURES = Path(__file__).parent.parent / "data" / "pcaps"
DHCP_SERVER = "192.168.77.1"
_PORTS = {67, 68, 4011}


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram of a capture."""

    source: tuple[str, int]
    target: tuple[str, int]
    data: bytes


def captures() -> list[str]:
    """The names of the captures with DHCP in them (the TFTP ones belong to other tests)."""
    return sorted(path.stem for path in CAPTURES.glob("*.pcap") if "tftp" not in path.stem)


def datagrams(name: str) -> list[Datagram]:
    """Every DHCP datagram of one capture, in order."""
    return list(_read(CAPTURES / f"{name}.pcap"))


def _read(path: Path) -> Iterator[Datagram]:
    with path.open("rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            packet = dpkt.ethernet.Ethernet(frame).data
            udp = packet.data
            if isinstance(udp, dpkt.udp.UDP) and {udp.sport, udp.dport} <= _PORTS:
                source = (socket.inet_ntoa(packet.src), udp.sport)
                yield Datagram(source, (socket.inet_ntoa(packet.dst), udp.dport), bytes(udp.data))


def sent_by_client(name: str, port: int = 67) -> list[Datagram]:
    """What the booting machine sent to that server port."""
    return [d for d in datagrams(name) if d.target[1] == port and d.data[0] == 1]


def sent_by_proxy(name: str, port: int = 67) -> list[Datagram]:
    """What the proxy (any server but the DHCP server) sent from that port."""
    return [
        d for d in datagrams(name) if d.source[1] == port and d.data[0] == 2 and d.source[0] != DHCP_SERVER
    ]
