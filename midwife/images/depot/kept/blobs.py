"""Payloads of VIBs, each stored once under the SHA-256 of its bytes, however many depots have it.

That sum is also the one in a VIB's descriptor: hashing while copying gives the address and is the check. A blob
is durable before it has its name, has mode 0444, and never changes. Knows neither VIBs nor depots; whoever
writes or sweeps holds the library's lock.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Container, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from midwife.images.disk import fsync_path, write_all
from midwife.images.errors import FormatError

__all__ = ["BlobWriter", "Blobs"]

_NAME = re.compile(r"[0-9a-f]{64}")
_BACKLOG = 64
"""Files that wait for the disk: a bound for what is written but not yet durable."""


class Blobs:
    """The directory of blobs: ``ab/abcd…`` by SHA-256."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Where that blob is, if it is there. Raises ValueError for what is no lower-case SHA-256."""
        if not _NAME.fullmatch(sha256):
            raise ValueError(f"{sha256[:80]!r} is not a SHA-256")
        return self.root / sha256[:2] / sha256

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether it is there, with that many bytes; what is no SHA-256 never is."""
        try:
            status = self.path(sha256).stat()
        except (OSError, ValueError):
            return False
        return size is None or status.st_size == size

    def writing(self, drafts: Path, *, anew: bool = False) -> "BlobWriter":
        """For many blobs. ``drafts``: a directory on the same disk for half ones; ``anew``: write all again."""
        return BlobWriter(self, drafts, anew=anew)

    def put(self, chunks: Iterable[bytes], expected: str | None = None) -> str:
        """One blob; its SHA-256. Raises FormatError if it is not the expected one, and OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".tmp-", dir=self.root) as drafts,
            self.writing(Path(drafts)) as writer,
        ):
            return writer.put(chunks, expected)

    def sweep(self, referenced: Container[str]) -> int:
        """Remove every blob that is not referenced, and what is no blob; the bytes that were freed."""
        freed = 0
        if not self.root.is_dir():
            return freed
        for directory in self.root.iterdir():
            if not directory.is_dir() or directory.is_symlink():
                continue
            for path in directory.iterdir():
                if path.name not in referenced or path.name[:2] != directory.name:
                    freed += path.lstat().st_size
                    path.unlink()
            if not any(directory.iterdir()):
                directory.rmdir()
        return freed


class BlobWriter:
    """Writes blobs; they are there for sure when the ``with`` block has ended without an exception.

    One thread hashes and one waits for the disk while the caller reads on, so that an import takes hardly longer
    than hashing alone.
    """

    def __init__(self, blobs: Blobs, drafts: Path, *, anew: bool) -> None:
        self.written = 0
        """Bytes that were new."""
        self.shared = 0
        """Bytes that were there already."""
        self._blobs = blobs
        self._drafts = drafts
        self._anew = anew
        self._mine: set[str] = set()
        self._hashing = ThreadPoolExecutor(1, "blob-hash")
        self._settling = ThreadPoolExecutor(1, "blob-settle")
        self._unsettled: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._settle_all()
        finally:
            self._hashing.shutdown()
            self._settling.shutdown(cancel_futures=True)

    def known(self, sha256: str, size: int | None = None) -> bool:
        """Whether ``put`` need not be asked: it is there, or was put just now. Counts it as shared, then."""
        if sha256 not in self._mine and (self._anew or not self._blobs.has(sha256, size)):
            return False
        self.shared += size or 0
        return True

    def put(self, chunks: Iterable[bytes], expected: str | None = None, size: int | None = None) -> str:
        """Store the bytes; their SHA-256. Raises FormatError if that or the size is not as expected."""
        fd, name = tempfile.mkstemp(dir=self._drafts)
        digest = hashlib.sha256()
        done = 0
        with os.fdopen(fd, "wb", buffering=0) as out:
            hashed: Future[None] | None = None
            for chunk in chunks:
                if hashed is not None:
                    hashed.result()
                hashed = self._hashing.submit(digest.update, chunk)
                done += len(chunk)
                if size is not None and done > size:
                    break  # whoever lies about a size may have no end
                write_all(out.write, chunk)
            if hashed is not None:
                hashed.result()
            os.fchmod(fd, 0o444)
        if size is not None and done != size:
            more = "more than " if done > size else ""
            raise FormatError(f"{more}{min(done, size) if more else done} bytes, but {size} are promised")
        found = digest.hexdigest()
        if expected is not None and found != expected:
            raise FormatError(f"its sha256 is {found}, but {expected} is promised")
        self.written += done
        self._mine.add(found)
        self._unsettled.append(self._settling.submit(_settle, Path(name), self._blobs.path(found)))
        if len(self._unsettled) > _BACKLOG:
            self._unsettled.pop(0).result()
        return found

    def _settle_all(self) -> None:
        for one in self._unsettled:
            one.result()
        for directory in {self._blobs.path(sha256).parent for sha256 in self._mine}:
            fsync_path(directory)
        if self._mine:
            fsync_path(self._blobs.root)


def _settle(draft: Path, target: Path) -> None:
    """Durable first, then its name."""
    fsync_path(draft)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(target)
