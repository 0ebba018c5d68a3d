"""What is sent: files and texts, and their packet images.

A packet image is a stretch of a file with the DATA headers (RFC 1350) already in place, so that one block, or
a whole window, is one slice of memory. It is made once for every client that loads the same file with the
same block size: in a boot storm that is nearly always so. It knows nothing of clients or of time.
"""

import os
import stat
from collections import OrderedDict
from typing import Protocol

from midwife.wire.tftp import ErrorCode

__all__ = ["File", "Files", "Images", "Source", "SourceError", "Text"]

BLOCKS_PER_PIECE = 128
"""A multiple of every window that is a power of two, so that such windows are never cut at the end of a
piece."""
BYTES_PER_PIECE = 192 << 10
"""Bounds what one transfer can pin in memory: 4096 hostile transfers, each with a block size of its own, hold
less than 1 GiB."""
MAX_IMAGE_BYTES = 64 << 20
MAX_OPEN_FILES = 512
_ACCOUNTED_AT_LEAST = 4096  # so that very many tiny pieces cannot outgrow the bound by their bookkeeping


class SourceError(Exception):
    """The file is not to be had (any more). ``code`` is for the client; the text is for the log."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.UNDEFINED) -> None:
        super().__init__(text)
        self.code = code


class Source(Protocol):
    """Bytes of a known number."""

    size: int
    shared: bool
    """Whether other clients may get the same bytes; what is rendered for one host is kept for nobody."""

    def fill(self, views: list[memoryview], offset: int) -> None:
        """Read the bytes from ``offset`` on into the views, one after the other. Raises SourceError."""

    def release(self) -> None:
        """The transfer has ended."""


class Text:
    """A rendered answer."""

    __slots__ = ("_body", "shared", "size")

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)
        self.size = len(body)
        self.shared = False

    def fill(self, views: list[memoryview], offset: int) -> None:
        """See Source."""
        for view in views:
            view[:] = self._body[offset : offset + len(view)]
            offset += len(view)

    def release(self) -> None:
        """See Source."""


class File:
    """An open regular file. Its size is what it was when it was opened; a file that shrinks cannot be
    sent."""

    __slots__ = ("_fd", "_stamp", "_users", "path", "shared", "size")

    def __init__(self, path: str) -> None:
        """Raises SourceError. A symbolic link in the last place is not followed: what the resolver checked is
        what is opened. O_NONBLOCK: a named pipe must not hang the server."""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise SourceError(f"{path} is not there", ErrorCode.NOT_FOUND) from None
        except PermissionError:
            raise SourceError(f"{path}: no permission to read it", ErrorCode.ACCESS) from None
        except (OSError, ValueError) as error:
            raise SourceError(f"{path}: {error}") from None
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise SourceError(f"{path} is not a regular file", ErrorCode.ACCESS)
        self.path = path
        self.size = status.st_size
        self.shared = True
        self._stamp = _stamp(status)
        self._users = 1

    def unchanged(self) -> bool:
        """Whether nobody wrote to the file since it was opened."""
        return _stamp(os.fstat(self._fd)) == self._stamp

    def hold(self) -> "File":
        """One more user."""
        self._users += 1
        return self

    def release(self) -> None:
        """One user less; the last one closes the file."""
        self._users -= 1
        if not self._users:
            os.close(self._fd)

    def fill(self, views: list[memoryview], offset: int) -> None:
        """See Source."""
        wanted = sum(map(len, views))
        try:
            got = os.preadv(self._fd, views, offset)
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror} at byte {offset}") from None
        if got != wanted:
            raise SourceError(
                f"{self.path} became shorter while it was sent (bytes {offset} to {offset + wanted} wanted, "
                f"{got} got); write a new file and rename it"
            )
        # The transfers that share this descriptor read at different places, which defeats the kernel's own
        # read-ahead: without this a cold disk stops every transfer at every piece.
        os.posix_fadvise(self._fd, offset + wanted, BYTES_PER_PIECE, os.POSIX_FADV_WILLNEED)


class Files:
    """Open files by path, so that a boot storm opens each of an image's files once."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, File] = OrderedDict()

    def open(self, path: str) -> File:
        """The file, to be released by the caller. Raises SourceError."""
        file = self._open.get(path)
        if file is not None and not file.unchanged():
            del self._open[path]
            file.release()
            file = None
        if file is None:
            file = self._open[path] = File(path)
            if len(self._open) > MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].release()
        self._open.move_to_end(path)
        return file.hold()

    def flush(self) -> None:
        """Close every file that no transfer uses; the next request looks at the disk again."""
        for file in self._open.values():
            file.release()
        self._open.clear()


class Images:
    """Packet images in pieces, the least recently used dropped first."""

    def __init__(self, limit: int = MAX_IMAGE_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._pieces: OrderedDict[tuple[Source, int, int], memoryview] = OrderedDict()

    @property
    def bytes(self) -> int:
        """What is held now, as it is accounted."""
        return self._bytes

    @staticmethod
    def blocks_per_piece(blksize: int) -> int:
        """How many blocks are prepared together."""
        return max(1, min(BLOCKS_PER_PIECE, BYTES_PER_PIECE // (blksize + 4)))

    def piece(self, source: Source, blksize: int, index: int) -> memoryview:
        """The DATA packets of piece ``index``, end to end, each ``blksize + 4`` long but the file's last.

        Raises SourceError.
        """
        key = (source, blksize, index)
        known = self._pieces.get(key)
        if known is not None:
            self._pieces.move_to_end(key)
            return known
        made = _make(source, blksize, index, self.blocks_per_piece(blksize))
        if source.shared:
            self._pieces[key] = made
            self._bytes += _cost(made)
            while self._bytes > self._limit and len(self._pieces) > 1:
                self._bytes -= _cost(self._pieces.popitem(last=False)[1])
        return made

    def flush(self) -> None:
        """Forget everything; running transfers keep the piece they are at."""
        self._pieces.clear()
        self._bytes = 0


def _make(source: Source, blksize: int, index: int, blocks: int) -> memoryview:
    stride = blksize + 4
    first = index * blocks
    offset = first * blksize
    left = source.size - offset
    # The file's last block is always a short one, empty if need be: that is how the client knows the end.
    blocks = min(blocks, left // blksize + 1)
    length = blocks * 4 + min(left, blocks * blksize)
    image = memoryview(bytearray(length))
    for i in range(blocks):
        at = i * stride
        image[at : at + 4] = b"\0\3" + ((first + 1 + i) & 0xFFFF).to_bytes(2, "big")
    payloads = [image[at + 4 : at + stride] for at in range(0, length, stride)]
    source.fill([view for view in payloads if view], offset)
    return image.toreadonly()


def _cost(piece: memoryview) -> int:
    return max(len(piece), _ACCOUNTED_AT_LEAST)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns  # ctime also tells a file that was replaced
