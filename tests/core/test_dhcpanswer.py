"""The proxy's answers, compared with offers that made real firmware boot, and its silences."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.core.dhcpanswer import (
    NetbootTarget,
    PortKind,
    Reply,
    Silence,
    answer,
    example_request,
    facts_of,
    is_netboot,
    refusal,
)
from midwife.core.facts import Facts, Firmware
from midwife.wire.dhcp import BOOTREPLY, DhcpError, DhcpPacket, build, parse
from midwife.wire.dhcpoptions import MessageType, Option
from tests.wire.dhcpcaptures import DHCP_SERVER, captures, datagrams, sent_by_client, sent_by_proxy

PROXY = "192.168.77.3"
TARGET = NetbootTarget(
    bios_file="undionly.kpxe",
    efi_file="mboot.efi",
    efi_http_url="http://192.168.77.3:8080/mboot.efi",
    ipxe_url="http://192.168.77.3:8080/boot.ipxe",
)
EDK2 = parse(sent_by_client("ref-ovmfpxe-m1")[0].data)
EDK2_HTTP = parse(sent_by_client("ref-ovmfhttp-m1")[0].data)
IPXE_EFI = parse(sent_by_client("ovmf-ipxe")[2].data)
"""snponly.efi, loaded by EDK2."""
IPXE_ROM = parse(sent_by_client("ref-bios-ipxe-http")[0].data)


def without(packet: DhcpPacket, *codes: int) -> DhcpPacket:
    return replace(packet, options=tuple(o for o in packet.options if o[0] not in codes))


def with_option(packet: DhcpPacket, code: int, value: bytes) -> DhcpPacket:
    return replace(packet, options=(*without(packet, code).options, (code, value)))


BIOS_ROM = without(IPXE_ROM, Option.USER_CLASS, Option.IPXE)
"""A BIOS ROM that is not iPXE: what is left of QEMU's DISCOVER without what makes it iPXE."""


def offered(packet: DhcpPacket, boot: NetbootTarget | None = TARGET, port_kind: PortKind = 67) -> DhcpPacket:
    reply = answer(packet, server=PROXY, boot=boot, port_kind=port_kind, source=("0.0.0.0", 68))
    assert isinstance(reply, Reply), reply
    return reply.packet


def silence(packet: DhcpPacket, boot: NetbootTarget | None = TARGET, port_kind: PortKind = 67) -> str:
    reply = answer(packet, server=PROXY, boot=boot, port_kind=port_kind)
    assert isinstance(reply, Silence), reply
    return reply.reason


class TestAnswersAreThoseThatBootedRealFirmware:
    """Byte for byte what the captured proxy sent, in those of its modes that worked."""

    @pytest.mark.parametrize(
        ("capture", "target"),
        [
            ("ref-ovmfpxe-m1", TARGET),
            ("ref-ovmfhttp-m1", TARGET),
            ("ref-bios-ipxe-http", TARGET),
        ],
    )
    def test_offers(self, capture: str, target: NetbootTarget) -> None:
        discover = sent_by_client(capture)[0]
        captured = sent_by_proxy(capture)[0]
        reply = answer(parse(discover.data), server=PROXY, boot=target, port_kind=67, source=discover.source)
        assert isinstance(reply, Reply)
        assert build(reply.packet) == captured.data
        assert (reply.address, reply.port) == captured.target == ("255.255.255.255", 68)
        assert reply.broadcast

    @pytest.mark.parametrize(
        ("capture", "target"),
        [
            ("ref-ovmfpxe-m2", TARGET),
            ("ref-ovmfpxe-m4", TARGET),
            ("ref-bios-m4", replace(TARGET, ipxe_url="pxelinux.0")),
        ],
    )
    def test_acknowledgements_on_port_4011(self, capture: str, target: NetbootTarget) -> None:
        request = sent_by_client(capture, port=4011)[0]
        captured = sent_by_proxy(capture, port=4011)[0]
        reply = answer(parse(request.data), server=PROXY, boot=target, port_kind=4011, source=request.source)
        assert isinstance(reply, Reply)
        assert build(reply.packet) == captured.data
        assert (reply.address, reply.port) == captured.target, "EDK2 listens on 4011, iPXE on 68"
        assert not reply.broadcast

    def test_the_second_stage_of_a_chain(self) -> None:
        """An iPXE ROM dressed as a plain one gets undionly.kpxe; the iPXE in it comes back and gets a script."""
        first, _, second, *_ = (parse(d.data) for d in sent_by_client("seabios-undionly"))
        assert offered(without(first, Option.USER_CLASS, Option.IPXE)).file == b"undionly.kpxe"
        assert second.message_type is MessageType.DISCOVER
        assert offered(second).file == TARGET.ipxe_url.encode()

    def test_the_choice_from_another_proxys_menu_is_given_back(self) -> None:
        """>> iPXE, shown dnsmasq's menu, asks 4011 with boot item 8000 and a bare PXEClient << item 8000."""
        request = parse(sent_by_client("dnsmasq-proxy-bios-ipxe", port=4011)[0].data)
        captured = parse(sent_by_proxy("dnsmasq-proxy-bios-ipxe", port=4011)[0].data)
        assert request.vendor_class == "PXEClient"
        ours = offered(request, port_kind=4011)
        assert ours.option(Option.VENDOR_OPTIONS) == captured.option(Option.VENDOR_OPTIONS)


