"""Child processes whose output is kept line by line and can be waited for.

A virtual machine's serial console, dnsmasq's log and midwife's own log are all read this way: a test waits
for a line and not for time, and when the line does not come the error shows what came instead. Every child
carries the name of its lab in its environment, so that a later run finds what a crashed one left behind.
"""

import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["LAB_VARIABLE", "Child", "WaitError", "descendants_of_lab", "stop_pids"]

LAB_VARIABLE = "MIDWIFE_LAB"
"""Environment variable that marks the processes of a lab."""

_CONTROL = re.compile(r"\x1b(?:\[[0-9;?=]*[ -/]*[@-~]|[@-Z\\-_=>c])|[\x00-\x08\x0b-\x1f\x7f]")
_SHOWN = 30


class WaitError(AssertionError):
    """What a test waited for did not come; the message holds the last lines that did."""


class Child:
    """A running command; its standard output and error, interleaved, go to ``log`` and to ``lines``."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        lab: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Starts it. Raises OSError if the program is not there."""
        self.name = name
        self.log = log
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {}), LAB_VARIABLE: lab},
            cwd=cwd,
            start_new_session=True,  # Ctrl-C at the terminal is for us; we stop the children in order
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def text(self) -> str:
        """Everything it has said so far."""
        with self._changed:
            return "\n".join(self.lines)

    def wait_for(self, pattern: str, deadline: float, *, since: int = 0) -> re.Match[str]:
        """The first line that the regular expression finds something in, seen already or still to come.

        deadline: seconds from now. since: a number of lines to pass over, from ``mark``. Raises WaitError at
        the deadline, and as soon as the process has ended without saying it.
        """
        wanted = re.compile(pattern)
        end = time.monotonic() + deadline
        position = since
        with self._changed:
            while True:
                while position < len(self.lines):
                    if match := wanted.search(self.lines[position]):
                        return match
                    position += 1
                left = end - time.monotonic()
                if self._ended or left <= 0:
                    raise WaitError(self._story(pattern, deadline))
                self._changed.wait(left)

    def mark(self) -> int:
        """The present end of the output, for ``wait_for(…, since=…)``: only what comes after it counts."""
        with self._changed:
            return len(self.lines)

    def wait_end(self, deadline: float) -> int:
        """The exit status, once the process has ended by itself. Raises WaitError."""
        try:
            status = self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise WaitError(self._story("its end", deadline)) from None
        self._reader.join(5)
        return status

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if it is still there."""
        if self.running:
            self._process.send_signal(number)

    def stop(self, grace: float = 5.0) -> None:
        """Ends it: asks, and after ``grace`` seconds insists. Nothing happens if it has ended."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        # A grandchild may still hold the pipe open; its output is then nobody's.
        self._reader.join(1)

    def _read(self) -> None:
        output = self._process.stdout
        assert output is not None
        with output, self.log.open("ab", buffering=0) as log:
            for raw in output:
                log.write(raw)
                line = _CONTROL.sub("", raw.decode(errors="replace").rstrip("\r\n"))
                with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()
        self._process.wait()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _story(self, what: str, deadline: float) -> str:
        status = self._process.poll()
        state = "still runs" if status is None else f"ended with status {status}"
        tail = "\n".join(f"  | {line}" for line in self.lines[-_SHOWN:]) or "  | (it said nothing)"
        head = f"{self.name}: waited up to {deadline:g} s for {what!r}; it {state}."
        return f"{head} Its last lines ({self.log}):\n{tail}"


def descendants_of_lab(lab: str) -> list[int]:
    """The processes that carry this lab's name in their environment, whoever their parent is now."""
    marker = f"{LAB_VARIABLE}={lab}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended, or belongs to somebody else
            continue
        if marker in environment:
            found.append(int(directory.name))
    return [pid for pid in found if pid != os.getpid()]


def stop_pids(pids: Sequence[int]) -> None:
    """Kills processes that are nobody's children of ours, and waits until they are gone."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            _wait_readable(handle, 5.0)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def _wait_readable(handle: int, deadline: float) -> None:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    poller.poll(int(deadline * 1000))
