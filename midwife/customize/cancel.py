"""The word "stop", said by one thread to another. The engine says it; connections, waits and steps listen."""

import threading

from midwife.customize.errors import Cancelled

__all__ = ["Cancel"]


class Cancel(threading.Event):
    """Set once, with a reason. ``final`` tells a person's cancel from the service's own end: only the first
    finishes the run, after the second it is taken up again at the next start."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = ""
        self.final = True

    def stop(self, reason: str, *, final: bool = True) -> None:
        """The first call wins."""
        if not self.is_set():
            self.reason, self.final = reason, final
            self.set()

    def check(self) -> None:
        """Raises Cancelled if the word was said."""
        if self.is_set():
            raise Cancelled(self.reason or "cancelled")

    def pause(self, seconds: float) -> None:
        """Wait; raises Cancelled as soon as the word is said."""
        self.wait(max(0.0, seconds))
        self.check()