class TestWhatEachFirmwareGets:
    @pytest.mark.parametrize(
        ("packet", "firmware", "loads"),
        [
            (BIOS_ROM, Firmware.BIOS, "undionly.kpxe"),
            (EDK2, Firmware.EFI, "mboot.efi"),
            (with_option(EDK2, 93, b"\0\x09"), Firmware.EFI, "mboot.efi"),
            (EDK2_HTTP, Firmware.EFI_HTTP, TARGET.efi_http_url),
            (with_option(EDK2_HTTP, 93, b"\0\x0f"), Firmware.EFI_HTTP, TARGET.efi_http_url),
            (IPXE_ROM, Firmware.IPXE_BIOS, TARGET.ipxe_url),
            (IPXE_EFI, Firmware.IPXE_EFI, TARGET.ipxe_url),
            (with_option(IPXE_ROM, 77, b"\x04iPXE"), Firmware.IPXE_BIOS, TARGET.ipxe_url),
            (with_option(IPXE_ROM, 77, b"lab"), Firmware.IPXE_BIOS, TARGET.ipxe_url),
            (without(IPXE_ROM, 60), Firmware.IPXE_BIOS, TARGET.ipxe_url),
            (with_option(EDK2, 60, b"PXEClient"), Firmware.EFI, "mboot.efi"),
            (without(EDK2, 93), Firmware.EFI, "mboot.efi"),
            (with_option(EDK2, 93, b"\0\x0b\0\x07"), Firmware.EFI, "mboot.efi"),
        ],
        ids=[
            "bios",
            "edk2",
            "old UEFI says 9",
            "edk2 http",
            "http says 15",
            "ipxe rom",
            "ipxe on UEFI",
            "user class as in RFC 3004",
            "user class changed by a script",
            "ipxe without vendor class",
            "bare vendor class",
            "architecture in the class only",
            "list of architectures",
        ],
    )
    def test_by_class_and_architecture(self, packet: DhcpPacket, firmware: Firmware, loads: str) -> None:
        assert facts_of(packet).firmware is firmware
        assert offered(packet).option(Option.BOOT_FILE) == loads.encode()

    @pytest.mark.parametrize("packet", [BIOS_ROM, EDK2, IPXE_ROM], ids=["bios", "edk2", "ipxe"])
    def test_a_pxe_offer_has_what_the_measured_table_asks_for(self, packet: DhcpPacket) -> None:
        offer = offered(packet)
        assert (offer.op, offer.xid, offer.flags) == (BOOTREPLY, packet.xid, packet.flags)
        assert (offer.chaddr, offer.yiaddr) == (packet.chaddr, "0.0.0.0")
        assert offer.siaddr == PROXY, "mboot loads its modules from siaddr"
        assert offer.file == offer.option(Option.BOOT_FILE)
        assert offer.option(Option.MESSAGE_TYPE) == b"\x02"
        assert offer.server_id == PROXY
        assert offer.option(Option.VENDOR_CLASS) == b"PXEClient", "exactly 9 bytes"
        assert offer.option(Option.VENDOR_OPTIONS) == b"\x06\x01\x08\xff"
        assert offer.option(Option.CLIENT_GUID) == packet.option(Option.CLIENT_GUID)
        assert len(build(offer)) >= 300

    def test_an_http_offer_has_its_own_class_and_no_pxe_options(self) -> None:
        offer = offered(EDK2_HTTP)
        assert offer.option(Option.VENDOR_CLASS) == b"HTTPClient"
        assert offer.option(Option.VENDOR_OPTIONS) is None

    def test_a_url_too_long_for_the_header_stands_in_option_67_alone(self) -> None:
        url = "http://192.168.77.3:8080/" + "x" * 200
        offer = offered(IPXE_ROM, replace(TARGET, ipxe_url=url))
        assert offer.file == b""
        assert offer.option(Option.BOOT_FILE) == url.encode()

    def test_the_largest_offer_fits_what_every_client_must_take(self) -> None:
        url = "http://192.168.77.3:8080/".ljust(255, "x")
        assert len(build(offered(IPXE_ROM, replace(TARGET, ipxe_url=url)))) <= 548, "RFC 2131 section 2"

    def test_an_oversized_machine_identifier_is_not_sent_back(self) -> None:
        assert offered(with_option(EDK2, 97, bytes(400))).option(97) is None


