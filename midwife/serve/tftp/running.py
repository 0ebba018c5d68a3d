"""The transfers under way: begins them, counts them per client, reports how they go and how they end.

It knows sockets and sources; what a name stands for was decided elsewhere.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from midwife.serve.tftp.image import Images, Source
from midwife.serve.tftp.journal import Journal
from midwife.serve.tftp.sockets import Address, Arrival, Peer, open_peer
from midwife.serve.tftp.timers import Alarm, Deadlines
from midwife.serve.tftp.transfer import Ending, Job, Transfer
from midwife.wire.tftp import Error, ErrorCode, Request, encode, negotiate

__all__ = ["Order", "Running"]

PROGRESS_EVERY = 0.5
"""Seconds between two progress reports of a transfer, at the least."""
PROGRESS_PER_SECOND = 400
"""Of all transfers together; in a boot storm each reports less often, so that the control process stays
free."""
RESTARTED_AFTER = 1.0
"""Seconds of silence after which the same request from the same port means that the client began again. Boot
ROMs with a fixed source port (Intel's UNDI ROMs ask from port 2070 on) do so after a reset."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request with its address and its name taken apart."""

    arrival: Arrival
    request: Request
    attempt: str
    name: str
    """Without the attempt and without leading slashes: the key of the cache, and the name in reports."""


@dataclass(slots=True)
class _Run:
    order: Order
    transfer: Transfer
    peer: Peer
    began: float
    told: int = field(default=0)
    """Blocks acknowledged at the last progress report."""


class Running(Alarm):
    """Its own alarm is the progress report."""

    def __init__(
        self,
        deadlines: Deadlines,
        images: Images,
        journal: Journal,
        watch: Callable[[int, Callable[[float], None]], None],
        unwatch: Callable[[int], None],
    ) -> None:
        super().__init__()
        self._deadlines = deadlines
        self._images = images
        self._journal = journal
        self._watch = watch
        self._unwatch = unwatch
        self._runs: dict[Address, _Run] = {}
        self._per_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._runs)

    def of(self, host: str) -> int:
        """How many transfers a client has under way."""
        return self._per_client[host]

    def makes_way(self, arrival: Arrival, now: float) -> bool:
        """Whether a request may begin, as far as an earlier one from the same address and port is concerned.

        A repeated request is the client's retransmission: our timer answers it. Another request from the same
        port, or the same after silence, means that the client has forgotten the first.
        """
        run = self._runs.get(arrival.client)
        if run is None:
            return True
        transfer = run.transfer
        repeated = arrival.packet == run.order.arrival.packet
        if repeated and not (transfer.proven and transfer.silence(now) >= RESTARTED_AFTER):
            return False
        # Without an ERROR packet: it would go to the port that the client now uses for the new transfer.
        self._ended(arrival.client, Ending("aborted", "the client began another request from the same port"))
        return True

    def begin(self, order: Order, source: Source, attempt: str, now: float) -> None:
        """Start sending. The source is the transfer's from here on."""
        arrival = order.arrival
        peer = self._open(order, now)
        if peer is None:
            source.release()
            return
        terms = negotiate(order.request.options, source.size, peer.max_blksize)
        job = Job(arrival.host, order.name, attempt, source, terms)
        on_end = partial(self._ended, arrival.client)
        transfer = Transfer(job, peer.sock, self._images, self._deadlines, on_end)
        self._runs[arrival.client] = _Run(order, transfer, peer, now)
        self._per_client[arrival.host] += 1
        self._watch(peer.sock.fileno(), transfer.readable)
        detail = " ".join(f"{name}={value}" for name, value in terms.granted)
        self._journal.report(
            "started", arrival.host, name=order.name, attempt=attempt, size=source.size, detail=detail
        )
        if len(self._runs) == 1:
            self._deadlines.arm(self, now + PROGRESS_EVERY)
        transfer.start(now)

    def refuse(self, order: Order, code: ErrorCode, text: str, reason: str, now: float) -> None:
        """Answer with an ERROR: ``text`` for the client, ``reason`` for the log and the control process."""
        peer = self._open(order, now)
        if peer is not None:
            try:
                peer.sock.send(encode(Error(code, text)))
            except OSError as error:
                reason = f"{reason} (and the client could not be told: {error.strerror})"
            finally:
                peer.sock.close()
        self._journal.refused(order.arrival.host, order.name, order.attempt, reason, now)

    def expired(self, now: float) -> None:
        """Report the progress of those that made some."""
        for run in self._runs.values():
            transfer = run.transfer
            if transfer.acked == run.told:
                continue
            run.told = transfer.acked
            job = transfer.job
            self._journal.report(
                "progress", job.client, name=job.name, attempt=job.attempt,
                sent=transfer.sent, size=job.source.size, seconds=now - run.began,
            )  # fmt: skip
        if self._runs:
            self._deadlines.arm(self, now + max(PROGRESS_EVERY, len(self._runs) / PROGRESS_PER_SECOND))

    def abort_all(self, reason: str) -> None:
        """The server ends, or a bug must not spread."""
        for run in list(self._runs.values()):
            run.transfer.abort(reason)

    def abort(self, transfer: object, reason: str) -> None:
        """Stop this one, if it is a transfer at all and under way."""
        if isinstance(transfer, Transfer) and not transfer.ended:
            transfer.abort(reason)

    def _open(self, order: Order, now: float) -> Peer | None:
        arrival = order.arrival
        if arrival.local is None:
            return None
        try:
            return open_peer(arrival.local, arrival.client)
        except (OSError, OverflowError) as error:
            reason = f"no socket to answer from: {error}"
            self._journal.dropped(arrival.host, order.name, reason, now, reported=True)
            return None

    def _ended(self, client: Address, ending: Ending) -> None:
        run = self._runs.pop(client)
        transfer, job = run.transfer, run.transfer.job
        self._unwatch(run.peer.sock.fileno())
        run.peer.sock.close()
        self._per_client[job.client] -= 1
        if not self._per_client[job.client]:
            del self._per_client[job.client]
        seconds = monotonic() - run.began
        self._journal.ended(job, ending, transfer.sent, seconds)
        transfer.close()
