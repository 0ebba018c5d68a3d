"""Deadlines and round trips: an exact heap of alarms, and the retransmission timeout of RFC 6298.

An alarm may be moved later for nothing (the common case: every acknowledgement does it); only moving it
earlier costs a push onto the heap. Nothing here reads a clock: the time is an argument.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

__all__ = ["MAX_RTO", "MIN_RTO", "Alarm", "Deadlines", "RoundTrip"]

MIN_RTO = 0.05
"""Seconds. Boot networks are local; RFC 6298's floor of 1 s would make every lost packet cost a second."""
MAX_RTO = 4.0
INITIAL_RTO = 1.0


class Alarm(ABC):
    """Something that wants ``expired(now)`` called at its deadline (seconds of the monotonic clock)."""

    __slots__ = ("deadline", "queued")

    def __init__(self) -> None:
        self.deadline = math.inf
        self.queued = math.inf
        """When the heap will look at this alarm next: never later than the deadline."""

    @abstractmethod
    def expired(self, now: float) -> None:
        """The deadline has passed."""


class Deadlines:
    """All alarms of a process."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = count()

    def arm(self, alarm: Alarm, when: float) -> None:
        """Let the alarm go off at ``when``, whatever was set before."""
        alarm.deadline = when
        if when < alarm.queued:
            alarm.queued = when
            heappush(self._heap, (when, next(self._order), alarm))

    @staticmethod
    def disarm(alarm: Alarm) -> None:
        """Never; the heap forgets the alarm when it comes across it."""
        alarm.deadline = math.inf

    @property
    def next(self) -> float:
        """When something may be due, infinity if nothing is armed."""
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> Iterator[Alarm]:
        """The alarms whose deadline has passed, each once, in order; they are disarmed."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _, alarm = heappop(heap)
            if when != alarm.queued:  # moved earlier meanwhile: another entry stands for it
                continue
            alarm.queued = math.inf
            if alarm.deadline <= now:
                alarm.deadline = math.inf
                yield alarm
            elif alarm.deadline < math.inf:
                self.arm(alarm, alarm.deadline)


class RoundTrip:
    """Retransmission timeout from measured round trips (RFC 6298 section 2, with a floor of 50 ms)."""

    __slots__ = ("_fixed", "_mean", "_spread", "rto")

    def __init__(self, fixed: float | None = None) -> None:
        """``fixed``: the client asked for this timeout (RFC 2349), seconds; nothing is measured then."""
        self._fixed = fixed is not None
        self._mean = -1.0
        self._spread = 0.0
        self.rto = INITIAL_RTO if fixed is None else fixed

    def measured(self, seconds: float) -> None:
        """A round trip of a packet that was sent once (Karn: a resent one says nothing)."""
        if self._fixed:
            return
        if self._mean < 0.0:
            self._mean = seconds
            self._spread = seconds / 2
        else:
            self._spread += (abs(self._mean - seconds) - self._spread) / 4
            self._mean += (seconds - self._mean) / 8
        rto = self._mean + 4 * self._spread
        self.rto = MIN_RTO if rto < MIN_RTO else min(rto, MAX_RTO)

    def back_off(self) -> None:
        """Nothing came: wait twice as long, until a fresh measurement (RFC 6298 section 5.5)."""
        if not self._fixed:
            self.rto = min(self.rto * 2, MAX_RTO)
