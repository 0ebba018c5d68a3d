"""``CheckedVib``: a VIB whose payloads are checked against its descriptor while somebody copies them.

One pass over the bytes: they are hashed in a thread (hashlib lets go of the interpreter lock) while the reader
writes them. The last block is only good when the reader has asked for what comes after it.
"""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path

from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import Payload, SoftwarePackage
from midwife.images.vib.archives.payload import check_payload
from midwife.images.vib.content import Vib

__all__ = ["CheckedVib"]

_WAITING = 4
"""Blocks between reader and checker."""


class CheckedVib:
    """A ``Vib``; ``chunks`` raises FormatError at the end of a payload that is not what the descriptor says."""

    def __init__(self, vib: Vib, threads: Executor, passed: Callable[[int], None] | None = None) -> None:
        """``threads``: one for each reader at a time. ``passed`` is told the bytes of each block."""
        self._vib = vib
        self._threads = threads
        self._passed = passed
        self.package: SoftwarePackage = vib.package
        self.descriptor = vib.descriptor
        self.signature = vib.signature
        self.exact = vib.exact
        self.headers = vib.headers

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        """The bytes as stored. Raises ImageError."""
        found = next((one for one in self.package.payloads if one.name == payload), None)
        if found is None:
            raise ImageError(f"{self.package.id} has no payload {payload}")
        passing: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        checking = self._threads.submit(_check, _Passing(self, passing), found)
        try:
            for chunk in self._vib.chunks(payload, block):
                passing.put(chunk)
                if self._passed:
                    self._passed(len(chunk))
                yield chunk
        finally:
            passing.put(None)
            _wait(checking)
        checking.result()

    def path(self, payload: str) -> Path | None:
        """None: a link would pass by the check."""
        return None


class _Passing:
    """The same VIB, for the checker: its one payload comes out of a queue."""

    headers: tuple[bytes, ...] = ()

    def __init__(self, vib: CheckedVib, passing: "queue.Queue[bytes | None]") -> None:
        self.package, self.descriptor, self.signature = vib.package, vib.descriptor, vib.signature
        self.exact = vib.exact
        self._passing = passing
        self._ended = False

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        while not self._ended:
            chunk = self._passing.get()
            if chunk is None:
                self._ended = True
            else:
                yield chunk

    def path(self, payload: str) -> Path | None:
        return None

    def drain(self) -> None:
        for _ in self.chunks(""):
            pass


def _check(vib: _Passing, payload: Payload) -> None:
    try:
        check_payload(vib, payload)
    finally:
        vib.drain()  # or the reader would wait for room for ever


def _wait(checking: "Future[None]") -> None:
    checking.exception()  # waits, and does not raise: an error on the way here says more
