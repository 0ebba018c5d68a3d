"""The small parts: alarms, round trips, packet images, open files, the quiet log, sockets."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.serve.quiet import Quiet
from midwife.serve.tftp.image import Files, Images, SourceError, Text
from midwife.serve.tftp.sockets import open_peer, prepare_listener, read_request
from midwife.serve.tftp.timers import MAX_RTO, MIN_RTO, Alarm, Deadlines, RoundTrip
from midwife.serve.tftp.transfer import UDP_SEGMENT, Ending, Job, Transfer
from midwife.wire.tftp import Ack, Data, Terms, decode, encode


class Bell(Alarm):
    def __init__(self) -> None:
        super().__init__()
        self.rang: list[float] = []

    def expired(self, now: float) -> None:
        self.rang.append(now)


def ring(deadlines: Deadlines, now: float) -> None:
    for alarm in deadlines.due(now):
        alarm.expired(now)


class TestDeadlines:
    def test_an_alarm_moved_later_rings_once_and_then(self) -> None:
        deadlines, bell = Deadlines(), Bell()
        for when in (1.0, 2.0, 3.0):
            deadlines.arm(bell, when)
        ring(deadlines, 2.9)
        assert bell.rang == []
        ring(deadlines, 3.0)
        assert bell.rang == [3.0]
        assert deadlines.next == float("inf")

    def test_an_alarm_moved_earlier_rings_then(self) -> None:
        deadlines, bell = Deadlines(), Bell()
        deadlines.arm(bell, 5.0)
        deadlines.arm(bell, 1.0)
        ring(deadlines, 1.0)
        ring(deadlines, 6.0)
        assert bell.rang == [1.0]

    def test_a_disarmed_alarm_is_silent(self) -> None:
        deadlines, bell = Deadlines(), Bell()
        deadlines.arm(bell, 1.0)
        deadlines.disarm(bell)
        ring(deadlines, 2.0)
        assert bell.rang == []

    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50)), max_size=60))
    def test_each_rings_at_its_latest_word_and_never_late(self, words: list[tuple[int, int]]) -> None:
        deadlines, bells = Deadlines(), [Bell() for _ in range(5)]
        for which, when in words:
            deadlines.arm(bells[which], float(when))
        for now in range(51):
            ring(deadlines, float(now))
        latest = dict(words)
        assert [bell.rang for bell in bells] == [[float(latest[i])] if i in latest else [] for i in range(5)]


class TestRoundTrip:
    def test_a_local_network_gets_the_floor(self) -> None:
        trip = RoundTrip()
        assert trip.rto == 1.0
        for _ in range(20):
            trip.measured(0.0003)
        assert trip.rto == MIN_RTO

    def test_rfc_6298_by_hand(self) -> None:
        trip = RoundTrip()
        trip.measured(0.1)
        assert trip.rto == pytest.approx(0.1 + 4 * 0.05)
        trip.measured(0.2)
        assert trip.rto == pytest.approx(0.1125 + 4 * (0.75 * 0.05 + 0.25 * 0.1))

    def test_backs_off_to_four_seconds(self) -> None:
        trip = RoundTrip()
        for _ in range(10):
            trip.back_off()
        assert trip.rto == MAX_RTO

    @given(st.lists(st.floats(0, 1e6), max_size=30))
    def test_stays_within_its_bounds(self, samples: list[float]) -> None:
        trip = RoundTrip()
        for sample in samples:
            trip.measured(sample)
            assert MIN_RTO <= trip.rto <= MAX_RTO


class TestImages:
    @given(st.binary(max_size=5000), st.sampled_from([8, 100, 512, 1468, 65464]))
    def test_are_the_data_packets_of_the_file(self, body: bytes, blksize: int) -> None:
        images, source, stride = Images(), Text(body), blksize + 4
        blocks = len(body) // blksize + 1
        packets = []
        for index in range(-(-blocks // images.blocks_per_piece(blksize))):
            piece = bytes(images.piece(source, blksize, index))
            packets += [decode(piece[at : at + stride]) for at in range(0, len(piece), stride)]
        assert packets == [Data(n + 1, body[n * blksize : (n + 1) * blksize]) for n in range(blocks)]

    def test_are_made_once_for_all(self, tmp_path: Path) -> None:
        (tmp_path / "k.b00").write_bytes(b"x" * 5000)
        files, images = Files(), Images()
        one, other = (files.open(str(tmp_path / "k.b00")) for _ in range(2))
        assert images.piece(one, 512, 0) is images.piece(other, 512, 0)

    def test_stay_within_their_bound_and_the_oldest_goes_first(self, tmp_path: Path) -> None:
        (tmp_path / "k.b00").write_bytes(b"x" * (1 << 20))
        file, images = Files().open(str(tmp_path / "k.b00")), Images(limit=300_000)
        first = images.piece(file, 512, 0)
        for index in range(1, 12):
            images.piece(file, 512, index)
            images.piece(file, 512, index - 1)
            assert images.bytes <= 300_000
        assert images.piece(file, 512, 0) is not first
        images.flush()
        assert images.bytes == 0

    def test_of_rendered_texts_are_not_kept(self) -> None:
        images = Images()
        images.piece(Text(b"rootpw secret"), 512, 0)
        assert images.bytes == 0


class TestFiles:
    def test_a_file_that_was_replaced_is_opened_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "k.b00"
        path.write_bytes(b"old")
        files = Files()
        old = files.open(str(path))
        (tmp_path / "new").write_bytes(b"newer")
        (tmp_path / "new").rename(path)
        new = files.open(str(path))
        assert (old.size, new.size) == (3, 5)
        buffer = bytearray(3)
        old.fill([memoryview(buffer)], 0)
        assert buffer == b"old", "the transfer that has it goes on with it"

    def test_a_symbolic_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/etc/hostname")
        with pytest.raises(SourceError):
            Files().open(str(tmp_path / "link"))

    def test_a_name_with_a_nul_is_no_file(self) -> None:
        with pytest.raises(SourceError):
            Files().open("k\0b00")


class TestQuiet:
    def test_speaks_once_a_period_and_counts_what_it_held_back(self) -> None:
        quiet = Quiet(10)
        assert [quiet.may_speak(t, "a") for t in (100, 101, 109)] == [0, None, None]
        assert quiet.may_speak(109, "b") == 0
        assert quiet.may_speak(110, "a") == 2

    def test_forged_addresses_do_not_fill_the_log(self) -> None:
        quiet = Quiet(10, most=100)
        spoken = [quiet.may_speak(100.0, f"192.0.2.{n}") for n in range(5000)]
        assert sum(held is not None for held in spoken) == 100


class TestSockets:
    @pytest.fixture
    def listener(self):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", 0))
        yield sock
        sock.close()

    def test_a_request_from_before_the_restart_still_has_its_address(self, listener: socket.socket) -> None:
        """The supervisor holds the port while this process is restarted; packets queue up without PKTINFO."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"early", ("127.0.0.2", listener.getsockname()[1]))
            ours = prepare_listener(listener.dup().detach())
            try:
                arrival = read_request(ours)
            finally:
                ours.close()
            assert arrival.local == ("127.0.0.2", 0)

    def test_a_broadcast_request_is_nobodys(self, listener: socket.socket) -> None:
        """RFC 1123 section 4.2.3.5."""
        ours = prepare_listener(listener.dup().detach())
        with ours, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.sendto(b"all", ("127.255.255.255", listener.getsockname()[1]))
            assert read_request(ours).local is None

    def test_a_peer_hears_its_client_only(self) -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        ):
            client.bind(("127.0.0.1", 0))
            stranger.bind(("127.0.0.1", 0))
            peer = open_peer(("127.0.0.5", 0), client.getsockname())
            with peer.sock:
                stranger.sendto(b"stranger", peer.sock.getsockname())
                client.sendto(b"client", peer.sock.getsockname())
                assert peer.sock.recv(100) == b"client"
                assert peer.sock.getsockname()[0] == "127.0.0.5"


