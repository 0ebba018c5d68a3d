"""The proxy on real sockets: on loopback with high ports, and on a LAN of its own beside dnsmasq."""

import asyncio
import errno
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncio_dgram
import pytest
from structlog.testing import capture_logs

from midwife.core.dhcpanswer import NetbootTarget
from midwife.core.facts import Facts, Firmware
from midwife.serve.proxydhcp import (
    Decision,
    DhcpSeen,
    ProxyDhcp,
    ProxyDhcpError,
    interface_of,
    open_sockets,
)
from midwife.wire.dhcp import build, parse
from midwife.wire.dhcpoptions import MessageType, Option
from tests.serve.dhcpnet import DHCP_SERVER, MIDWIFE, Lan, client_stream, exchange, lan, running
from tests.wire.dhcpcaptures import sent_by_client, sent_by_proxy

BROADCAST = ("255.255.255.255", 67)
TARGET = NetbootTarget(
    bios_file="undionly.kpxe",
    efi_file="mboot.efi",
    efi_http_url=f"http://{MIDWIFE}:8080/mboot.efi",
    ipxe_url=f"http://{MIDWIFE}:8080/boot.ipxe",
)
EDK2_DISCOVER = sent_by_client("ref-ovmfpxe-m4")[0].data
EDK2_REQUEST = sent_by_client("ref-ovmfpxe-m4")[1].data
EDK2_TO_4011 = sent_by_client("ref-ovmfpxe-m4", port=4011)[0].data


class Site:
    """What the rest of midwife is to the proxy: it decides, and is told."""

    def __init__(self) -> None:
        self.target: NetbootTarget | None = TARGET
        self.reason = "host esx-01"
        self.asked: list[Facts] = []
        self.seen: asyncio.Queue[DhcpSeen] = asyncio.Queue()

    def ask(self, facts: Facts) -> Decision:
        self.asked.append(facts)
        return Decision(self.target, self.reason)

    async def told(self) -> DhcpSeen:
        async with asyncio.timeout(10):
            return await self.seen.get()


@pytest.fixture
def site() -> Site:
    return Site()


@asynccontextmanager
async def serving(proxy: ProxyDhcp) -> AsyncIterator[None]:
    task = asyncio.create_task(proxy.run())
    try:
        yield
    finally:
        assert not task.done() or task.exception() is None, "the proxy ended by itself"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def loopback() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


