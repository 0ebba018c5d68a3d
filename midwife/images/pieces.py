"""The base of every file object that is made of something else: a member of a zip, a file opened for each read.

Whoever derives from ``Piece`` says how bytes at a position are had, and nothing of seeking and buffers.
"""

import errno
import io

__all__ = ["Piece"]


class Piece(io.RawIOBase):
    """Readable and seekable, of a known size. Seeking costs nothing by itself."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "cannot seek before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        wanted = min(len(buffer), self.size - self._at)
        if wanted <= 0:
            return 0
        data = self._piece(self._at, wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _piece(self, at: int, count: int) -> bytes:
        """At least one byte, at most ``count``, from position ``at``."""
        raise NotImplementedError
