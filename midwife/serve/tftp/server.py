"""The loop of the TFTP process: epoll, deadlines, and an orderly end.

One thread, level-triggered epoll: each turn takes one datagram from each socket that has some, so that a
client that floods us gets its turn like every other. It knows neither packets nor names.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from select import EPOLLIN, epoll
from time import monotonic

import structlog

from midwife.serve.messages import Ask, Report
from midwife.serve.tftp.desk import Desk, Limits
from midwife.serve.tftp.image import Images
from midwife.serve.tftp.journal import Journal
from midwife.serve.tftp.running import Running
from midwife.serve.tftp.sockets import read_request
from midwife.serve.tftp.timers import Alarm, Deadlines
from midwife.serve.tftp.upstream import Upstream

__all__ = ["DRAIN_FOR", "Server"]

DRAIN_FOR = 600.0
"""Seconds that running transfers get to end after the server was told to stop."""
LAST_WORDS_FOR = 1.0
_REQUESTS_PER_TURN = 64
_EVENTS_PER_TURN = 256
_LONGEST_WAIT = 3600.0

Handler = Callable[[float], None]


class _LastCall(Alarm):
    """The end of patience with transfers that outlast the server."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self._action = action

    def expired(self, now: float) -> None:
        """See Alarm."""
        self._action()


class Server:
    """``listeners`` are bound sockets as ``sockets.prepare_listener`` leaves them."""

    def __init__(self, listeners: list[socket.socket], control: str, limits: Limits) -> None:
        self._log = structlog.get_logger()
        self._epoll = epoll()
        self._handlers: dict[int, Handler] = {}
        self._listeners = listeners
        self._deadlines = Deadlines()
        self._images = Images()
        self._journal = Journal(self._report)
        self._running = Running(self._deadlines, self._images, self._journal, self._watch, self._unwatch)
        self._desk = Desk(limits, self._deadlines, self._running, self._journal, self._ask)
        self._upstream = Upstream(
            control,
            self._deadlines,
            watch=self._watch_upstream,
            unwatch=self._unwatch,
            on_answer=self._desk.answered,
            on_flush=self._flush,
            on_lost=self._desk.drop_parked,
        )
        self._last_call = _LastCall(partial(self._running.abort_all, "the server stops"))
        self._stopping = False
        self._signalled = False

    def run(self) -> None:
        """Serve until told to stop, then until the last transfer has ended."""
        for listener in self._listeners:
            self._watch(listener.fileno(), partial(self._requests, listener))
        self._upstream.connect(monotonic())
        deadlines, poll, handlers = self._deadlines, self._epoll.poll, self._handlers
        now = monotonic()
        while not self._stopping or len(self._running):
            wait = deadlines.next - now
            events = poll(
                0.0 if wait < 0.0 else wait if wait < _LONGEST_WAIT else _LONGEST_WAIT, _EVENTS_PER_TURN
            )
            now = monotonic()  # once a turn: 256 events take a few ms, the shortest timeout is 50
            for fd, _ in events:
                handler = handlers.get(fd)
                if handler is not None:
                    try:
                        handler(now)
                    except Exception:
                        self._bug(handler)
            if deadlines.next <= now:
                for alarm in deadlines.due(now):
                    try:
                        alarm.expired(now)
                    except Exception:
                        self._bug(alarm.expired)
            self._upstream.flush(now)
        self._say_last_words()

    def stop_on(self, *signals: signal.Signals) -> None:
        """Stop in order at the first of these signals, at once at the second."""
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.detach())  # makes epoll return; the byte is the signal's number
        for number in signals:
            signal.signal(number, lambda *_: None)

        def signalled(_now: float) -> None:
            with contextlib.suppress(BlockingIOError):
                for number in reading.recv(64):
                    if number in signals and self._signalled:
                        self._running.abort_all("the server stops")
                    elif number in signals:
                        self._signalled = True
                        self.stop(f"signal {signal.Signals(number).name}")

        self._watch(reading.fileno(), signalled)

    def stop_at_end_of(self, fd: int) -> None:
        """Stop in order when this pipe ends: the supervisor closed it, or is gone.

        Raises OSError for what is no pipe.
        """

        def readable(_now: float) -> None:
            if not os.read(fd, 4096):
                self._unwatch(fd)
                self.stop("the supervisor closed the pipe, or is gone")

        self._watch(fd, readable)

    def stop(self, why: str) -> None:
        """Take no more requests; let the running transfers end. Nothing new if it is said again."""
        if self._stopping:
            return
        self._stopping = True
        self._log.info("stopping", reason=why, transfers=len(self._running))
        for listener in self._listeners:
            self._unwatch(listener.fileno())
            listener.close()
        self._desk.drop_parked()
        self._deadlines.arm(self._last_call, monotonic() + DRAIN_FOR)

    def _requests(self, listener: socket.socket, now: float) -> None:
        for _ in range(_REQUESTS_PER_TURN):
            if listener.fileno() < 0:
                return
            try:
                arrival = read_request(listener)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error that belongs to a transfer that is over
                continue
            self._desk.arrived(arrival, now)

    def _bug(self, handler: Handler) -> None:
        """It must not end the transfers of all other hosts: only its own transfer ends, if it has one."""
        self._log.exception("bug in the TFTP server; please report it")
        self._running.abort(getattr(handler, "__self__", None), "internal error")

    def _flush(self) -> None:
        self._desk.flush()
        self._images.flush()

    def _ask(self, message: Ask) -> bool:
        return self._upstream.ask(message)

    def _report(self, message: Report) -> None:
        self._upstream.report(message)

    def _watch(self, fd: int, handler: Handler) -> None:
        self._epoll.register(fd, EPOLLIN)
        self._handlers[fd] = handler

    def _watch_upstream(self, fd: int, events: int) -> None:
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._handlers[fd] = self._upstream.ready

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _say_last_words(self) -> None:
        """The last reports go out before the process ends, if the control process takes them."""
        end = monotonic() + LAST_WORDS_FOR
        while not self._upstream.idle and (now := monotonic()) < end:
            self._upstream.flush(now)
            for fd, _ in self._epoll.poll(0.05, _EVENTS_PER_TURN):
                if fd in self._handlers:
                    self._handlers[fd](monotonic())
        self._upstream.close()
        self._epoll.close()
        self._log.info("stopped")
