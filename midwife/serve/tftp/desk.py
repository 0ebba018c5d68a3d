"""The front desk: takes requests in, finds out what their names stand for, and hands them on.

What the control process called cacheable is answered from memory, so that a boot storm, and a control process
that is away, cost nothing; everything else waits for its answer. It decides nothing about hosts.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from time import monotonic

from midwife.serve.messages import Ask, Content, Found, Refused, split_attempt
from midwife.serve.tftp.image import Files, Source, SourceError, Text
from midwife.serve.tftp.journal import Journal
from midwife.serve.tftp.running import Order, Running
from midwife.serve.tftp.sockets import Address, Arrival
from midwife.serve.tftp.timers import Alarm, Deadlines
from midwife.wire.tftp import (
    Ack,
    Data,
    Error,
    ErrorCode,
    Mode,
    OptionAck,
    PacketError,
    Request,
    decode,
    to_netascii,
)

__all__ = ["Desk", "Limits"]

PARKED_FOR = 5.0
"""Seconds that a request waits for the control process; by then the client has asked again."""
MAX_CACHED_NAMES = 4096
MAX_NETASCII = 1 << 20
"""Octets. Translation changes the length, so the whole file must be read first; boot files are octet."""
_CODES = {404: ErrorCode.NOT_FOUND, 403: ErrorCode.ACCESS}


@dataclass(frozen=True, slots=True)
class Limits:
    """Transfers under way and requests waiting for an answer, together."""

    transfers: int = 4096
    per_client: int = 32


class _Parked(Alarm):
    """A request that waits for its answer."""

    __slots__ = ("_give_up", "number", "order")

    def __init__(self, number: int, order: Order, give_up: "Callable[[_Parked, float], None]") -> None:
        super().__init__()
        self.number = number
        self.order = order
        self._give_up = give_up

    def expired(self, now: float) -> None:
        """No answer came."""
        self._give_up(self, now)


class Desk:
    """``ask`` puts a question to the control process and says whether it could."""

    def __init__(
        self,
        limits: Limits,
        deadlines: Deadlines,
        running: Running,
        journal: Journal,
        ask: Callable[[Ask], bool],
    ) -> None:
        self._limits = limits
        self._deadlines = deadlines
        self._running = running
        self._journal = journal
        self._ask = ask
        self._files = Files()
        self._names: OrderedDict[str, Found] = OrderedDict()
        self._numbers = count(1)
        self._parked: dict[int, _Parked] = {}
        self._parked_from: dict[Address, _Parked] = {}
        self._parked_per_client: Counter[str] = Counter()

    def arrived(self, arrival: Arrival, now: float) -> None:
        """A datagram came to a listening port."""
        if arrival.local is None:
            return  # broadcast or multicast: to be ignored silently (RFC 1123 section 4.2.3.5)
        try:
            packet = decode(arrival.packet)
        except PacketError as error:
            self._journal.malformed(arrival.host, str(error), now)
            return
        match packet:
            case Request():
                attempt, name = split_attempt(packet.name)
                self._requested(Order(arrival, packet, attempt, name), now)
            case Data() | Ack() | Error() | OptionAck():
                kind = type(packet).__name__.upper()
                self._journal.malformed(arrival.host, f"{kind} packet on the port for requests", now)

    def answered(self, outcome: Found | Content | Refused) -> None:
        """The control process answered a question; the client may have stopped waiting."""
        now = monotonic()
        parked = self._parked.get(outcome.id)
        if parked is None:
            return
        self._unpark(parked)
        order = parked.order
        match outcome:
            case Found():
                if outcome.cache:
                    self._names[order.name] = outcome
                    if len(self._names) > MAX_CACHED_NAMES:
                        self._names.popitem(last=False)
                self._serve_file(order, outcome, now)
            case Content():
                self._serve(order, Text(outcome.body), outcome.attempt or order.attempt, now)
            case Refused():
                code = _CODES.get(outcome.status, ErrorCode.UNDEFINED)
                self._running.refuse(order, code, _short(outcome.reason), outcome.reason, now)

    def flush(self) -> None:
        """Forget what names stand for; close files that nobody is loading."""
        self._names.clear()
        self._files.flush()

    def drop_parked(self) -> None:
        """Nobody will answer them; the clients will ask again."""
        for parked in list(self._parked.values()):
            self._unpark(parked)

    def _requested(self, order: Order, now: float) -> None:
        arrival = order.arrival
        waiting = self._parked_from.get(arrival.client)
        if waiting is not None:
            if waiting.order.arrival.packet == arrival.packet:
                return
            self._unpark(waiting)
        if not self._running.makes_way(arrival, now):
            return
        if order.request.write:
            self._running.refuse(order, ErrorCode.ACCESS, "read only", "a write request", now)
        elif order.request.mode == Mode.MAIL:
            self._running.refuse(order, ErrorCode.ILLEGAL, "no mail mode", "transfer mode mail", now)
        elif self._within_limits(order, now):
            found = self._names.get(order.name)
            if found is not None:
                self._serve_file(order, found, now)
            else:
                self._park(order, now)

    def _within_limits(self, order: Order, now: float) -> bool:
        host = order.arrival.host
        if self._running.of(host) + self._parked_per_client[host] >= self._limits.per_client:
            reason = f"{self._limits.per_client} transfers of this client are under way (its limit)"
        elif len(self._running) + len(self._parked) >= self._limits.transfers:
            reason = f"{self._limits.transfers} transfers are under way (the server's limit)"
        else:
            return True
        self._journal.dropped(host, order.name, reason, now, reported=True)
        return False

    def _park(self, order: Order, now: float) -> None:
        arrival = order.arrival
        number = next(self._numbers)
        local = arrival.local[0] if arrival.local else ""
        if not self._ask(Ask(number, "tftp", order.request.name, arrival.host, local)):
            reason = "the control process is away and the name is not cached"
            self._journal.dropped(arrival.host, order.name, reason, now, reported=False)
            return
        parked = _Parked(number, order, self._unanswered)
        self._parked[number] = parked
        self._parked_from[arrival.client] = parked
        self._parked_per_client[arrival.host] += 1
        self._deadlines.arm(parked, now + PARKED_FOR)

    def _unanswered(self, parked: _Parked, now: float) -> None:
        """Silent towards the client, which will ask again."""
        self._unpark(parked)
        reason = f"the control process gave no answer within {PARKED_FOR:g} s"
        self._journal.dropped(parked.order.arrival.host, parked.order.name, reason, now, reported=False)

    def _unpark(self, parked: _Parked) -> None:
        self._deadlines.disarm(parked)
        arrival = parked.order.arrival
        del self._parked[parked.number]
        del self._parked_from[arrival.client]
        self._parked_per_client[arrival.host] -= 1
        if not self._parked_per_client[arrival.host]:
            del self._parked_per_client[arrival.host]

    def _serve_file(self, order: Order, found: Found, now: float) -> None:
        # A cacheable answer may have been given to another attempt: then the name alone says which it is.
        attempt = order.attempt if found.cache else found.attempt or order.attempt
        try:
            source = self._files.open(found.path)
        except SourceError as error:
            self._names.pop(order.name, None)
            self._running.refuse(order, error.code, "cannot be read on the server", str(error), now)
            return
        self._serve(order, source, attempt, now)

    def _serve(self, order: Order, source: Source, attempt: str, now: float) -> None:
        if order.request.mode == Mode.NETASCII:
            try:
                source = _in_netascii(source)
            except SourceError as error:
                self._running.refuse(order, error.code, _short(str(error)), str(error), now)
                return
        self._running.begin(order, source, attempt, now)


def _in_netascii(source: Source) -> Text:
    """The translated text; the source is released in any case. Raises SourceError."""
    try:
        if source.size > MAX_NETASCII:
            raise SourceError(f"netascii only up to {MAX_NETASCII} bytes; ask for octet (binary)")
        body = bytearray(source.size)
        source.fill([memoryview(body)], 0)
        return Text(to_netascii(bytes(body)))
    finally:
        source.release()


def _short(reason: str) -> str:
    """Fit for an ERROR packet: one line, and ASCII, which is what boot ROMs can print."""
    plain = " ".join(reason.split()).encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in plain)[:100]
