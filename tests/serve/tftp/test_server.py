"""The live server, packet by packet: ``>>`` the host sends, ``<<`` we answer."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midwife.serve.messages import Ask, Report
from midwife.wire.tftp import Ack, Data, Error, OptionAck, encode

from .conftest import Control, Host, Server, bound

NewHost = Callable[..., Host]
STEADY = {"timeout": 30}
"""Asked for by hosts that count packets: the server then repeats nothing, however busy the machine is."""


class TestFirmware:
    def test_edk2_probes_the_size_then_loads(
        self, server: Server, control: Control, new_host: NewHost
    ) -> None:
        new_host(server.address).plays(
            """
            >> RRQ mboot.efi tsize=0 blksize=1468 windowsize=4
            << OACK tsize=201024 blksize=1468 windowsize=4
            >> ERROR 8 User aborted the transfer
            """
        )
        probe = control.report("probe", "mboot.efi")
        assert (probe.sent, probe.size) == (0, 201024)
        new_host(server.address).plays(
            """
            >> RRQ mboot.efi blksize=1468 windowsize=4
            << OACK blksize=1468 windowsize=4
            >> ACK 0
            << DATA 1 of 1468
            << DATA 2 of 1468
            << DATA 3 of 1468
            << DATA 4 of 1468
            >> ACK 4
            << DATA 5 of 1468
            """
        )
        assert control.report("started", "mboot.efi", detail="blksize=1468 windowsize=4").size == 201024
        assert "error 8" not in server.log.replace("level=debug", "")

    def test_pxelinux_aborts_at_the_first_block(self, host: Host, control: Control) -> None:
        host.plays(
            """
            >> RRQ boot.cfg tsize=0 blksize=600
            << OACK tsize=700 blksize=600
            >> ACK 0
            << DATA 1 of 600
            >> ERROR 0
            """
        )
        assert control.report("probe", "boot.cfg").size == 700

    def test_a_host_without_options_gets_the_first_block_at_once(self, host: Host) -> None:
        host.plays(
            """
            >> RRQ /boot.cfg
            << DATA 1 of 512
            >> ACK 1
            << DATA 2 of 188
            >> ACK 2
            """
        )

    @pytest.mark.parametrize("name", ["empty", "exact", "boot.cfg"])
    @pytest.mark.parametrize("window", [1, 2, 4])
    def test_every_length_ends_with_a_short_block(
        self, name: str, window: int, host: Host, tree: Path
    ) -> None:
        assert host.loads(name, windowsize=window) == (tree / name).read_bytes()

    def test_block_numbers_roll_over(self, host: Host, tree: Path) -> None:
        """600 KiB in blocks of 8 octets are 76,801 blocks."""
        assert host.loads("rollover", blksize=8, windowsize=64) == (tree / "rollover").read_bytes()

    def test_the_attempt_is_taken_off_the_name(self, host: Host, control: Control, tree: Path) -> None:
        assert host.loads("/a/k3v9/s.v00", blksize=1468, windowsize=16) == (tree / "s.v00").read_bytes()
        served = control.report("served", "s.v00", attempt="k3v9")
        assert (served.client, served.sent, served.size) == ("127.0.0.1", 3_000_000, 3_000_000)

    def test_a_rendered_answer_belongs_to_the_attempt_it_names(self, host: Host, control: Control) -> None:
        control.knows("pxelinux.cfg/default", body="DEFAULT esx\n", attempt="m7q2")
        assert host.loads("pxelinux.cfg/default", tsize=0) == b"DEFAULT esx\n"
        assert control.report("served", "pxelinux.cfg/default").attempt == "m7q2"

    def test_netascii_is_translated(self, host: Host) -> None:
        host.asks("ks.cfg", "netascii", tsize=0)
        text = b"vmaccepteula\r\nrootpw x\r\0\r\ninstall\r\n"
        assert host.hears() == OptionAck((("tsize", str(len(text))),))
        host.acks(0)
        assert host.hears() == Data(1, text)
        host.acks(1)

    def test_netascii_is_refused_for_what_is_no_text(self, host: Host) -> None:
        host.asks("s.v00", "netascii")
        assert host.hears() == Error(0, "netascii only up to 1048576 bytes; ask for octet (binary)")


class TestLoss:
    def test_a_lost_ack_brings_the_block_again(self, host: Host) -> None:
        host.asks("boot.cfg")
        first, again = host.hears(), host.hears()
        assert first == again
        host.acks(1)
        host.acks(1)

    def test_a_lost_block_brings_it_again(self, host: Host, tree: Path) -> None:
        host.asks("exact")
        host.hears()
        host.acks(1)
        second = host.hears()
        assert host.hears() == second, "the second block was not acknowledged and comes again"
        assert second == Data(2, (tree / "exact").read_bytes()[512:1024])

    def test_duplicate_acks_do_not_double_the_transfer(self, host: Host) -> None:
        """Sorcerer's Apprentice: each ACK comes twice, and still each block is sent once."""
        host.asks("exact", **STEADY)
        assert isinstance(host.hears(), OptionAck)
        for block in range(4):
            host.acks(block)
            host.acks(block)
            assert host.hears().block == block + 1
        host.acks(4)
        assert host.data_packets == 4

    def test_duplicate_acks_of_windows_do_not_double_them(self, host: Host, control: Control) -> None:
        host.asks("mboot.efi", windowsize=4, blksize=1000, **STEADY)
        assert isinstance(host.hears(), OptionAck)
        blocks = 202
        host.acks(0)
        done = 0
        while done < blocks:
            window = min(4, blocks - done)
            for _ in range(window):
                while (packet := host.hears()).block != done + 1:
                    assert packet.block <= done, "nothing is skipped"
                done = packet.block
            host.acks(done)
            host.acks(done)
        control.report("served", "mboot.efi")
        assert host.data_packets <= blocks * 1.6, "at most every other window may be answered twice"

    def test_a_lost_middle_block_takes_the_window_back_once(self, host: Host) -> None:
        host.asks("mboot.efi", windowsize=4, blksize=1000, **STEADY)
        host.hears()
        host.acks(0)
        assert [host.hears().block for _ in range(4)] == [1, 2, 3, 4]
        host.acks(2)  # as if 3 had been lost
        host.acks(2)
        assert [host.hears().block for _ in range(4)] == [3, 4, 5, 6]
        host.acks(6)
        assert [host.hears().block for _ in range(4)] == [7, 8, 9, 10]
        host.sends(Error(0, "enough"))

    def test_a_repeated_request_does_not_begin_a_second_transfer(self, host: Host, control: Control) -> None:
        control.knows("twice", body="once")
        for _ in range(3):
            host.asks("twice", tsize=0, **STEADY)
        assert isinstance(host.hears(), OptionAck)
        host.asks("twice", tsize=0, **STEADY)
        host.acks(0)
        assert host.hears() == Data(1, b"once")
        host.acks(1)
        control.report("served", "twice")
        assert control.count(lambda m: isinstance(m, Ask) and m.name == "twice") == 1

    def test_another_request_from_the_same_port_takes_over(self, host: Host, control: Control) -> None:
        """ROMs with a fixed source port: the ERROR that ended the probe was lost."""
        host.asks("s.v00", tsize=0)
        assert isinstance(host.hears(), OptionAck)
        host.tid = None
        host.asks("boot.cfg", blksize=1000)
        while (packet := host.hears()) != OptionAck((("blksize", "1000"),)):
            assert isinstance(packet, OptionAck), "only the first transfer's OACK may come again"
        control.report("aborted", "s.v00", detail="the client began another request from the same port")