def gso_works() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1472)
        except OSError:
            return False
        return True


class CountingSocket:
    """A real socket that counts its sends."""

    def __init__(self, sock: socket.socket) -> None:
        self.sends = 0
        self.recv = sock.recv
        self.setsockopt = sock.setsockopt
        self._send = sock.send

    def send(self, packet: bytes | memoryview) -> int:
        self.sends += 1
        return self._send(packet)


@pytest.mark.skipif(not gso_works(), reason="this kernel has no UDP_SEGMENT (generic segmentation offload)")
def test_a_window_is_one_system_call_and_many_datagrams() -> None:
    body = bytes(range(256)) * 400
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(10)
        peer = open_peer(("127.0.0.1", 0), client.getsockname())
        with peer.sock:
            wire, endings = CountingSocket(peer.sock), []
            terms = Terms(1468, 16, granted=(("blksize", "1468"), ("windowsize", "16")))
            job = Job("127.0.0.1", "s.v00", "", Text(body), terms)
            transfer = Transfer(job, wire, Images(), Deadlines(), endings.append)
            transfer.start(0.0)
            client.recv(2000)
            got, windows, block = b"", 0, 0
            while not endings:
                client.sendto(encode(Ack(block)), peer.sock.getsockname())
                transfer.readable(0.0)
                if endings:
                    break
                windows += 1
                for _ in range(min(16, len(body) // 1468 + 1 - block)):
                    packet = decode(client.recv(2000))
                    got += packet.payload
                    block += 1
                    assert packet.block == block
    assert got == body
    assert endings == [Ending("served")]
    assert wire.sends == 1 + windows