@asynccontextmanager
async def on_loopback(site: Site, **more: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Clients of a running proxy's port 67 and port 4011 (both high ones here).

    These sockets lack SO_BROADCAST: an offer fails in the kernel and never reaches a network.
    """
    dhcp, boot = loopback(), loopback()
    proxy = ProxyDhcp(
        sockets67=[dhcp],
        sockets4011=[boot],
        server="127.0.0.1",
        ask=site.ask,
        seen=site.seen.put_nowait,
        **more,
    )
    to_dhcp = await asyncio_dgram.connect(dhcp.getsockname())
    to_boot = await asyncio_dgram.connect(boot.getsockname())
    try:
        async with serving(proxy):
            yield to_dhcp, to_boot
    finally:
        to_dhcp.close()
        to_boot.close()


async def answer_of(client: Any) -> Any:
    async with asyncio.timeout(10):
        data, _ = await client.recv()
    return parse(data)


async def test_a_request_on_4011_is_acknowledged_where_it_came_from(site: Site) -> None:
    async with on_loopback(site) as (_, boot):
        await boot.send(EDK2_TO_4011)
        reply = await answer_of(boot)
    assert reply.message_type is MessageType.ACK
    assert (reply.siaddr, reply.file) == ("127.0.0.1", b"mboot.efi")
    seen = await site.told()
    assert seen.answered
    assert seen.outcome == f"ACK mboot.efi to 127.0.0.1:{boot.sockname[1]}"
    assert (seen.message, seen.port, seen.source) == ("REQUEST", 4011, "127.0.0.1")
    assert seen.facts.firmware is Firmware.EFI
    assert "boot-file (67): mboot.efi" in seen.reply
    assert "client: 52:54:00:00:00:01" in seen.summary


async def test_a_host_that_may_not_boot_is_seen_and_not_answered(site: Site) -> None:
    site.target, site.reason = None, "no host file names it"
    async with on_loopback(site) as (dhcp, _):
        await dhcp.send(EDK2_DISCOVER)
        seen = await site.told()
    assert not seen.answered
    assert seen.outcome == "no host file names it"
    assert seen.reply == ()


async def test_the_request_to_the_dhcp_server_is_seen_but_nobody_is_asked(site: Site) -> None:
    async with on_loopback(site) as (dhcp, _):
        await dhcp.send(EDK2_REQUEST)
        seen = await site.told()
    assert DHCP_SERVER in seen.outcome
    assert site.asked == [], "a decision may start a boot attempt"


async def test_ordinary_clients_and_our_own_offers_are_no_news(site: Site) -> None:
    vmkernel = sent_by_client("ref-bios-ipxe-http")[2].data
    ours = sent_by_proxy("ref-ovmfpxe-m1")[0].data
    async with on_loopback(site) as (dhcp, _):
        for data in (vmkernel, ours, EDK2_REQUEST):
            await dhcp.send(data)
        first = await site.told()
    assert first.message == "REQUEST", "the two before it were passed over"
    assert site.seen.empty()


async def test_broken_packets_cost_one_log_line_and_nothing_else(site: Site) -> None:
    now = 100.0
    with capture_logs() as logs:
        async with on_loopback(site, clock=lambda: now) as (_, boot):
            for data in (b"\x01" * 40, EDK2_TO_4011[:250], os.urandom(2000)):
                await boot.send(data)
            await boot.send(EDK2_TO_4011)
            assert (await answer_of(boot)).message_type is MessageType.ACK
            now += 11
            await boot.send(EDK2_TO_4011[:200])
            await boot.send(EDK2_TO_4011)
            await answer_of(boot)
    malformed = [line for line in logs if line["event"] == "dhcp-packet-malformed"]
    assert [line["left_out"] for line in malformed] == [0, 2]
    assert malformed[0]["source"] == "127.0.0.1"
    assert "at byte 200" in malformed[1]["reason"]


async def test_an_offer_that_cannot_be_sent_is_told_and_survived(site: Site) -> None:
    with capture_logs() as logs:
        async with on_loopback(site) as (dhcp, boot):
            await dhcp.send(EDK2_DISCOVER)
            seen = await site.told()
            await dhcp.send(EDK2_DISCOVER)
            again = await site.told()
            await boot.send(EDK2_TO_4011)
            assert (await answer_of(boot)).message_type is MessageType.ACK
    assert not seen.answered
    assert seen.outcome == f"not sent: 255.255.255.255:68: {os.strerror(errno.EACCES)}"
    assert again == seen, "an earlier error does not take the place of a later send"
    assert [line["event"] for line in logs].count("dhcp-send-failed") == 1


async def test_a_bug_in_the_decision_costs_one_packet(site: Site) -> None:
    def ask(facts: Facts) -> Decision:
        if facts.mac.endswith(":02"):
            raise KeyError("esx-02")
        return Decision(TARGET, "host esx-01")

    site.ask = ask  # type: ignore[method-assign]
    second = replace(parse(EDK2_TO_4011), chaddr=bytes.fromhex("525400000002"))
    with capture_logs() as logs:
        async with on_loopback(site) as (_, boot):
            await boot.send(build(second))
            await boot.send(EDK2_TO_4011)
            reply = await answer_of(boot)
    assert reply.mac == "52:54:00:00:00:01"
    assert [line["log_level"] for line in logs if line["event"] == "dhcp-packet-failed"] == ["error"]


def test_the_interface_of_an_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    with pytest.raises(
        ProxyDhcpError, match=r"no interface has the address 192\.0\.2\.77.*127\.0\.0\.1 \(lo\)"
    ):
        interface_of("192.0.2.77")


def free_port() -> int:
    with loopback() as sock:
        port: int = sock.getsockname()[1]
    return port


def test_a_taken_port_names_its_holder_and_every_problem_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        # As dnsmasq does; sharing the port with it would cost it the renewals of its clients.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("", 0))
        taken = other.getsockname()[1]
        with pytest.raises(ProxyDhcpError) as caught:
            open_sockets(["lo", "eth77"], "127.0.0.1", port=taken, boot_server_port=free_port())
    told = str(caught.value)
    assert f"UDP port {taken} on lo is taken" in told
    assert f"(pid {os.getpid()})" in told
    assert "proxydhcp.enabled: false" in told
    assert "there is no interface eth77" in told


def test_sockets_are_bound_to_the_interface_of_the_address() -> None:
    port, boot_port = free_port(), free_port()
    first, second = open_sockets([], "127.0.0.1", port=port, boot_server_port=boot_port)
    with first[0], second[0]:
        assert first[0].getsockname() == ("0.0.0.0", port)
        assert second[0].getsockname() == ("127.0.0.1", boot_port), "answers come from where was asked"
        for sock in (*first, *second):
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The streams that the proxy makes of its sockets, port 67 first."""
    made: list[Any] = []
    real = asyncio_dgram.from_socket

    async def remembering(sock: socket.socket) -> Any:
        made.append(await real(sock))
        return made[-1]

    monkeypatch.setattr(asyncio_dgram, "from_socket", remembering)
    return made


async def test_a_link_that_went_down_does_not_cost_the_next_host_its_answer(
    site: Site, streams: list[Any]
) -> None:
    async with on_loopback(site) as (_, boot):
        await boot.send(EDK2_TO_4011)
        await answer_of(boot)
        # The kernel reports it to the transport while the proxy waits for a packet.
        streams[1]._transport.get_protocol().error_received(OSError(errno.ENETDOWN, "Network is down"))
        await boot.send(EDK2_TO_4011)
        assert (await answer_of(boot)).message_type is MessageType.ACK


async def test_a_socket_that_is_lost_ends_the_proxy_with_a_reason(site: Site, streams: list[Any]) -> None:
    first, second = loopback(), loopback()
    proxy = ProxyDhcp(
        sockets67=[first], sockets4011=[second], server="127.0.0.1", ask=site.ask, seen=site.seen.put_nowait
    )
    client = await asyncio_dgram.connect(second.getsockname())
    task = asyncio.create_task(proxy.run())
    await client.send(EDK2_TO_4011)
    await answer_of(client)
    streams[0].close()
    with pytest.raises(ProxyDhcpError, match="port 67 was closed"):
        async with asyncio.timeout(10):
            await task
    client.close()


# On a LAN of its own, beside dnsmasq without boot options


@pytest.fixture(scope="module")
def network() -> Iterator[Lan]:
    with lan() as net:
        yield net


@pytest.fixture(scope="module")
def dnsmasq(network: Lan) -> Iterator[None]:
    """A DHCP server that knows nothing of PXE."""
    if not shutil.which("dnsmasq"):
        pytest.skip("dnsmasq is not installed (Debian: dnsmasq-base)")
    words = (
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --no-resolv --no-hosts --no-ping "
        "--leasefile-ro --pid-file= --user=root --log-facility=- --bind-interfaces --interface=eth0 "
        "--dhcp-range=192.168.77.100,192.168.77.200,1h"
    )
    with running(network.server, words.split(), ready="sockets bound"):
        yield


@asynccontextmanager
async def on_lan(net: Lan, site: Site) -> AsyncIterator[Any]:
    """The booting machine's socket, with a proxy on the LAN."""
    first, second = net.inside(net.midwife, lambda: open_sockets((), MIDWIFE))
    proxy = ProxyDhcp(
        sockets67=first, sockets4011=second, server=MIDWIFE, ask=site.ask, seen=site.seen.put_nowait
    )
    async with client_stream(net) as stream, serving(proxy):
        yield stream


@pytest.mark.netns
async def test_edk2_boots_beside_a_dhcp_server_without_boot_options(
    network: Lan, dnsmasq: None, site: Site
) -> None:
    async with on_lan(network, site) as stream:
        # >> host broadcasts DISCOVER  << DHCP server offers an address, midwife what to load
        lease = await exchange(
            stream, EDK2_DISCOVER, BROADCAST, lambda p: p.server_id == DHCP_SERVER, "dnsmasq's offer"
        )
        assert lease.yiaddr.startswith("192.168.77.1")
        assert lease.file == b""
        offer = await exchange(
            stream, EDK2_DISCOVER, BROADCAST, lambda p: p.server_id == MIDWIFE, "midwife's offer"
        )
        assert (offer.yiaddr, offer.siaddr, offer.file) == ("0.0.0.0", MIDWIFE, b"mboot.efi")
        # >> host takes the address  << DHCP server acknowledges, midwife keeps out of it
        request = replace(
            parse(EDK2_REQUEST),
            options=tuple(
                (code, socket.inet_aton(lease.yiaddr) if code == Option.REQUESTED_ADDRESS else value)
                for code, value in parse(EDK2_REQUEST).options
            ),
        )
        ack = await exchange(
            stream,
            build(request),
            BROADCAST,
            lambda p: p.message_type is MessageType.ACK,
            "dnsmasq's acknowledgement",
        )
        assert (ack.server_id, ack.yiaddr) == (DHCP_SERVER, lease.yiaddr)
        # >> host asks midwife on 4011, from 4011  << midwife acknowledges to 4011
        network.give_client(lease.yiaddr)
        asked = build(replace(parse(EDK2_TO_4011), ciaddr=lease.yiaddr))
        async with client_stream(network, port=4011) as boot:
            loaded = await exchange(
                boot, asked, (MIDWIFE, 4011), lambda p: p.server_id == MIDWIFE, "midwife's answer on 4011"
            )
        assert (loaded.message_type, loaded.file) == (MessageType.ACK, b"mboot.efi")
    outcomes = [site.seen.get_nowait() for _ in range(site.seen.qsize())]
    assert all(seen.interface == "eth0" for seen in outcomes)
    assert any(seen.outcome == "OFFER mboot.efi to 255.255.255.255:68" for seen in outcomes)
    assert any(f"DHCP server {DHCP_SERVER}" in seen.outcome for seen in outcomes)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("capture", "loads"),
    [("ref-ovmfhttp-m1", TARGET.efi_http_url), ("ref-bios-m2", TARGET.ipxe_url)],
    ids=["UEFI HTTP", "iPXE without broadcast flag"],
)
async def test_other_firmware_on_the_lan(network: Lan, site: Site, capture: str, loads: str) -> None:
    async with on_lan(network, site) as stream:
        offer = await exchange(
            stream,
            sent_by_client(capture)[0].data,
            BROADCAST,
            lambda p: p.server_id == MIDWIFE,
            "midwife's offer",
        )
    assert offer.option(Option.BOOT_FILE) == loads.encode()


@pytest.mark.netns
async def test_a_relayed_request_is_answered_to_the_relay(network: Lan, site: Site) -> None:
    relay = "192.168.77.200"
    network.give_client(relay)
    relayed = replace(parse(EDK2_DISCOVER), giaddr=relay, hops=1)
    relayed = replace(relayed, options=(*relayed.options, (Option.RELAY_INFO, b"\x01\x04ge-0")))
    async with on_lan(network, site), client_stream(network, port=67) as stream:
        offer = await exchange(
            stream, build(relayed), (MIDWIFE, 67), lambda p: p.server_id == MIDWIFE, "midwife's offer"
        )
    assert offer.giaddr == relay
    assert offer.options[-1] == (Option.RELAY_INFO, b"\x01\x04ge-0")
    assert (await site.told()).facts.relay == relay


@pytest.mark.netns
def test_the_message_names_the_dhcp_server_that_has_the_port(network: Lan, dnsmasq: None) -> None:
    with pytest.raises(ProxyDhcpError, match=r"UDP port 67 on eth0 is taken by dnsmasq \(pid \d+\)"):
        network.inside(network.server, lambda: open_sockets((), DHCP_SERVER))