class TestAddresses:
    def test_strangers_cannot_speak_for_the_client(
        self, server: Server, host: Host, new_host: NewHost
    ) -> None:
        host.asks("exact", **STEADY)
        host.hears()
        host.acks(0)
        assert host.hears().block == 1
        stranger = new_host(host.tid)
        stranger.sends(Ack(1))
        stranger.sends(Error(0, "die"))
        host.acks(1)
        assert host.hears().block == 2
        assert host.data_packets == 2

    def test_each_transfer_has_a_port_of_its_own(self, server: Server, new_host: NewHost) -> None:
        one, other = new_host(server.address), new_host(server.address)
        one.asks("boot.cfg")
        other.asks("boot.cfg")
        one.hears()
        other.hears()
        assert len({one.tid, other.tid, server.address}) == 3

    def test_answers_come_from_the_address_asked(
        self, own_server: Callable[..., Server], own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server(hosts=("0.0.0.0",))
        host = new_host(("127.0.0.2", server.port))
        assert len(host.loads("boot.cfg")) == 700
        assert host.tid[0] == "127.0.0.2"
        assert own_control.asked("boot.cfg").local == "127.0.0.2"

    def test_errors_as_well(self, own_server: Callable[..., Server], new_host: NewHost) -> None:
        server = own_server(hosts=("0.0.0.0",))
        host = new_host(("127.0.0.3", server.port))
        host.asks("nothing")
        assert host.hears() == Error(1, "no such file: nothing")
        assert host.tid[0] == "127.0.0.3"

    def test_ipv6(self, server: Server, control: Control, new_host: NewHost, tree: Path) -> None:
        host = new_host(server.address6)
        assert host.loads("mboot.efi", blksize=1400, windowsize=8) == (tree / "mboot.efi").read_bytes()
        assert control.report("served", "mboot.efi", client="::1").sent == 201024

    def test_an_ipv4_host_on_a_dual_stack_socket(
        self, own_server: Callable[..., Server], own_control: Control, new_host: NewHost, monkeypatch
    ) -> None:
        dual = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        dual.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        dual.bind(("::", 0))
        monkeypatch.setattr("tests.serve.tftp.conftest.bound", lambda _: dual)
        server = own_server(hosts=("::",))
        host = new_host(("127.0.0.4", server.port))
        assert len(host.loads("boot.cfg")) == 700
        assert host.tid[0] == "127.0.0.4"
        assert own_control.report("served").client == "127.0.0.1"


class TestRefusals:
    @pytest.mark.parametrize(("status", "code"), [(404, 1), (403, 2), (500, 0)])
    def test_the_control_process_says_no(self, status: int, code: int, host: Host, control: Control) -> None:
        control.knows("no", refused="no rule\nmatches", status=status)
        host.asks("a/k3v9/no")
        assert host.hears() == Error(code, "no rule matches")
        assert control.report("refused", "no").attempt == "k3v9"

    def test_nothing_is_written(self, host: Host, control: Control) -> None:
        host.plays(
            """
            >> WRQ boot.cfg
            << ERROR 2 read only
            """
        )

    def test_no_mail(self, host: Host) -> None:
        host.asks("root", "mail")
        assert host.hears() == Error(4, "no mail mode")

    def test_a_file_that_is_gone(self, host: Host, control: Control, tmp_path: Path) -> None:
        control.knows("gone", path=str(tmp_path / "gone"), cache=True)
        host.asks("gone")
        assert host.hears() == Error(1, "cannot be read on the server")

    @pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
    def test_what_is_no_plain_file(self, kind: str, host: Host, control: Control, tmp_path: Path) -> None:
        path = tmp_path / "thing"
        match kind:
            case "link":
                path.symlink_to("/etc/passwd")
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
        control.knows("thing", path=str(path))
        host.asks("thing")
        assert isinstance(host.hears(), Error)

    def test_limits_per_client(
        self, own_server: Callable[..., Server], own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server("--max-per-client", "2")
        loading = [new_host(server.address) for _ in range(2)]
        for host in loading:
            host.asks("s.v00", **STEADY)
            host.hears()
        third = new_host(server.address)
        third.asks("boot.cfg", **STEADY)
        dropped = own_control.report("refused", "boot.cfg")
        assert dropped.detail == "dropped: 2 transfers of this client are under way (its limit)"
        other = new_host(server.address, "127.0.0.9")
        assert len(other.loads("boot.cfg")) == 700
        loading[0].sends(Error(0, "done"))
        own_control.report("probe", "s.v00")
        assert len(third.loads("boot.cfg")) == 700
        assert server.log.count("request dropped") == 1

    def test_limit_of_the_server(
        self, own_server: Callable[..., Server], own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server("--max-transfers", "1")
        first = new_host(server.address)
        first.asks("s.v00", **STEADY)
        first.hears()
        new_host(server.address, "127.0.0.9").asks("boot.cfg")
        assert "(the server's limit)" in own_control.report("refused", "boot.cfg").detail


request_like = st.builds(
    lambda opcode, parts: opcode + b"\0".join(parts),
    st.sampled_from([b"\0\1", b"\0\2", b"\0\1", b"\0\6", b"\0\3"]),
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"octet", b"netascii", b"blksize", b"8", b"-1", b"windowsize", b"../../etc/passwd"]
            ),
            st.binary(max_size=30),
        ),
        max_size=8,
    ),
)


