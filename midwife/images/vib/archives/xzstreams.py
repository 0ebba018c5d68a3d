"""Takes xz off in a stream, 1 MiB at a time.

Since 6.5 the archives of ESXi's own base VIB are packed twice: gzip around xz around vmtar, and a signature for
secure boot follows the xz stream. Source: what others report of ``s.v00`` and its like (cobbler's issue 1742,
programs that read ESXi's disks).
"""

import lzma
from collections.abc import Iterable, Iterator

from midwife.images.errors import FormatError
from midwife.images.flow import BLOCK

__all__ = ["XZ_MAGIC", "unxz"]

XZ_MAGIC = b"\xfd7zXZ\0"
"""How a stream begins."""

_MAX_MEMORY = 128 << 20
"""Bytes for the decoder; ``xz -9`` asks for 65 MiB to read, what VMware packs for less."""


def unxz(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """What is in the first stream; whatever follows it is read and ignored, as it is for gzip and zstd.

    ``what`` names the stream in messages. Raises FormatError for damage, truncation, or a stream that wants
    more memory than any real one.
    """
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_MEMORY)
    source = iter(chunks)
    try:
        while not decoder.eof:
            data = b""
            if decoder.needs_input and not (data := next(source, b"")):
                raise FormatError(f"{what}: the xz stream is truncated")
            if found := decoder.decompress(data, BLOCK):
                yield found
    except lzma.LZMAError as error:
        raise FormatError(f"{what}: damaged xz data: {error}") from None
    for _ in source:
        pass
