"""DHCP packets: what real firmware sent is read and written again, and no bytes break the parser."""

from dataclasses import replace

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.wire.dhcp import BOOTREPLY, BOOTREQUEST, DhcpError, DhcpPacket, build, describe, parse
from midwife.wire.dhcpoptions import (
    MessageType,
    Option,
    architectures_of,
    guid_of,
    suboptions_of,
    text_of,
    user_classes_of,
)
from tests.wire.dhcpcaptures import captures, datagrams, sent_by_client

EDK2_DISCOVER = sent_by_client("ref-ovmfpxe-m1")[0].data
IPXE_DISCOVER = sent_by_client("ref-bios-m2")[0].data


def with_options(options: bytes, file: bytes = b"", sname: bytes = b"") -> bytes:
    """A packet's bytes whose option field, file and sname are exactly these."""
    head = build(DhcpPacket(op=BOOTREQUEST, xid=1, chaddr=b"\x52\x54\0\0\0\1"))[:44]
    return head + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + b"\x63\x82\x53\x63" + options


def read(data: bytes) -> DhcpPacket | DhcpError:
    """The packet, or the one error that ``parse`` may raise."""
    try:
        return parse(data)
    except DhcpError as error:
        return error


@pytest.mark.parametrize("name", captures())
def test_captured_packets_are_read_as_dpkt_reads_them_and_written_as_they_were(name: str) -> None:
    heard = datagrams(name)
    assert len(heard) >= 3, "a capture of a boot has at least DISCOVER and two offers"
    for datagram in heard:
        packet = parse(datagram.data)
        other = dpkt.dhcp.DHCP(datagram.data)
        assert (packet.op, packet.xid, packet.hops, packet.secs) == (
            other.op,
            other.xid,
            other.hops,
            other.secs,
        )
        assert packet.chaddr == other.chaddr[:6]
        assert [tuple(option) for option in packet.options] == [(c, v) for c, v in other.opts if c != 255]
        assert packet.file == other.file.split(b"\0")[0]
        # Only the padding behind the end option may differ.
        assert build(packet).rstrip(b"\0") == datagram.data.rstrip(b"\0")
        assert parse(build(packet)) == packet


def test_an_edk2_discover_tells_who_it_is() -> None:
    packet = parse(EDK2_DISCOVER)
    assert packet.message_type is MessageType.DISCOVER
    assert packet.mac == "52:54:00:00:00:01"
    assert packet.vendor_class == "PXEClient:Arch:00007:UNDI:003000"
    assert packet.architectures == (7,)
    assert packet.guid == "11223344-5566-7788-99aa-bbccddeeff00", (
        "as dmidecode prints it, not as the wire has it"
    )
    assert packet.broadcast
    assert not packet.relayed


def test_an_ipxe_discover_names_its_user_class_bare() -> None:
    packet = parse(IPXE_DISCOVER)
    assert packet.option(Option.USER_CLASS) == b"iPXE", "no length byte, whatever RFC 3004 says"
    assert packet.user_classes == ("iPXE",)
    assert not packet.broadcast


@pytest.mark.parametrize(
    ("data", "classes"),
    [
        (b"iPXE", ("iPXE",)),
        (b"\x04iPXE", ("iPXE",)),
        (b"\x04iPXE\x03lab", ("iPXE", "lab")),
        (b"", ()),
        (b"\0", ()),
        (b"\x09short", ("\\x09short",)),
    ],
)
def test_user_classes_come_in_two_encodings(data: bytes, classes: tuple[str, ...]) -> None:
    assert user_classes_of(data) == classes


def test_several_architectures_keep_their_order() -> None:
    assert architectures_of(bytes.fromhex("0007 0000 ff")) == (7, 0)


def test_a_guid_of_another_type_or_size_is_none() -> None:
    assert guid_of(bytes(17)) == "00000000-0000-0000-0000-000000000000"
    assert guid_of(b"\x01" + bytes(16)) == ""
    assert guid_of(bytes(16)) == ""


def test_text_is_one_safe_line() -> None:
    assert text_of(b"esx-01\0junk") == "esx-01"
    assert text_of(b"a\nb\x1b[2J\\\xff") == "a\\x0ab\\x1b[2J\\x5c\\xff"


def test_the_boot_menu_of_dnsmasq_is_read() -> None:
    offer = parse(datagrams("dnsmasq-proxy-bios-ipxe")[2].data)
    menu = suboptions_of(offer.option(Option.VENDOR_OPTIONS) or b"")
    assert menu[6] == b"\x03"
    assert menu[9] == b"\x80\x00\x03lab"
    assert suboptions_of(b"\x00\x06\x01\x08\x47\x09short") == {6: b"\x08"}


def test_a_repeated_option_is_one_long_option() -> None:
    """RFC 3396."""
    packet = parse(with_options(b"\x43\x03htt\x35\x01\x01\x43\x0fp://192.0.2.3/x\xff"))
    assert packet.option(Option.BOOT_FILE) == b"http://192.0.2.3/x"
    assert packet.message_type is MessageType.DISCOVER
    url = b"http://192.0.2.3/" + b"x" * 600
    long = replace(packet, options=((Option.BOOT_FILE, url),))
    assert parse(build(long)).option(Option.BOOT_FILE) == url


