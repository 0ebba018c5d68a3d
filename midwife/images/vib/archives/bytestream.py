"""``ByteStream``: exact pieces out of a stream that comes in chunks of any size; reads no further than asked.

For formats whose headers lie between long data: zstd, vmtar, tar.
"""

from collections.abc import Iterable, Iterator

from midwife.images.errors import FormatError

__all__ = ["ByteStream"]


class ByteStream:
    """``position`` counts the bytes that were taken. ``what`` names the stream in messages."""

    def __init__(self, chunks: Iterable[bytes], what: str) -> None:
        self._chunks = iter(chunks)
        self._data = b""
        self._at = 0
        self.what = what
        self.position = 0

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes (few: they are held), without taking them; fewer at the end."""
        there = len(self._data) - self._at
        if there < size:
            parts = [self._data[self._at :]]
            while there < size and (chunk := next(self._chunks, None)) is not None:
                parts.append(chunk)
                there += len(chunk)
            self._data, self._at = b"".join(parts), 0
        return self._data[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes (few: they are held). Raises FormatError if the stream ends before."""
        data = self.peek(size)
        if len(data) < size:
            raise self.truncated()
        self._at += size
        self.position += size
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        """Exactly ``size`` bytes, however many, as they come. Raises FormatError if the stream ends before."""
        while size:
            data = self.some(size)
            if not data:
                raise self.truncated()
            size -= len(data)
            yield data

    def some(self, size: int) -> bytes:
        """What comes next, ``size`` bytes at most; b"" at the end."""
        while self._at == len(self._data):
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._data, self._at = chunk, 0
        data = self._data[self._at : self._at + size]
        self._at += len(data)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        """Leaves out ``size`` bytes. Raises FormatError if the stream ends before."""
        for _ in self.pieces(size):
            pass

    def finish(self) -> None:
        """Reads to the end and forgets it."""
        self._data, self._at = b"", 0
        for _ in self._chunks:
            pass

    def truncated(self) -> FormatError:
        """What is wrong when more is needed than there is."""
        return FormatError(f"{self.what}: truncated: it ends where more should follow")
