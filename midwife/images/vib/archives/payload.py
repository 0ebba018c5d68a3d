"""What is inside payloads: gzip and zstd taken off in a stream, and every kind of checksum over them.

Nothing is held as a whole: bytes pass in blocks of at most 1 MiB. What the unpacked bytes are (vmtar, tar, a
kernel) is not known here. Source: payload types and checksums of real VIBs of ESXi 5.0 to 9.0.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from midwife.images.errors import FormatError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import Checksum, Payload
from midwife.images.vib.archives.zstdframes import unzstd
from midwife.images.vib.content import Vib

__all__ = ["MAX_UNPACKED", "check_payload", "gunzipped", "limited", "preferred_checksum", "unpacked"]

MAX_UNPACKED = 1 << 32
"""Bytes, against bombs: in a vmtar offsets have 32 bits, so no payload unpacks to more than 4 GiB."""

_GZIP = frozenset({"vgz", "tgz", "installer_vgz"})
_PERHAPS_GZIP = "boot"  # the boot loader unpacks it if it is packed
_GZIP_ZSTD = "vzstd"
# Another member of a gzip file, or something else after it (a signature): the method is always deflate.
_MEMBER = b"\x1f\x8b\x08"

_HASHES = {"sha-256": "sha256", "sha-1": "sha1", "sha-512": "sha512", "sha-384": "sha384", "md5": "md5"}
_PREFERENCE = ("sha-256", "sha-512", "sha-384", "sha-1", "md5")
_ONE_LAYER = "-gunzip1"


def unpacked(
    chunks: Iterable[bytes], type: str, limit: int = MAX_UNPACKED, what: str = "the payload"
) -> Iterator[bytes]:
    """The bytes inside, in blocks of 1 MiB at most, by the payload's type; raw types pass as they are.

    ``limit``: unpacked bytes at most. Reads ``chunks`` to their end. Raises FormatError for damage, truncation,
    or more bytes than allowed.
    """
    data: Iterable[bytes] = chunks
    if type == _PERHAPS_GZIP:
        data = _perhaps_gunzipped(chunks, what)
    elif type in _GZIP:
        data = gunzipped(chunks, what)
    elif type == _GZIP_ZSTD:
        data = unzstd(limited(gunzipped(chunks, what), limit, what), what)
    return limited(data, limit, what)


def gunzipped(chunks: Iterable[bytes], what: str = "the payload") -> Iterator[bytes]:
    """One gzip layer taken off, 1 MiB at most at a time; several members are one after the other.

    Other bytes after the last member are read and ignored: boot modules have a signature there.
    Raises FormatError.
    """
    source = iter(chunks)
    rest = b""
    started = False
    while True:
        while len(rest) < len(_MEMBER) and (chunk := next(source, None)) is not None:
            rest += chunk
        if not rest.startswith(_MEMBER):
            break
        started = True
        decoder = zlib.decompressobj(wbits=31)
        while not decoder.eof:
            if not rest:
                chunk = next(source, None)
                if chunk is None:
                    raise FormatError(f"{what}: the gzip stream is truncated")
                rest = chunk
            try:
                data = decoder.decompress(rest, BLOCK)
            except zlib.error as error:
                raise FormatError(f"{what}: damaged gzip data: {error}") from None
            rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            if data:
                yield data
    if not started:
        raise FormatError(f"{what}: does not start like a gzip file")
    for _ in source:
        pass


def _perhaps_gunzipped(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    source = iter(chunks)
    start = b""
    while len(start) < len(_MEMBER) and (chunk := next(source, None)) is not None:
        start += chunk
    # chain, unlike a generator of our own, leaves the source open when it is thrown away
    again = chain([start], source)
    yield from gunzipped(again, what) if start.startswith(_MEMBER) else again


def limited(chunks: Iterable[bytes], limit: int, what: str) -> Iterator[bytes]:
    """The same chunks. Raises FormatError once they are more than ``limit`` bytes."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise FormatError(f"{what}: unpacks to more than {limit:,} bytes; no real one does")
        yield chunk