class TestRelays:
    RELAYED = replace(with_option(EDK2, 82, b"\x01\x04ge-0"), giaddr="10.9.0.1", hops=1)

    def test_the_answer_goes_to_the_relay_with_its_information_last(self) -> None:
        reply = answer(self.RELAYED, server=PROXY, boot=TARGET, port_kind=67, source=("10.9.0.1", 67))
        assert isinstance(reply, Reply)
        assert (reply.address, reply.port, reply.broadcast) == ("10.9.0.1", 67, False)
        assert reply.packet.giaddr == "10.9.0.1"
        assert parse(build(reply.packet)).options[-1] == (82, b"\x01\x04ge-0")
        assert reply.packet.server_id == PROXY
        assert facts_of(self.RELAYED).relay == "10.9.0.1"

    @pytest.mark.parametrize(
        ("information", "vlan"),
        [
            (b"\x01\x06\x00\x04\x00\x11\x01\x02", "17"),  # Cisco: VLAN 17, module 1, port 2
            (b"\x02\x02ab\x01\x06\x00\x04\x0f\xfe\x01\x02", "4094"),  # after the remote id
            (b"\x01\x12ge-0/0/1.0:vlan100", "100"),
            (b"\x01\x07VLAN-42", "42"),
            (b"\x01\x04ge-0", ""),
            (b"\x01\x09vlan12345", ""),
            (b"\x01\x06\x00\x04\x0f\xff\x01\x02", ""),  # 4095 is no VLAN
            (b"\x01\x09vlan", ""),  # cut short
            (b"\x01", ""),
        ],
    )
    def test_the_relay_may_name_the_vlan(self, information: bytes, vlan: str) -> None:
        packet = replace(with_option(EDK2, 82, information), giaddr="10.9.0.1")
        assert facts_of(packet).vlan == vlan
        assert facts_of(replace(packet, giaddr="0.0.0.0")).vlan == "", "a machine's own word for it is none"

    @pytest.mark.parametrize("giaddr", ["127.0.0.1", "224.0.0.1", "255.255.255.255"])
    def test_a_forged_relay_address_gets_nothing(self, giaddr: str) -> None:
        assert "check the relay agent" in silence(replace(self.RELAYED, giaddr=giaddr))

    def test_relay_information_without_a_relay_is_not_sent_back(self) -> None:
        assert offered(replace(self.RELAYED, giaddr="0.0.0.0")).option(82) is None


class TestSilenceHasAReason:
    def test_for_an_ordinary_client(self) -> None:
        """ESXi itself, booted, asks for its address with the class VMKernel."""
        vmkernel = parse(sent_by_client("ref-bios-ipxe-http")[2].data)
        assert vmkernel.vendor_class == "VMKernel"
        assert not is_netboot(vmkernel)
        assert "ordinary DHCP client" in silence(vmkernel)

    def test_for_a_servers_reply(self) -> None:
        ours = parse(sent_by_proxy("ref-ovmfpxe-m1")[0].data)
        assert "reply" in silence(ours)
        assert not is_netboot(ours)

    def test_for_the_request_to_the_dhcp_server(self) -> None:
        request = parse(sent_by_client("ref-bios-m4")[1].data)
        assert request.message_type is MessageType.REQUEST
        assert f"DHCP server {DHCP_SERVER}" in silence(request)

    def test_but_a_request_that_names_us_is_acknowledged(self) -> None:
        request = with_option(with_option(EDK2, 53, b"\x03"), 54, bytes((192, 168, 77, 3)))
        assert offered(request).message_type is MessageType.ACK

    def test_for_a_renewal(self) -> None:
        assert "renews" in silence(with_option(EDK2, 53, b"\x03"))

    @pytest.mark.parametrize("kind", [4, 7, 8])
    def test_for_other_messages(self, kind: int) -> None:
        assert "on port 67" in silence(with_option(EDK2, 53, bytes((kind,))))

    def test_for_a_discover_on_4011(self) -> None:
        assert "DISCOVER on port 4011" in silence(EDK2, port_kind=4011)

    def test_for_a_host_that_boots_nothing_from_here(self) -> None:
        reply = answer(EDK2, server=PROXY, boot=None, port_kind=67, why="esx-01 boots from its own disk")
        assert reply == Silence("esx-01 boots from its own disk")
        assert silence(EDK2, boot=None)

    @pytest.mark.parametrize(
        ("packet", "firmware"),
        [(BIOS_ROM, "bios"), (EDK2, "efi"), (EDK2_HTTP, "efi-http"), (IPXE_ROM, "ipxe-bios")],
    )
    def test_for_firmware_with_nothing_to_load(self, packet: DhcpPacket, firmware: str) -> None:
        assert silence(packet, NetbootTarget()) == f"nothing to load is set for {firmware} firmware"

    @pytest.mark.parametrize("name", ["müll", "a\nb", "x" * 256])
    def test_for_a_name_that_does_not_fit_the_packet(self, name: str) -> None:
        told = silence(EDK2, replace(TARGET, efi_file=name))
        assert "printable ASCII" in told
        assert name not in told, "a URL may carry what does not belong into a log"

    def test_for_other_processors(self) -> None:
        assert "64-bit ARM UEFI" in silence(with_option(EDK2, 93, b"\0\x0b"))
        assert "see RFC 4578" in silence(with_option(EDK2, 93, b"\0\x02"))
        assert "does not tell" in silence(without(with_option(EDK2, 60, b"PXEClient"), 93))


