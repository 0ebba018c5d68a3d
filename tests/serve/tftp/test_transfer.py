"""The sending side, packet by packet on a clock of our own: loss, duplicates, time-outs, windows."""

import errno
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.serve.tftp.image import Files, Images, Source, Text
from midwife.serve.tftp.timers import MIN_RTO, Deadlines
from midwife.serve.tftp.transfer import PATIENCE, Ending, Job, Transfer
from midwife.wire.tftp import Ack, Data, Error, OptionAck, Packet, Terms, decode, encode

NOISE = random.Random(7440).randbytes(70_000)


class FakeWire:
    """A socket: what is sent is kept as datagrams (a segmented send is several), what is put in is received."""

    def __init__(self) -> None:
        self.sends = 0
        self.sent: list[Packet] = []
        self.waiting: list[bytes | OSError] = []
        self.segment = 0
        self.nobody_listens = False
        self.refuses_segments: int = 0
        """errno of a send that the kernel would have to cut."""

    def recv(self, size: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError
        first = self.waiting.pop(0)
        if isinstance(first, OSError):
            raise first
        return first

    def send(self, packet: bytes | memoryview) -> int:
        if self.nobody_listens:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        raw = bytes(packet)
        size = self.segment or len(raw)
        if len(raw) > size and self.refuses_segments:
            raise OSError(self.refuses_segments, "no")
        self.sends += 1
        self.sent += [decode(raw[at : at + size]) for at in range(0, len(raw), size)]
        return len(raw)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.segment = value


class Lab:
    """One transfer, its client's mouth and the clock."""

    def __init__(self, body: bytes | Source, blksize: int = 512, window: int = 1, **more: object) -> None:
        granted = (("blksize", str(blksize)), ("windowsize", str(window))) if window > 1 else ()
        terms = Terms(blksize, window, **{"granted": granted, **more})
        source = Text(body) if isinstance(body, bytes) else body
        self.now = 100.0
        self.wire = FakeWire()
        self.ending: Ending | None = None
        self.deadlines = Deadlines()
        job = Job("192.0.2.9", "k.b00", "", source, terms)
        self.transfer = Transfer(job, self.wire, Images(), self.deadlines, self._ended)
        self.transfer.start(self.now)

    def _ended(self, ending: Ending) -> None:
        assert self.ending is None, "a transfer ends once"
        self.ending = ending
        self.transfer.close()

    def client_sends(self, *packets: Packet | bytes) -> None:
        for packet in packets:
            if not self.transfer.ended:
                self.wire.waiting.append(packet if isinstance(packet, bytes) else encode(packet))
                self.transfer.readable(self.now)

    def heard(self) -> list[Packet]:
        """What was sent since the last look."""
        sent, self.wire.sent = self.wire.sent, []
        return sent

    def blocks(self) -> list[int]:
        return [packet.block for packet in self.heard() if isinstance(packet, Data)]

    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.deadlines.next <= end:
            self.now = max(self.now, self.deadlines.next)
            for alarm in self.deadlines.due(self.now):
                alarm.expired(self.now)
        self.now = end


class TestLockstep:
    def test_a_file_arrives_and_the_last_block_is_a_short_one(self) -> None:
        lab = Lab(b"x" * 1000)
        lab.client_sends(Ack(1), Ack(2))
        assert lab.heard() == [Data(1, b"x" * 512), Data(2, b"x" * 488)]
        assert lab.ending == Ending("served")
        assert lab.transfer.sent == 1000

    @pytest.mark.parametrize("size", [0, 512, 1024])
    def test_a_file_of_whole_blocks_ends_with_an_empty_one(self, size: int) -> None:
        lab = Lab(b"x" * size)
        lab.client_sends(*(Ack(n) for n in range(1, size // 512 + 2)))
        assert lab.heard()[-1] == Data(size // 512 + 1, b"")
        assert lab.ending == Ending("served")

    def test_a_duplicate_ack_sends_nothing(self) -> None:
        """Sorcerer's Apprentice, RFC 1123 section 4.2.3.1."""
        lab = Lab(b"x" * 2000)
        lab.client_sends(Ack(1), Ack(1), Ack(1), Ack(2), Ack(1), Ack(2))
        assert lab.blocks() == [1, 2, 3]

    def test_an_ack_from_the_future_sends_nothing(self) -> None:
        lab = Lab(b"x" * 2000)
        lab.client_sends(Ack(3), Ack(60000))
        assert lab.blocks() == [1]

    def test_a_lost_block_is_sent_again_after_the_measured_round_trip(self) -> None:
        lab = Lab(b"x" * 2000)
        lab.now += 0.002
        lab.client_sends(Ack(1))
        lab.heard()
        lab.time_passes(MIN_RTO - 0.001)
        assert lab.blocks() == []
        lab.time_passes(0.002)
        assert lab.blocks() == [2]

    def test_before_anything_is_measured_the_timeout_is_one_second_and_doubles_to_four(self) -> None:
        lab = Lab(b"x")
        lab.heard()
        times = []
        while lab.ending is None:
            lab.time_passes(0.5)
            times += [lab.now - 100.0] * len(lab.blocks())
        assert times == [1.0, 3.0, 7.0, 11.0, 15.0, 19.0]
        assert lab.now - 100.0 == PATIENCE
        assert lab.ending.kind == "timeout"

    def test_a_resent_block_is_not_measured(self) -> None:
        """Karn: nobody knows which of the two was acknowledged, so the longer timeout stays."""
        lab = Lab(b"x" * 2000)
        lab.time_passes(1.001)
        lab.client_sends(Ack(1))
        lab.heard()
        lab.time_passes(1.9)
        assert lab.blocks() == []
        lab.time_passes(0.2)
        assert lab.blocks() == [2]

    def test_the_clients_own_timeout_is_kept(self) -> None:
        lab = Lab(b"x" * 2000, timeout=3, granted=(("timeout", "3"),))
        lab.client_sends(Ack(0), Ack(1))
        lab.heard()
        lab.time_passes(9.5)
        assert lab.blocks() == [2, 2, 2]

    def test_a_forged_request_cannot_hold_its_place_with_a_long_timeout(self) -> None:
        lab = Lab(b"x", timeout=255, granted=(("timeout", "255"),))
        lab.time_passes(PATIENCE)
        assert lab.ending == Ending("timeout", "no answer to the option acknowledgement")

    def test_an_ack_with_padding_counts(self) -> None:
        lab = Lab(b"x" * 600)
        lab.client_sends(encode(Ack(1)) + bytes(14), Ack(2))
        assert lab.ending == Ending("served")

    def test_block_numbers_roll_over_to_zero(self) -> None:
        lab = Lab(bytes(8) * 65_537, blksize=8)
        for block in range(1, 65_539):
            lab.client_sends(Ack(block & 0xFFFF))
        assert lab.blocks()[65_534:] == [65_535, 0, 1, 2]
        assert lab.ending == Ending("served")


class TestEndings:
    def test_edk2_probes_the_size_and_aborts(self) -> None:
        lab = Lab(b"x" * 9, granted=(("tsize", "9"),))
        lab.client_sends(Error(8, "User aborted the transfer"))
        assert lab.ending == Ending("probe", "error 8: User aborted the transfer")

    def test_pxelinux_aborts_what_it_does_not_like_at_the_first_block(self) -> None:
        lab = Lab(b"x" * 999, granted=(("tsize", "999"),))
        lab.client_sends(Ack(0), Error(0, ""))
        assert lab.ending == Ending("probe", "error 0")

    def test_an_error_after_that_is_an_abort(self) -> None:
        lab = Lab(b"x" * 999)
        lab.client_sends(Ack(1), Error(3, "disk\nfull"))
        assert lab.ending == Ending("aborted", "error 3: disk?full")

    def test_a_client_that_closed_its_port_on_the_last_block_had_it(self) -> None:
        lab = Lab(b"x" * 600)
        lab.client_sends(Ack(1))
        lab.wire.waiting.append(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        lab.transfer.readable(lab.now)
        assert lab.ending.kind == "served"
        assert lab.transfer.sent == 600

    def test_a_client_that_closed_its_port_before_did_not(self) -> None:
        lab = Lab(b"x" * 6000)
        lab.wire.waiting.append(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        lab.transfer.readable(lab.now)
        assert lab.ending == Ending("aborted", "the client closed its port")

    @pytest.mark.parametrize("asked", [(), (("tsize", "6000"),)])
    def test_a_client_that_is_gone_when_we_repeat_leaves_no_alarm(self, asked: tuple) -> None:
        lab = Lab(b"x" * 6000, granted=asked)
        lab.wire.nobody_listens = True
        lab.time_passes(1.0)
        assert lab.ending == Ending("aborted", "the client closed its port")
        assert lab.deadlines.next == float("inf")

    def test_other_network_errors_pass(self) -> None:
        lab = Lab(b"x" * 600)
        lab.wire.waiting.append(OSError(errno.EHOSTUNREACH, "no route to host"))
        lab.transfer.readable(lab.now)
        lab.client_sends(Ack(1), Ack(2))
        assert lab.ending == Ending("served")

    def test_a_file_that_shrinks_ends_this_transfer_only(self, tmp_path: Path) -> None:
        path = tmp_path / "k.b00"
        path.write_bytes(NOISE * 4)
        files = Files()
        lab = Lab(files.open(str(path)), blksize=1468)
        path.write_bytes(b"short")
        for block in range(1, 129):
            lab.client_sends(Ack(block))
        assert lab.heard()[-1] == Error(0, "the file changed on the server")
        assert lab.ending.kind == "aborted"
        assert "became shorter" in lab.ending.detail
        files.flush()


class TestWindows:
    def test_a_window_is_one_send(self) -> None:
        lab = Lab(NOISE, blksize=1000, window=16)
        lab.client_sends(Ack(0))
        assert lab.heard()[0] == OptionAck((("blksize", "1000"), ("windowsize", "16")))
        before = lab.wire.sends
        lab.client_sends(Ack(16), Ack(32))
        assert lab.wire.sends - before == 2
        assert lab.blocks() == list(range(17, 49))

    @pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.EMSGSIZE])
    def test_a_device_that_cannot_segment_gets_single_blocks(self, code: int) -> None:
        lab = Lab(NOISE, blksize=1000, window=4)
        lab.wire.refuses_segments = code
        lab.client_sends(Ack(0), Ack(4))
        assert lab.blocks() == [1, 2, 3, 4, 5, 6, 7, 8]
        assert lab.wire.sends == 1 + 8

    def test_small_blocks_leave_the_option_acknowledgement_whole(self) -> None:
        """The kernel would cut an OACK that is longer than a segment."""
        lab = Lab(NOISE, blksize=8, window=4)
        assert lab.heard() == [OptionAck((("blksize", "8"), ("windowsize", "4")))]
        assert lab.wire.segment == 0

    def test_a_lost_middle_block_takes_the_window_back_once(self) -> None:
        lab = Lab(NOISE, blksize=1000, window=4)
        lab.client_sends(Ack(0))
        lab.heard()
        lab.client_sends(Ack(2), Ack(2))  # 3 was lost; 4 made the client say so, twice
        assert lab.blocks() == [3, 4, 5, 6]
        lab.client_sends(Ack(6))
        assert lab.blocks() == [7, 8, 9, 10]

    def test_a_lost_first_block_takes_the_window_back_once(self) -> None:
        lab = Lab(NOISE, blksize=1000, window=4)
        lab.client_sends(Ack(0), Ack(4))
        lab.heard()
        lab.client_sends(Ack(4), Ack(4), Ack(4))
        assert lab.blocks() == [5, 6, 7, 8]

    def test_the_echo_of_a_resent_window_doubles_nothing(self) -> None:
        """A client that acknowledges every copy of a window would otherwise get each window twice for ever."""
        lab = Lab(NOISE, blksize=1000, window=4)
        lab.client_sends(Ack(0))
        lab.time_passes(1.0)  # slow client: the window goes out again, and both copies are acknowledged
        lab.heard()
        lab.client_sends(Ack(4), Ack(4))
        assert lab.blocks() == [5, 6, 7, 8]
        lab.client_sends(Ack(8), Ack(12))
        assert lab.blocks() == list(range(9, 17))

    def test_an_old_ack_does_nothing(self) -> None:
        lab = Lab(NOISE, blksize=1000, window=4)
        lab.client_sends(Ack(0), Ack(4), Ack(8))
        lab.heard()
        lab.client_sends(Ack(3), Ack(7), Ack(0), Ack(65_535))
        assert lab.blocks() == []

    def test_a_timeout_sends_the_window_again(self) -> None:
        lab = Lab(NOISE, blksize=1000, window=4)
        lab.client_sends(Ack(0))
        lab.heard()
        lab.time_passes(MIN_RTO)
        assert lab.blocks() == [1, 2, 3, 4]

    def test_windows_go_on_across_the_rollover(self) -> None:
        lab = Lab(bytes(8) * 65_600, blksize=8, window=7)
        acked = 0
        lab.client_sends(Ack(0))
        while lab.ending is None:
            acked = min(acked + 7, lab.transfer.blocks)
            lab.client_sends(Ack(acked & 0xFFFF))
        assert lab.ending == Ending("served")
        assert lab.blocks() == [n & 0xFFFF for n in range(1, 65_602)]


# Trouble comes in spells with a stretch of good weather behind each: who loses everything for 20 s is given up.
bad_weather = st.tuples(
    st.lists(st.sampled_from(["lost", "arrives", "doubled"]), max_size=5),
    st.lists(st.sampled_from(["arrives", "doubled"]), min_size=12, max_size=30),
).map(lambda spell: [*spell[0], *spell[1]])


@given(
    st.data(),
    st.sampled_from([1, 2, 4, 5, 16]),
    st.sampled_from([64, 512]),
    st.integers(0, 9000),
)
def test_whatever_the_network_loses_or_doubles_the_file_arrives(
    data: st.DataObject, window: int, blksize: int, size: int
) -> None:
    """The client is RFC 7440's: in-order blocks only, an ACK per window and one for each gap."""
    body = NOISE[:size]
    lab = Lab(body, blksize, window)
    fate = iter([fate for spell in data.draw(st.lists(bad_weather, max_size=6)) for fate in spell])

    def network(packets: list[Packet]) -> list[Packet]:
        copies = {"arrives": 1, "lost": 0, "doubled": 2}
        return [p for packet in packets for p in [packet] * copies[next(fate, "arrives")]]

    got, expected, in_window = b"", 1, 0
    for _ in range(5000):
        answers: list[Packet] = []
        for packet in network(lab.heard()):
            if isinstance(packet, OptionAck):
                answers.append(Ack(0))
            elif isinstance(packet, Data) and packet.block == expected:
                got += packet.payload
                in_window += 1
                if len(packet.payload) < blksize or in_window == window:
                    in_window = 0
                    answers.append(Ack(expected))
                expected += 1
            elif isinstance(packet, Data):
                in_window = 0
                answers.append(Ack(expected - 1))
        lab.client_sends(*network(answers))
        if lab.ending is not None:
            break
        if not lab.wire.sent:
            lab.time_passes(0.5)
    assert lab.ending == Ending("served")
    assert got == body
