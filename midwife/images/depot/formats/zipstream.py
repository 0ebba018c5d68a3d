"""A member of a zip as a file that can be read from anywhere, without unpacking it to disk.

``Window`` is a piece of another file, for stored members. ``Inflated`` is a deflated member: it remembers the
state of the decompressor every few MiB, so going back costs little. Neither owns the file below.
"""

import os
import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from midwife.images.errors import FormatError
from midwife.images.flow import BLOCK
from midwife.images.pieces import Piece

__all__ = ["Inflated", "Window"]

_STEP = 4 << 20
"""Inflated bytes between two remembered states; each takes 40 KiB."""
_MOST_STEPS = 256


class Window(Piece):
    """``size`` bytes of ``file`` from ``start``. Raises FormatError where the file ends too early."""

    def __init__(self, file: BinaryIO, start: int, size: int, what: str, lock: threading.Lock) -> None:
        """``lock``: the same for all who seek in ``file``."""
        super().__init__(size)
        self._file, self._start, self._what, self._lock = file, start, what, lock
        self._descriptor: int | None = None
        with suppress(OSError, AttributeError):  # a BytesIO and a member of a zip have none
            self._descriptor = file.fileno()

    def _piece(self, at: int, count: int) -> bytes:
        if self._file.closed:  # its descriptor may belong to another file by now
            raise ValueError(f"{self._what} was closed")
        if self._descriptor is not None:
            data = os.pread(self._descriptor, count, self._start + at)
        else:
            with self._lock:
                self._file.seek(self._start + at)
                data = self._file.read(count)
        if not data:
            raise FormatError(f"{self._what} is cut off: the file ends too early; get it again")
        return data


@dataclass(frozen=True, slots=True)
class _State:
    """Of the decompressor, after ``at`` inflated bytes that came of ``packed`` compressed ones."""

    at: int
    packed: int
    inflater: Any
    crc: int


class Inflated(Piece):
    """What a raw deflate stream holds: ``size`` bytes with that CRC-32. Anything else raises FormatError."""

    def __init__(self, packed: BinaryIO, size: int, crc: int, what: str) -> None:
        super().__init__(size)
        self._packed, self._wanted_crc, self._what = packed, crc, what
        self._step = max(_STEP, size // _MOST_STEPS)
        self._states = [_State(0, 0, zlib.decompressobj(-zlib.MAX_WBITS), 0)]
        self._go_back(self._states[0])

    def _go_back(self, state: _State) -> None:
        self._inflater = state.inflater.copy()
        self._crc = state.crc
        self._packed_at = state.packed
        self._have, self._have_at = b"", state.at

    def _piece(self, at: int, count: int) -> bytes:
        if not self._have_at <= at < self._have_at + len(self._have):
            index = min(at // self._step, len(self._states) - 1)
            if self._states[index].at > at:  # a state is up to a block behind its mark
                index -= 1
            if at < self._have_at or self._states[index].at > self._have_at:
                self._go_back(self._states[index])
        while at >= self._have_at + len(self._have):
            self._forward()
        start = at - self._have_at
        return self._have[start : start + count]

    def _forward(self) -> None:
        """Inflate the next block. CRC and size are checked where the member ends."""
        self._have_at += len(self._have)
        self._have = b""
        if self._have_at >= len(self._states) * self._step:
            self._states.append(_State(self._have_at, self._packed_at, self._inflater.copy(), self._crc))
        try:
            while not self._have:
                self._packed.seek(self._packed_at)
                packed = self._packed.read(BLOCK)
                # Output may still be inside the decompressor when all input is there.
                self._have = self._inflater.decompress(packed, BLOCK)
                self._packed_at += len(packed) - len(self._inflater.unconsumed_tail)
                if not self._have and (self._inflater.eof or not packed):
                    raise FormatError(
                        f"{self._what} is cut off: it should have {self.size:,} bytes; get it again"
                    )
        except zlib.error as error:
            raise FormatError(f"{self._what} is damaged ({error}); get it again") from None
        self._crc = zlib.crc32(self._have, self._crc)
        end = self._have_at + len(self._have)
        if end > self.size:
            raise FormatError(f"{self._what} is longer than the {self.size:,} bytes that the zip says")
        if end == self.size and self._crc != self._wanted_crc:
            raise FormatError(f"{self._what} is damaged: its CRC is wrong; get it again")
