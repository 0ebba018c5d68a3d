"""One client, one file: the sending side of RFC 1350 with windows (RFC 7440); lockstep is a window of one
block.

A transfer is woken by a datagram (``readable``) or by its deadline (``expired``); it never waits. It knows
its connected socket and its source, and neither the network's other clients nor where the file came from.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from midwife.serve.tftp.image import Images, Source, SourceError
from midwife.serve.tftp.timers import MAX_RTO, Alarm, Deadlines, RoundTrip
from midwife.wire.tftp import Ack, Error, ErrorCode, OptionAck, PacketError, Terms, decode, encode

__all__ = ["PATIENCE", "Ending", "Job", "Transfer", "Wire"]

PATIENCE = 20.0
"""Seconds of silence after which a client is given up: six tries at the initial timeout of 1 s
(1+2+4+4+4+4)."""
TRIES = 6
UDP_SEGMENT = 103
"""Linux, linux/udp.h: the kernel cuts one send into datagrams of this size (5 to 8 times cheaper per
packet)."""
_MIN_SEGMENT = 256  # the kernel cuts every send of the socket, so an OACK or ERROR must fit in one segment
_MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS before Linux 6.9
_MAX_SEND = 65000  # less than 65535 minus the headers of IPv6 and UDP
_ABORTS_OF_A_PROBE = (ErrorCode.UNDEFINED, ErrorCode.OPTIONS)


class Wire(Protocol):
    """What a transfer needs of a connected, non-blocking datagram socket."""

    def recv(self, size: int, /) -> bytes:
        """One datagram."""

    def send(self, packet: bytes | memoryview, /) -> int:
        """One datagram, or with UDP_SEGMENT several."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """As the system call."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a transfer went: a kind of ``messages.Report``, and what there is to say about it."""

    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """What is sent, to whom; as it goes into reports."""

    client: str
    name: str
    attempt: str
    source: Source
    terms: Terms


