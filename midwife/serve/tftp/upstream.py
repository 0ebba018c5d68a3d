"""The line to the control process: asks, answers and reports over its Unix socket (``serve.messages``).

Never blocks, and never fails: while the control process is away it tries again with back-off and keeps the
reports that matter. It knows neither TFTP nor what the answers are used for.
"""

import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from select import EPOLLIN, EPOLLOUT

import structlog

from midwife.serve.messages import Ask, Content, Flush, Found, Message, Refused, Report, decode, encode
from midwife.serve.tftp.timers import Alarm, Deadlines

__all__ = ["Upstream"]

FIRST_RETRY = 0.05
LAST_RETRY = 2.0
MAX_LINE = 64 << 20
"""Octets of one answer; a rendered text is far below, and a line without end must not fill the memory."""
MAX_WAITING = 2000
"""Lines kept for a control process that is away or slow."""
_READ = 256 << 10
_SEND = 256 << 10


@dataclass(frozen=True, slots=True)
class _Line:
    data: bytes
    lasting: bool
    """Whether it still means something to a control process that has been restarted."""


class Upstream(Alarm):
    """The connection, with its retry as its alarm.

    ``watch(fd, events)`` and ``unwatch(fd)`` tell the epoll loop; ``on_answer`` gets Found, Content and
    Refused; ``on_flush`` is called for Flush, and for the first word of a control process after a connection
    was lost, because a Flush may have been missed meanwhile; ``on_lost`` when asks will not be answered any
    more.
    """

    def __init__(
        self,
        path: str,
        deadlines: Deadlines,
        watch: Callable[[int, int], None],
        unwatch: Callable[[int], None],
        on_answer: Callable[[Found | Content | Refused], None],
        on_flush: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__()
        self._path = path
        self._deadlines = deadlines
        self._watch = watch
        self._unwatch = unwatch
        self._on_answer = on_answer
        self._on_flush = on_flush
        self._on_lost = on_lost
        self._log = structlog.get_logger().bind(control=path)
        self._sock: socket.socket | None = None
        self._retry = FIRST_RETRY
        self._lost_before = False
        self._complained = False
        self._read = bytearray()
        self._lines: deque[_Line] = deque()
        self._head = 0
        """Bytes of the first line that are already sent."""
        self._blocked = False

    @property
    def connected(self) -> bool:
        """Whether an ask may be answered."""
        return self._sock is not None

    @property
    def idle(self) -> bool:
        """Whether everything was handed to the kernel, or cannot be."""
        return not self._lines or self._sock is None

    def connect(self, now: float) -> None:
        """Try now; on failure again later."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(self._path)
        except OSError as error:
            sock.close()
            if not self._complained:
                self._complained = True
                self._log.warning("control process is away; cached files are still served", error=str(error))
            self._deadlines.arm(self, now + self._retry)
            self._retry = min(self._retry * 2, LAST_RETRY)
            return
        self._sock = sock
        self._watch(sock.fileno(), EPOLLIN)
        self._log.info("connected to the control process")
        self._complained = False

    def expired(self, now: float) -> None:
        """Time for another try."""
        if self._sock is None:
            self.connect(now)

    def ask(self, message: Ask) -> bool:
        """Whether the question could be put; the answer comes to ``on_answer``."""
        if self._sock is None or len(self._lines) >= MAX_WAITING:
            return False
        self._lines.append(_Line(encode(message), lasting=False))
        return True

    def report(self, message: Report) -> None:
        """Tell, now or when the control process is back. With too many waiting the news of progress goes
        first, then the oldest."""
        lasting = message.kind != "progress"
        if (self._sock is None or len(self._lines) >= MAX_WAITING) and not lasting:
            return
        if len(self._lines) >= MAX_WAITING:
            if self._head:
                return  # the oldest is half sent; rather lose the newest than tear a line
            self._lines.popleft()
        self._lines.append(_Line(encode(message), lasting))

    def flush(self, now: float) -> None:
        """Send what waits. Called once per turn of the loop, so that a turn's lines share a system call."""
        while self._lines and self._sock is not None and not self._blocked:
            try:
                sent = self._sock.send(self._batch())
            except BlockingIOError:
                self._blocked = True
                self._watch(self._sock.fileno(), EPOLLIN | EPOLLOUT)
            except OSError as error:
                self._lose(now, str(error))
            else:
                self._forget(sent)

    def ready(self, now: float) -> None:
        """The socket is readable or writable again."""
        sock = self._sock
        if sock is None:
            return
        if self._blocked:
            self._blocked = False
            self._watch(sock.fileno(), EPOLLIN)
        try:
            data = sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(now, str(error))
            return
        if not data:
            self._lose(now, "it closed the connection")
            return
        self._retry = FIRST_RETRY
        self._read += data
        if b"\n" in data:
            self._take_lines(now)
        elif len(self._read) > MAX_LINE:
            self._lose(now, f"it sent a line longer than {MAX_LINE} bytes")

    def close(self) -> None:
        """Hang up for good."""
        self._deadlines.disarm(self)
        if self._sock is not None:
            self._unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _take_lines(self, now: float) -> None:
        *lines, self._read = self._read.split(b"\n")
        for line in lines:
            try:
                message = decode(bytes(line))
            except ValueError:
                # Not the line itself: a rendered answer may hold a secret.
                self._lose(now, f"it sent a line of {len(line)} bytes that is no message")
                return
            if self._lost_before:
                self._lost_before = False
                self._on_flush()
            self._dispatch(message)

    def _dispatch(self, message: Message) -> None:
        match message:
            case Found() | Content() | Refused():
                self._on_answer(message)
            case Flush():
                self._on_flush()
            case Ask() | Report():
                self._log.warning(
                    "the control process sent what only we send", message=type(message).__name__
                )

    def _lose(self, now: float, why: str) -> None:
        self.close()
        self._log.warning("lost the control process; cached files are still served", error=why)
        self._complained = True
        self._lost_before = True
        self._blocked = False
        self._head = 0
        self._read = bytearray()
        self._lines = deque(line for line in self._lines if line.lasting)
        self._deadlines.arm(self, now + self._retry)
        self._retry = min(self._retry * 2, LAST_RETRY)
        self._on_lost()

    def _batch(self) -> bytes:
        parts, size = [], 0
        for line in self._lines:
            parts.append(line.data)
            size += len(line.data)
            if size >= _SEND:
                break
        return b"".join(parts)[self._head :]

    def _forget(self, sent: int) -> None:
        sent += self._head
        while self._lines and sent >= len(self._lines[0].data):
            sent -= len(self._lines.popleft().data)
        self._head = sent