class TestHostileTraffic:
    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.one_of(st.binary(max_size=1500), request_like), min_size=20, max_size=60))
    def test_hurts_nobody(self, server: Server, new_host: NewHost, datagrams: list[bytes]) -> None:
        attacker = bound("127.0.0.66")
        for datagram in datagrams:
            attacker.sendto(datagram, server.address)
        host = new_host(server.address)
        assert len(host.loads("boot.cfg")) == 700
        attacker.close()
        host.close()
        assert server.process.poll() is None
        assert "bug in the TFTP server" not in server.log

    def test_is_one_line_and_one_report_per_client(
        self, own_server: Callable[..., Server], own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server()
        attacker = new_host(server.address, "127.0.0.66")
        for _ in range(200):
            attacker.sends(b"\0\1no end")
        good = new_host(server.address)
        good.loads("boot.cfg")  # after it all 200 have been looked at
        own_control.report("served", "boot.cfg")
        assert "does not end with NUL" in own_control.report("malformed", client="127.0.0.66").detail
        assert own_control.count(lambda m: isinstance(m, Report) and m.kind == "malformed") == 1
        assert server.log.count("malformed datagram") == 1

    def test_a_flood_into_a_transfer_does_not_stop_the_others(
        self, server: Server, new_host: NewHost
    ) -> None:
        flooder = new_host(server.address)
        flooder.asks("s.v00", **STEADY)
        flooder.hears()
        for _ in range(2000):
            flooder.sends(b"\0\4\xff\xff")
        assert len(new_host(server.address).loads("boot.cfg")) == 700
        flooder.sends(Error(0, ""))

    def test_a_flood_from_a_finished_transfer_is_nothing(self, host: Host, control: Control) -> None:
        control.knows("small", body="x")
        assert host.loads("small") == b"x"
        control.report("served", "small")
        host.sends(encode(Ack(1)))
        host.tid = None
        assert host.loads("boot.cfg")