class Transfer(Alarm):
    """The state of one transfer. ``start`` sends the first packet; ``on_end`` is called exactly once."""

    __slots__ = (
        "_base", "_deadlines", "_expected", "_images", "_last", "_on_end", "_per_piece", "_per_send", "_piece",
        "_piece_end", "_piece_start", "_resent", "_sent_at", "_silent_since", "_stride", "_suspect", "_trip",
        "_window", "_wire", "acked", "blocks", "ended", "job", "proven",
    )  # fmt: skip

    def __init__(
        self,
        job: Job,
        wire: Wire,
        images: Images,
        deadlines: Deadlines,
        on_end: Callable[[Ending], None],
    ) -> None:
        super().__init__()
        self.job = job
        self._wire = wire
        self._images = images
        self._deadlines = deadlines
        self._on_end = on_end
        blksize = job.terms.blksize
        self.blocks = job.source.size // blksize + 1
        self.acked = 0
        """Blocks that the client has acknowledged."""
        self.proven = False
        """Whether the client has answered: before, its address may be forged."""
        self.ended = False
        self._trip = RoundTrip(job.terms.timeout)
        self._base = 0
        """First block of the window in flight; 0: the OACK is in flight."""
        self._last = 0
        self._expected = encode(Ack(0))
        self._resent = False
        """Whether this window went out more than once."""
        self._suspect = False
        """Whether the window before it did: then a second ACK of it may be an echo of our own resending."""
        self._sent_at = self._silent_since = 0.0
        self._piece = memoryview(b"")
        self._piece_start = self._piece_end = 0
        """The blocks in the piece in hand, counted from 0; the end is not in it."""
        self._stride = blksize + 4
        self._window = job.terms.windowsize
        self._per_piece = images.blocks_per_piece(blksize)
        self._per_send = 1
        if job.terms.windowsize > 1 and blksize >= _MIN_SEGMENT:
            self._segment(self._stride)

    @property
    def sent(self) -> int:
        """Bytes of the file that the client has acknowledged."""
        return min(self.acked * self.job.terms.blksize, self.job.source.size)

    def silence(self, now: float) -> float:
        """Seconds since the client last moved the transfer on."""
        return now - self._silent_since

    def start(self, now: float) -> None:
        """Send the OACK or, where no option was granted, the first block."""
        self._silent_since = now
        if self.job.terms.granted:
            self._sent_at = now
            self._put(encode(OptionAck(self.job.terms.granted)))
            self._rearm(now)
        else:
            self._send_window(1, now)

    def readable(self, now: float) -> None:
        """One datagram is waiting. Only one is taken, so that a client that floods us has to queue like
        all."""
        try:
            packet = self._wire.recv(2048)
        except BlockingIOError:
            return
        except OSError as error:
            self._network_said(error)
            return
        if packet == self._expected:
            self._advance(now)
        else:
            self._unexpected(packet, now)

    def expired(self, now: float) -> None:
        """Nothing came in time: send what is in flight once more, or give up."""
        if now >= self._silent_since + self._patience():  # the very sum of _rearm: no rounding between them
            self._end("timeout", self._where())
            return
        self._trip.back_off()
        self._resent = True
        self._repeat(now)

    def abort(self, reason: str, code: ErrorCode = ErrorCode.UNDEFINED) -> None:
        """Stop, and tell the client why."""
        self._put(encode(Error(code, reason)))
        self._end("aborted", reason)

    def close(self) -> None:
        """Let go of the file and of the memory; the heap of alarms may still hold this object for a while."""
        self.ended = True
        self._piece = memoryview(b"")
        self._deadlines.disarm(self)
        self.job.source.release()

    def _advance(self, now: float) -> None:
        """All that was in flight has arrived."""
        if not self._resent:
            self._trip.measured(now - self._sent_at)
        self.proven = True
        self._silent_since = now
        self.acked = last = self._last
        if last == self.blocks:
            self._end("served")
            return
        self._suspect = self._resent
        self._resent = False
        self._send_window(last + 1, now)

    def _unexpected(self, packet: bytes, now: float) -> None:
        try:
            said = decode(packet)
        except PacketError:
            return  # the client's own port sent rubbish; the timer goes on
        match said:
            case Error(code, text):
                self._client_said(code, text)
            case Ack(block) if block == self._last & 0xFFFF:  # a client that pads its ACKs
                self._advance(now)
            case Ack(block) if self._base:
                self._partial(block, now)

    def _partial(self, block: int, now: float) -> None:
        """An ACK of less than the window: RFC 7440 section 4 has us go back to the block after it.

        Lockstep ignores it (RFC 1123 section 4.2.3.1, the Sorcerer's Apprentice). A window goes back once: an
        ACK of the window before may be the echo of a packet that we ourselves sent twice, and to answer each
        echo with a window would double all the rest of the transfer.
        """
        done = (block - self._base + 1) & 0xFFFF
        if self._base == self._last or done > self._last - self._base:
            return  # lockstep, or an ACK from long ago
        if done:
            self.proven = True
            self.acked = self._base + done - 1
            self._silent_since = now
            self._resent = True
            self._send_window(self._base + done, now)
        elif not self._resent and not self._suspect:
            self._resent = True
            self._repeat(now)

    def _send_window(self, first: int, now: float) -> None:
        """The next window. The hot path: nearly every packet of the server is sent here."""
        last = first + self._window - 1
        if last > self.blocks:
            last = self.blocks
        self._base = first
        self._last = last
        self._expected = b"\0\4" + (last & 0xFFFF).to_bytes(2, "big")
        self._sent_at = now
        start = self._piece_start
        if not start < first <= last <= self._piece_end or last - first >= self._per_send:
            self._emit(now)
            return
        stride = self._stride
        try:
            self._wire.send(self._piece[(first - start - 1) * stride : (last - start) * stride])
        except OSError as error:
            self._failed(error, now)
            return
        deadline = now + self._trip.rto  # far below the end of patience, which has just begun anew
        if deadline < self.queued:
            self._deadlines.arm(self, deadline)
        else:
            self.deadline = deadline

    def _repeat(self, now: float) -> None:
        if self._base:
            self._emit(now)
        else:
            self._put(encode(OptionAck(self.job.terms.granted)))
            self._rearm(now)

    def _emit(self, now: float) -> None:
        """Send the window in flight, as few sends as the kernel and the pieces allow."""
        stride, per_send = self._stride, self._per_send
        block, end = self._base - 1, self._last
        try:
            while block < end:
                if not self._piece_start <= block < self._piece_end:
                    self._turn_to(block)
                at = block - self._piece_start
                count = min(end - block, self._piece_end - block, per_send)
                self._wire.send(self._piece[at * stride : (at + count) * stride])
                block += count
        except SourceError as error:
            self._put(encode(Error(error.code, "the file changed on the server")))
            self._end("aborted", str(error))
            return
        except OSError as error:
            self._failed(error, now)
            return
        self._rearm(now)

    def _failed(self, error: OSError, now: float) -> None:
        if self._per_send > 1 and error.errno in (errno.EINVAL, errno.EIO, errno.EMSGSIZE):
            self._segment(0)  # no checksum offload on this device, or the path became narrower
            self._emit(now)
            return
        self._network_said(error)
        self._rearm(now)

    def _turn_to(self, block: int) -> None:
        """Make the piece with that block, counted from 0, the one in hand. Raises SourceError."""
        index = block // self._per_piece
        self._piece = self._images.piece(self.job.source, self.job.terms.blksize, index)
        self._piece_start = index * self._per_piece
        self._piece_end = self._piece_start + self._per_piece

    def _rearm(self, now: float) -> None:
        if self.ended:  # the send itself told that the client is gone
            return
        wait = self._trip.rto
        if not self.proven and wait > MAX_RTO:
            wait = MAX_RTO
        when = now + wait
        limit = self._silent_since + self._patience()
        self._deadlines.arm(self, when if when < limit else limit)

    def _patience(self) -> float:
        """A client may ask for a long timeout (RFC 2349), but only one that has proved its address by an
        answer: forged requests must not hold a place for 25 minutes."""
        asked = self.job.terms.timeout
        if asked is None or not self.proven:
            return PATIENCE
        return max(PATIENCE, float(asked * TRIES))

    def _segment(self, size: int) -> None:
        """Have the kernel cut sends into packets of ``size`` bytes; 0 or a kernel that cannot: block by
        block."""
        try:
            self._wire.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        except OSError:
            size = 0
        self._per_send = max(1, min(_MAX_SEGMENTS, _MAX_SEND // size)) if size else 1

    def _put(self, packet: bytes) -> None:
        try:
            self._wire.send(packet)
        except OSError as error:
            self._network_said(error)

    def _network_said(self, error: OSError) -> None:
        """An ICMP error or a full buffer. Only "nobody listens on that port" is the client's own word; the
        rest passes (a switch port that blocks, an ARP entry that is being renewed) and the timer tries
        again."""
        if error.errno != errno.ECONNREFUSED:
            return
        if self._last == self.blocks:
            # The ACK of the last block was lost, and the client closed its port when it had all (RFC 1350
            # section 6 lets it).
            self.acked = self.blocks
            self._end("served", "the client closed its port on the last block")
        else:
            self._end("aborted", "the client closed its port")

    def _client_said(self, code: int, text: str) -> None:
        said = f"error {code}" + (f": {text[:80]}" if text else "")
        if self._base == 0 or (self.acked == 0 and code in _ABORTS_OF_A_PROBE):
            # EDK2 asks for tsize and aborts with error 8 after the OACK, pxelinux aborts files it does not
            # like with error 0 on the first block: they wanted to know the size. Normal.
            self._end("probe", said)
        elif self._last == self.blocks and self._resent and code == ErrorCode.UNKNOWN_TID:
            self.acked = self.blocks  # it forgot this transfer, so it had all of it
            self._end("served", "the client had closed the transfer on the last block")
        else:
            self._end("aborted", said)

    def _where(self) -> str:
        if self._base == 0:
            return "no answer to the option acknowledgement"
        if self._last == self.blocks:
            return "all blocks were sent, the last acknowledgement is missing"
        return f"no acknowledgement of block {self._last} of {self.blocks}"

    def _end(self, kind: str, detail: str = "") -> None:
        if not self.ended:
            self.ended = True
            self._on_end(Ending(kind, detail))
