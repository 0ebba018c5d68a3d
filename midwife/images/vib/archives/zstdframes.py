"""Decompresses zstd block by block, so that no input makes more than 128 KiB of output at a time.

The library's own streaming would unpack a few kilobytes of hostile input to gigabytes, or take a truncated
stream for a complete one. Source: RFC 8878 section 3.1 (frame and block headers).
"""

from collections.abc import Iterable, Iterator

import zstandard

from midwife.images.errors import FormatError
from midwife.images.vib.archives.bytestream import ByteStream

__all__ = ["MAX_WINDOW", "ZSTD_MAGIC", "unzstd"]

MAX_WINDOW = 1 << 27
"""Bytes that a frame may look back: what ESXi 9's payloads ask for. They stay in memory."""

_MAGIC = 0xFD2FB528
ZSTD_MAGIC = _MAGIC.to_bytes(4, "little")
"""How a frame begins."""

_SKIPPABLE = 0x184D2A50  # and the fifteen after it
_BLOCK_MAX = 1 << 17
_RLE = 1


def unzstd(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """The decompressed bytes of all frames, 128 KiB at most at a time. Raises FormatError.

    ``what`` names the stream in messages. Other bytes after the last frame are read and ignored, like gzip's.
    """
    stream = ByteStream(chunks, f"{what}: zstd stream")
    started = False
    while True:
        number = int.from_bytes(stream.peek(4), "little")
        if number == _MAGIC:
            yield from _frame(stream)
        elif number & ~0xF == _SKIPPABLE:
            stream.take(4)
            stream.skip(int.from_bytes(stream.take(4), "little"))
        elif started:
            return stream.finish()
        else:
            raise FormatError(f"{what}: does not start like zstd data")
        started = True


def _frame(stream: ByteStream) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    start = stream.take(5)
    size_flag, single, has_sum = start[4] >> 6, start[4] >> 5 & 1, start[4] >> 2 & 1
    dictionary = (0, 1, 2, 4)[start[4] & 3]
    content_size = (single, 2, 4, 8)[size_flag]
    try:
        yield from _some(decoder.decompress(start + stream.take((1 - single) + dictionary + content_size)))
        last = False
        while not last:
            head = stream.take(3)
            number = int.from_bytes(head, "little")
            last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
            if kind == _RLE:
                size = 1  # the number is how often the one byte is repeated; the library checks it
            if size > _BLOCK_MAX:
                raise FormatError(
                    f"{stream.what}: a block of {size:,} bytes; {_BLOCK_MAX:,} at most are allowed"
                )
            yield from _some(decoder.decompress(head + stream.take(size)))
        if has_sum:
            yield from _some(decoder.decompress(stream.take(4)))
    except zstandard.ZstdError as error:
        raise FormatError(f"{stream.what}: damaged: {error}") from None


def _some(data: bytes) -> Iterator[bytes]:
    if data:
        yield data