@pytest.mark.parametrize("name", captures())
def test_every_packet_of_the_captures_gets_a_reply_or_a_reason(name: str) -> None:
    for datagram in datagrams(name):
        packet = parse(datagram.data)
        port: PortKind = 4011 if datagram.target[1] == 4011 else 67
        outcome = answer(packet, server=PROXY, boot=TARGET, port_kind=port, source=datagram.source)
        refused = refusal(packet, server=PROXY, port_kind=port)
        assert isinstance(outcome, Reply) == (refused is None)
        assert isinstance(outcome, Reply) or outcome.reason


def test_facts_of_an_edk2_machine() -> None:
    request = parse(sent_by_client("ref-ovmfpxe-m4", port=4011)[0].data)
    assert facts_of(with_option(request, 12, b"esx-01")) == Facts(
        macs=("52:54:00:00:00:01",),
        uuid="11223344-5566-7788-99aa-bbccddeeff00",
        hostname="esx-01",
        ipv4="192.168.77.156",
        firmware=Firmware.EFI,
    )


def test_facts_leave_out_what_identifies_nothing() -> None:
    hostile = with_option(with_option(EDK2, 12, b"{{ 7 * 7 }}"), 97, bytes(17))
    facts = facts_of(replace(hostile, chaddr=bytes(6)))
    assert (facts.macs, facts.uuid, facts.hostname) == ((), "", "")


@pytest.mark.parametrize(
    ("firmware", "packet"),
    [
        (Firmware.BIOS, BIOS_ROM),
        (Firmware.EFI, EDK2),
        (Firmware.EFI_HTTP, EDK2_HTTP),
        (Firmware.IPXE_BIOS, IPXE_ROM),
        (Firmware.IPXE_EFI, IPXE_EFI),
    ],
)
def test_the_example_of_explain_is_answered_like_the_real_machine(
    firmware: Firmware, packet: DhcpPacket
) -> None:
    real = facts_of(packet)
    example = example_request(real)
    assert facts_of(example) == real
    for code in (Option.MESSAGE_TYPE, Option.VENDOR_CLASS, Option.CLIENT_ARCH, Option.CLIENT_NDI):
        assert example.option(code) == packet.option(code)
    assert real.firmware is firmware
    assert offered(replace(example, xid=packet.xid)) == offered(packet)


@given(
    st.sampled_from((1, 3, 8)),
    st.binary(max_size=120),
    st.sampled_from((67, 4011)),
    st.ip_addresses(v=4).map(str),
    st.integers(0, 65535),
)
def test_any_options_give_an_outcome_that_can_be_sent(
    kind: int, options: bytes, port: PortKind, source: str, source_port: int
) -> None:
    data = build(with_option(without(EDK2, 97), 53, bytes((kind,)))).rstrip(b"\0")[:-1] + options
    try:
        packet = parse(data)
    except DhcpError:
        return
    outcome = answer(packet, server=PROXY, boot=TARGET, port_kind=port, source=(source, source_port))
    if isinstance(outcome, Reply):
        assert parse(build(outcome.packet)).op == BOOTREPLY
    else:
        assert outcome.reason.isprintable()
