"""One process of the service, as the supervisor holds it.

Not asyncio's subprocess: that kills its processes when the event loop ends, and a data plane that is finishing
a transfer must outlive the supervisor.
"""

import asyncio
import contextlib
import signal
import subprocess
import threading
from collections.abc import Sequence

__all__ = ["ChildProcess"]


class ChildProcess:
    """A running child. Its standard input is a pipe from here, which ends when we do, however that happens."""

    def __init__(self, command: Sequence[str], fds: Sequence[int]) -> None:
        """Start it with these descriptors. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._code: asyncio.Future[int] = self._loop.create_future()
        # SIGHUP is blocked until the child is ready for it (the control process lets it through then): a reload
        # in the first second must not kill it, and is not lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                pass_fds=tuple(fds),
                start_new_session=True,  # Ctrl-C and a closed terminal are the supervisor's to handle
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        threading.Thread(target=self._watch, name=f"child {self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit code (negative: the signal that killed it)."""
        return await asyncio.shield(self._code)

    def stop(self) -> None:
        """Ask it to end in order. By its pipe, not by signal: it may have one from systemd already, and a second
        SIGTERM means to the TFTP process that it shall drop its transfers."""
        if self._process.stdin:
            self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _watch(self) -> None:
        # A thread, because pidfd_open is missing before Linux 5.3 (RHEL 8) and SIGCHLD tells less.
        code = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            self._loop.call_soon_threadsafe(self._ended, code)

    def _ended(self, code: int) -> None:
        self.stop()
        if not self._code.done():
            self._code.set_result(code)
