"""A logged-in SSH connection (paramiko, RFC 4254): commands with bounded, masked output, and SFTP sessions.

Every wait has an end: a timeout, the connection's death, or the run's cancel, which is noticed within a
fraction of a second. How a connection comes about is ``midwife.customize.connect``'s business.
"""

import contextlib
import io
import selectors
import threading
import time
from collections.abc import Iterator
from typing import Protocol

import paramiko

from midwife.customize.cancel import Cancel
from midwife.customize.capture import Capture, Output
from midwife.customize.errors import ConnectionLost, PermanentError, StepError, StepTimeout
from midwife.customize.masking import Masker

__all__ = ["Connection", "Readable"]

_TICK = 0.2
"""Seconds until a cancel is noticed."""
_LINGER = 1.0
"""Seconds to wait for more output after the exit status: a daemon started in the background may hold the
streams open for ever."""


class Readable(Protocol):
    """What a command's standard input is read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, b"" at the end."""


class Connection:
    """A logged-in connection. One thread uses it; ``close`` may be called by any."""

    def __init__(self, transport: paramiko.Transport, where: str, cancel: Cancel, masker: Masker) -> None:
        self._transport = transport
        self._cancel = cancel
        self._masker = masker
        self._closed = threading.Event()
        self._until = float("inf")
        self.where = where
        watch = threading.Thread(target=self._watch, name=f"ssh-watch {where}", daemon=True)
        watch.start()

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""
        return self._transport.is_active() and not self._closed.is_set()

    def close(self) -> None:
        """Ends it at once; whoever waits on it gets an error."""
        self._closed.set()
        self._transport.close()

    def run(
        self, command: str, *, timeout: float, stdin: bytes | Readable = b"", mask: bool = True
    ) -> Output:
        """Run a command with the host's login shell, ``timeout`` in seconds.

        Output is masked unless ``mask`` is False (for values that are compared and never shown). Raises
        StepTimeout (with what was printed until then), ConnectionLost, Cancelled. The command may go on
        running on the host after StepTimeout and Cancelled: SSH has no way to end it.
        """
        deadline = time.monotonic() + timeout
        streams = Capture(), Capture()
        masker = self._masker if mask else None
        with (
            self.guarded(timeout),
            contextlib.closing(self._transport.open_session(timeout=timeout)) as channel,
        ):
            channel.exec_command(command)
            try:
                self._pump(
                    channel, io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin, streams, deadline
                )
            except TimeoutError:
                said = Output(-1, streams[0].text(masker), streams[1].text(masker)).text
                raise StepTimeout(f"not finished after {timeout:g} s", said) from None
            output = Output(channel.recv_exit_status(), streams[0].text(masker), streams[1].text(masker))
        if output.rc < 0 and self.alive:
            raise StepError("the command was ended by a signal", output.text)
        if output.rc < 0:
            self._cancel.check()
            raise ConnectionLost("the connection broke while the command ran", output.text)
        return output

    @contextlib.contextmanager
    def sftp(self, timeout: float) -> Iterator[paramiko.SFTPClient]:
        """An SFTP session. Raises PermanentError where the server has none; else as ``run`` does."""
        with self.guarded(timeout):
            try:
                client = self._transport.open_sftp_client()
            except (paramiko.SSHException, EOFError) as error:
                if not self.alive:
                    raise
                raise PermanentError(f"{self.where} has no SFTP") from error
            if client is None:
                raise PermanentError(f"{self.where} has no SFTP")
            with contextlib.closing(client):
                yield client
                channel = client.get_channel()
                if channel is not None:
                    channel.shutdown_write()  # at the end of its input, sftp-server exits
                    self._let_server_close(channel)

    @contextlib.contextmanager
    def guarded(self, timeout: float) -> Iterator[None]:
        """Gives whatever is done inside an end (the connection is closed for it) and our exceptions.

        ``OSError`` from a living connection passes: it is an answer of the host's SFTP server.
        """
        self._until = time.monotonic() + timeout + _LINGER + 1
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            self._cancel.check()
            if time.monotonic() >= self._until:
                raise StepTimeout(f"no answer within {timeout:g} s") from None
            if self.alive and isinstance(error, OSError):
                raise
            reason = str(error) or type(error).__name__
            raise ConnectionLost(f"the connection to {self.where} broke: {reason}") from None
        finally:
            self._until = float("inf")

    def _watch(self) -> None:
        """paramiko waits without limit in places (the reply to exec, SFTP); closing it wakes them all."""
        while not self._closed.wait(_TICK) and self._transport.is_active():
            if self._cancel.is_set() or time.monotonic() > self._until:
                self._transport.close()

    def _pump(
        self, channel: paramiko.Channel, stdin: Readable, streams: tuple[Capture, Capture], deadline: float
    ) -> None:
        """Feed and drain until the exit status is there and the streams are at their end."""
        feeding = _Feed(channel, stdin)
        linger_until = float("inf")
        with selectors.DefaultSelector() as selector:
            selector.register(channel, selectors.EVENT_READ)
            while True:
                self._cancel.check()
                # In this order: what is over now has put all its output into the buffers already.
                known = channel.status_event.is_set()
                over = channel.closed or (known and channel.eof_received)
                got = self._drain(channel, streams)
                now = time.monotonic()
                if over:
                    while self._drain(channel, streams):
                        pass
                    self._let_server_close(channel)
                    return
                if known and now > linger_until:
                    return
                if got or not known:
                    linger_until = now + _LINGER
                if now > deadline:
                    raise TimeoutError
                busy = feeding.step()
                if channel.eof_received:
                    # The pipe stays readable from now on; only the status is missing.
                    channel.status_event.wait(_TICK)
                elif not got:
                    selector.select(0.01 if busy else _TICK)

    def _let_server_close(self, channel: paramiko.Channel) -> None:
        """Wait for the server to close a channel that has ended, which it does in the same breath.

        dropbear 2022.83 dies ("Failed assertion (common-channel.c:705): !channel->sent_close") when the client
        closes a channel while it does. OpenSSH does not mind either way.
        """
        limit = time.monotonic() + _LINGER
        while not channel.closed and self.alive and time.monotonic() < limit:
            self._closed.wait(0.002)

    @staticmethod
    def _drain(channel: paramiko.Channel, streams: tuple[Capture, Capture]) -> bool:
        """Take a piece of each stream; False if there was none. One piece only: the loop around it has a
        deadline to look at, however fast the host prints."""
        got = False
        if channel.recv_ready():
            streams[0].add(channel.recv(65536))
            got = True
        if channel.recv_stderr_ready():
            streams[1].add(channel.recv_stderr(65536))
            got = True
        return got


class _Feed:
    """Standard input, sent as the window allows: a command that prints while it reads must not block us."""

    def __init__(self, channel: paramiko.Channel, source: Readable) -> None:
        self._channel = channel
        self._source = source
        self._pending = b""
        self._done = False

    def step(self) -> bool:
        """Send something; True while there is more to send."""
        while not self._done and self._channel.send_ready():
            self._pending = self._pending or self._source.read(32768)
            if self._pending:
                try:
                    self._pending = self._pending[self._channel.send(self._pending) :]
                except OSError:  # the command does not read its input to the end, and may
                    self._done = True
                    return False
                continue
            self._done = True
            self._channel.shutdown_write()
        return not self._done
