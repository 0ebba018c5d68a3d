"""TFTP packets: what firmware sends, what may never raise, and what is granted."""

from pathlib import Path

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tftpy import TftpPacketTypes
from tftpy.TftpPacketFactory import TftpPacketFactory

from midwife.wire.tftp import (
    MAX_BLKSIZE,
    Ack,
    Data,
    Error,
    OptionAck,
    Options,
    Packet,
    PacketError,
    Request,
    Terms,
    decode,
    encode,
    negotiate,
    to_netascii,
)

PCAPS = Path(__file__).parents[1] / "data" / "pcaps"

words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=40)
options = st.lists(st.tuples(words.map(str.lower), words), max_size=6).map(tuple)
numbers = st.integers(0, 65535)
packets = st.one_of(
    st.builds(Request, words, st.sampled_from(["octet", "netascii", "mail"]), options, st.booleans()),
    st.builds(Data, numbers, st.binary(max_size=600)),
    st.builds(Ack, numbers),
    st.builds(Error, numbers, words),
    st.builds(OptionAck, options),
)


def requests_in(capture: str) -> list[Request]:
    """What firmware sent to port 69."""
    found = []
    with (PCAPS / capture).open("rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            packet = decode(bytes(dpkt.ethernet.Ethernet(frame).data.data.data))
            assert isinstance(packet, Request)
            found.append(packet)
    return found


def value_or_error(raw: bytes) -> Packet | PacketError:
    """Whatever else ``decode`` raises fails the test."""
    try:
        return decode(raw)
    except PacketError as error:
        return error


class TestRealFirmware:
    def test_ovmf_asks_for_the_size_first_and_then_for_windows(self) -> None:
        first, second, *_ = requests_in("ovmf-pxe-tftp-requests.pcap")
        assert first == Request(
            "mboot.efi", "octet", (("tsize", "0"), ("blksize", "1468"), ("windowsize", "4"))
        )
        assert second == Request("mboot.efi", "octet", (("blksize", "1468"), ("windowsize", "4")))

    def test_mboot_asks_for_boot_cfg_by_mac_and_for_every_module(self) -> None:
        names = [request.name for request in requests_in("ovmf-pxe-tftp-requests.pcap")]
        assert names.count("01-52-54-00-00-00-01/boot.cfg") == 4
        assert {"img/b.b00", "img/k.b00", "img/s.v00", "crypto64.efi"} <= set(names)

    def test_pxelinux_asks_by_uuid_in_wire_order_then_by_mac(self) -> None:
        loader, _, by_uuid, by_mac, kernel = requests_in("seabios-pxelinux-tftp-requests.pcap")
        assert loader == Request("pxelinux.0", "octet", (("blksize", "1432"), ("tsize", "0")))
        assert by_uuid.name == "pxelinux.cfg/44332211-6655-8877-99aa-bbccddeeff00"
        assert by_mac.name == "pxelinux.cfg/01-52-54-00-00-00-01"
        assert kernel.options == (("tsize", "0"), ("blksize", "1408"))


class TestAnyBytes:
    @given(st.binary(max_size=1200))
    def test_give_a_packet_or_the_one_documented_error(self, raw: bytes) -> None:
        outcome = value_or_error(raw)
        assert isinstance(outcome, Request | Data | Ack | Error | OptionAck | PacketError)
        if isinstance(outcome, PacketError):
            assert str(outcome).isprintable()  # it goes into the log as it is

    @given(st.sampled_from([b"\0\1", b"\0\2", b"\0\5", b"\0\6"]), st.binary(max_size=300))
    def test_behind_a_real_opcode_as_well(self, opcode: bytes, rest: bytes) -> None:
        packet = value_or_error(opcode + rest)
        texts = [str(packet)] if isinstance(packet, PacketError) else []
        if isinstance(packet, Request):
            assert packet.name
            texts = [packet.name, packet.mode]
        if isinstance(packet, Request | OptionAck):
            texts += [text for pair in packet.options for text in pair]
            negotiate(packet.options, 1000)
        if isinstance(packet, Error):
            texts.append(packet.text)
        assert all(text.isprintable() for text in texts)

    @given(packets)
    def test_that_we_wrote_are_read_back(self, packet: Request | Data | Ack | Error | OptionAck) -> None:
        assert decode(encode(packet)) == packet

    @given(options, st.integers(0, 2**40), st.integers(512, MAX_BLKSIZE))
    def test_never_get_an_option_that_was_not_asked_for(self, asked: Options, size: int, limit: int) -> None:
        terms = negotiate(asked, size, limit)
        assert {name for name, _ in terms.granted} <= {name for name, _ in asked}


class TestRequests:
    def test_names_of_modes_and_options_are_in_any_case(self) -> None:
        raw = b"\0\1Boot.CFG\0OcTeT\0BLKSIZE\x001432\0TSize\x000\0"
        assert decode(raw) == Request("Boot.CFG", "octet", (("blksize", "1432"), ("tsize", "0")))

    def test_zeros_after_the_options_are_padding(self) -> None:
        raw = b"\0\1pxelinux.0\0octet\0tsize\x000\0\0\0\0\0"
        assert decode(raw) == Request("pxelinux.0", "octet", (("tsize", "0"),))

    def test_an_option_without_value_is_none(self) -> None:
        assert decode(b"\0\1f\0octet\0blksize\0") == Request("f")
        assert decode(b"\0\1f\0octet\0blksize\x001468") == Request("f")

    def test_writing_is_recognised(self) -> None:
        assert decode(b"\0\2f\0octet\0") == Request("f", write=True)

    @pytest.mark.parametrize(
        ("raw", "why"),
        [
            (b"", "too short"),
            (b"\0\1", "too short"),
            (b"\0\1name only", "does not end with NUL"),
            (b"\0\1\0octet\0", "empty or holds control"),
            (b"\0\1a\nlevel=critical\0octet\0", "empty or holds control"),
            ("\0\1a\u202egpj\0octet\0".encode(), "empty or holds control"),
            (b"\0\1\xff\xfe\0octet\0", "not UTF-8"),
            (b"\0\1f\0binary\0", "'binary' is none of"),
            (b"\0\1" + b"f" * 1100 + b"\0octet\0", "RFC 2347 allows 512"),
            (b"\0\7\0\0", "opcode 7"),
            (b"\xff\xff\xff\xff", "opcode 65535"),
        ],
    )
    def test_what_is_none_says_why(self, raw: bytes, why: str) -> None:
        with pytest.raises(PacketError, match=why):
            decode(raw)


class TestNegotiation:
    @pytest.mark.parametrize(
        ("asked", "terms"),
        [
            ("", Terms()),
            ("tsize=0", Terms(granted=(("tsize", "201024"),))),
            (
                "tsize=0 blksize=1468 windowsize=4",  # EDK2
                Terms(1468, 4, None, (("tsize", "201024"), ("blksize", "1468"), ("windowsize", "4"))),
            ),
            (
                "blksize=1432 tsize=0",  # iPXE: its order is kept
                Terms(1432, 1, None, (("blksize", "1432"), ("tsize", "201024"))),
            ),
            ("blksize=8", Terms(8, granted=(("blksize", "8"),))),
            ("blksize=7", Terms()),
            ("blksize=65464", Terms(1468, granted=(("blksize", "1468"),))),
            ("blksize=65465", Terms()),
            ("blksize=abc", Terms()),
            ("blksize=-8", Terms()),
            ("blksize=１４６８", Terms()),  # digits, but not ASCII
            ("blksize=" + "9" * 400, Terms()),
            ("blksize=512", Terms(granted=(("blksize", "512"),))),
            ("timeout=0", Terms()),
            ("timeout=1", Terms(timeout=1, granted=(("timeout", "1"),))),
            ("timeout=255", Terms(timeout=255, granted=(("timeout", "255"),))),
            ("timeout=256", Terms()),
            ("windowsize=0", Terms()),
            ("windowsize=1", Terms(granted=(("windowsize", "1"),))),
            ("windowsize=64", Terms(windowsize=64, granted=(("windowsize", "64"),))),
            ("windowsize=65535", Terms(windowsize=64, granted=(("windowsize", "64"),))),
            ("windowsize=65536", Terms()),
            ("multicast=", Terms()),
            ("rollover=1 blksize=1024", Terms(1024, granted=(("blksize", "1024"),))),
            ("blksize=1024 blksize=8", Terms(1024, granted=(("blksize", "1024"),))),
        ],
    )
    def test_over_ethernet(self, asked: str, terms: Terms) -> None:
        pairs = tuple(tuple(word.split("=", 1)) for word in asked.split())
        assert negotiate(pairs, 201024, max_blksize=1468) == terms


def test_netascii_ends_lines_with_cr_lf_and_marks_a_cr_of_the_file() -> None:
    assert to_netascii(b"a\nb\rc\r\n") == b"a\r\nb\r\0c\r\0\r\n"


class TestAgainstTftpy:
    """tftpy's packet classes, written by others, read what we write and the other way round."""

    def test_it_reads_our_packets(self) -> None:
        factory = TftpPacketFactory()
        ours = factory.parse(encode(Request("k.b00", "octet", (("blksize", "1468"),))))
        assert (ours.filename, ours.mode, ours.options) == ("k.b00", "octet", {"blksize": "1468"})
        assert factory.parse(encode(OptionAck((("tsize", "7"),)))).options == {"tsize": "7"}
        assert factory.parse(encode(Data(65535, b"x"))).blocknumber == 65535
        assert factory.parse(encode(Error(1, "no"))).errorcode == 1

    def test_we_read_its_packets(self) -> None:
        theirs = TftpPacketTypes.TftpPacketACK()
        theirs.blocknumber = 513
        assert decode(bytes(theirs.encode().buffer)) == Ack(513)