def test_options_continue_in_file_and_then_in_sname() -> None:
    """RFC 2132 section 9.3, order of RFC 3396 section 5."""
    packet = parse(with_options(b"\x34\x01\x03\x0c\x01a\xff", file=b"\x0c\x01b\xff", sname=b"\x0c\x01c\xff"))
    assert packet.host_name == "abc"
    assert packet.file == packet.sname == b""
    assert packet.option(Option.OVERLOAD) is None, "it described that packet's layout, not its content"


def test_a_missing_end_option_is_borne() -> None:
    assert parse(with_options(b"\x35\x01\x01")).message_type is MessageType.DISCOVER


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "ends in its header"),
        (EDK2_DISCOVER[:200], 200, "ends in its header"),
        (EDK2_DISCOVER[:236], 236, "magic cookie"),
        (b"\x05" + EDK2_DISCOVER[1:], 0, "op is 5"),
        (EDK2_DISCOVER[:2] + b"\x11" + EDK2_DISCOVER[3:], 2, "17 bytes"),
        (with_options(b"\x35"), 240, "no length byte"),
        (with_options(b"\x35\x01\x01\x0c\x09esx"), 243, "says 9 bytes, only 3 are left"),
        (with_options(b"\x34\x01\x01\xff", file=b"\x0c\xff"), 108, "host-name (12) says 255 bytes"),
    ],
)
def test_a_broken_packet_says_where_and_why(data: bytes, offset: int, reason: str) -> None:
    with pytest.raises(DhcpError) as caught:
        parse(data)
    assert caught.value.offset == offset
    assert reason in caught.value.reason


@given(st.binary(max_size=700))
def test_any_bytes_give_a_packet_or_a_dhcp_error(data: bytes) -> None:
    for candidate in (data, with_options(data), with_options(b"\x34\x01\x03" + data, data[:128], data[:64])):
        packet = read(candidate)
        if isinstance(packet, DhcpError):
            assert 0 <= packet.offset <= len(candidate)
        else:
            assert parse(build(packet)) == packet
            assert all(line.isprintable() for line in describe(packet))


@given(st.integers(0, len(EDK2_DISCOVER) - 1), st.integers(0, 255), st.integers(0, len(EDK2_DISCOVER)))
def test_a_bent_or_cut_firmware_packet_never_raises_anything_else(at: int, value: int, cut: int) -> None:
    bent = bytearray(EDK2_DISCOVER)
    bent[at] = value
    for candidate in (bytes(bent), bytes(bent[:cut])):
        packet = read(candidate)
        if isinstance(packet, DhcpError):
            continue
        assert isinstance(packet.message_type, MessageType)
        assert packet.mac == "" or len(packet.mac) == 17
        assert isinstance((packet.guid, packet.user_classes, packet.architectures), tuple)


addresses = st.ip_addresses(v=4).map(str)
packets = st.builds(
    DhcpPacket,
    op=st.sampled_from((BOOTREQUEST, BOOTREPLY)),
    xid=st.integers(0, 2**32 - 1),
    chaddr=st.binary(max_size=16),
    secs=st.integers(0, 65535),
    flags=st.integers(0, 65535),
    ciaddr=addresses,
    giaddr=addresses,
    file=st.binary(max_size=128).map(lambda b: b.split(b"\0")[0]),
    options=st.dictionaries(
        st.integers(1, 254).filter(lambda code: code not in (Option.OVERLOAD, Option.RELAY_INFO)),
        st.binary(max_size=600),
        max_size=6,
    ).map(lambda options: tuple(options.items())),
)


@given(packets)
def test_what_is_written_is_read_again(packet: DhcpPacket) -> None:
    data = build(packet)
    assert len(data) >= 300, "relays and ROMs drop shorter BOOTP packets"
    assert parse(data) == packet


def test_relay_information_goes_last() -> None:
    packet = DhcpPacket(
        op=BOOTREPLY, xid=1, options=((82, b"\x01\x04port"), (53, b"\x02"), (54, b"\xc0\0\2\3"))
    )
    assert [code for code, _ in parse(build(packet)).options] == [53, 54, 82]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"file": b"x" * 129}, "file has 129 bytes; the field has 128"),
        ({"xid": 2**32}, "xid is 4294967296"),
        ({"siaddr": "esx"}, "siaddr is 'esx'"),
        ({"options": ((255, b""),)}, "not an option that can be set"),
        ({"options": ((52, b"\x01"),)}, "not an option that can be set"),
    ],
)
def test_what_cannot_be_written_is_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(DhcpError, match=told.split(";")[0].replace("(", r"\(")):
        build(replace(DhcpPacket(op=BOOTREPLY, xid=1), **changes))  # type: ignore[arg-type]


def test_a_packet_is_described_for_people() -> None:
    told = describe(parse(EDK2_DISCOVER))
    assert "client: 52:54:00:00:00:01" in told
    assert "message-type (53): DISCOVER" in told
    assert "vendor-class (60): PXEClient:Arch:00007:UNDI:003000" in told
    assert "client-guid (97): 11223344-5566-7788-99aa-bbccddeeff00" in told
    assert not any(line.startswith(("siaddr", "file", "giaddr")) for line in told), (
        "what is empty is left out"
    )