def preferred_checksum(payload: Payload) -> Checksum | None:
    """The sum that proves it with the least work: over the stored bytes, sha-256 before sha-1.

    If there is none, one over the unpacked bytes; None if there is no sum that can be computed.
    """
    computable = [one for one in payload.checksums if _stage(one, payload.type) is not None]
    return min(
        computable, key=lambda one: (_stage(one, payload.type), _PREFERENCE.index(_hash(one))), default=None
    )


def check_payload(vib: Vib, payload: Payload, *, every: bool = False) -> None:
    """Reads the payload once; its size and ``preferred_checksum`` must be right, with ``every`` all sums.

    Kinds that nobody can compute from the bytes alone (``txt-mle``) are left out. Raises FormatError, which
    names VIB, payload and sum; ImageError if it cannot be read.
    """
    what = f"{vib.package.id}: payload {payload.name}"
    preferred = preferred_checksum(payload)
    wanted = payload.checksums if every else (preferred,) if preferred else ()
    sums = [_Sum.of(one, payload.type) for one in wanted if _stage(one, payload.type) is not None]
    stored = _Stage([one for one in sums if one.stage == 0])
    passed = stored.watch(vib.chunks(payload.name), payload.size)
    damage: FormatError | None = None
    if any(one.stage for one in sums):
        try:
            _drain(_inner(passed, sums, payload.type, what))
        except FormatError as error:
            damage = error  # a wrong sum over the stored bytes says more
    _drain(passed)
    if stored.size != payload.size:
        raise FormatError(f"{what} has {stored.size:,} bytes; the descriptor says {payload.size:,}")
    for one in sorted(sums, key=lambda one: one.stage):
        if damage and one.stage:
            raise damage
        one.check(what)


def _inner(chunks: Iterator[bytes], sums: list["_Sum"], type: str, what: str) -> Iterator[bytes]:
    """The payload unpacked, with every sum of a layer fed on the way."""
    first, whole = (_Stage([one for one in sums if one.stage == stage]) for stage in (1, 2))
    if type == _GZIP_ZSTD:
        outer = first.watch(limited(gunzipped(chunks, what), MAX_UNPACKED, what))
        return whole.watch(limited(unzstd(outer, what), MAX_UNPACKED, what))
    return first.watch(whole.watch(unpacked(chunks, type, what=what)))


def _drain(chunks: Iterable[bytes]) -> None:
    for _ in chunks:
        pass


def _hash(one: Checksum) -> str:
    return one.kind.removesuffix(_ONE_LAYER)


def _stage(one: Checksum, type: str) -> int | None:
    """Over which bytes: 0 as stored, 1 after one gzip layer, 2 unpacked; None if it cannot be computed."""
    packed = type in _GZIP or type in (_PERHAPS_GZIP, _GZIP_ZSTD)
    if _hash(one) not in _HASHES:
        return None
    if one.kind.endswith(_ONE_LAYER):
        return 1 if packed and one.process is None else None
    if one.process is None:
        return 0
    return 2 if packed and one.process == "gunzip" else None


@dataclass
class _Sum:
    """A wanted sum, and the hash that becomes it."""

    checksum: Checksum
    stage: int
    digest: Any

    @classmethod
    def of(cls, one: Checksum, type: str) -> "_Sum":
        """``stage`` as of ``_stage``, which must not be None."""
        stage = _stage(one, type) or 0
        return cls(one, stage, hashlib.new(_HASHES[_hash(one)], usedforsecurity=False))

    def check(self, what: str) -> None:
        found = self.digest.hexdigest()
        if found != self.checksum.value:
            kind = self.checksum.kind + (f" ({self.checksum.process})" if self.checksum.process else "")
            raise FormatError(
                f"{what}: {kind} is {found}, but the descriptor says {self.checksum.value[:128]}: "
                "it is damaged or was changed; get the VIB again"
            )


@dataclass
class _Stage:
    """Bytes that pass are counted and hashed."""

    sums: list[_Sum]
    size: int = field(default=0)

    def watch(self, chunks: Iterable[bytes], most: int = MAX_UNPACKED) -> Iterator[bytes]:
        """The same chunks; none any more when ``size`` is above ``most`` bytes."""
        for chunk in chunks:
            self.size += len(chunk)
            if self.size > most:
                return
            for one in self.sums:
                one.digest.update(chunk)
            yield chunk
