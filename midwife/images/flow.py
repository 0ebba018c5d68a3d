"""How bytes flow here: in blocks, with somebody told how far it is, and hashed aside where a file is read anyway.

No payload is ever held as a whole. Knows no format, and writes nothing (disk.py does).
"""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from midwife.images.errors import ImageError

__all__ = ["BLOCK", "FileHash", "Progress"]

BLOCK = 1 << 20
"""Bytes that are read at a time."""

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class FileHash:
    """SHA-256 of a whole file in a thread of its own, from the beginning of the ``with`` block on.

    hashlib lets go of the interpreter lock, so whoever takes the file apart meanwhile loses little time.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        """``file``: ``path``, opened already by somebody who closes it later; its position stays as it is."""
        self.done = 0
        self._path = path
        self._file = file
        self._digest = hashlib.sha256()
        self._stop = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="file-sha256", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._thread.join()

    def running(self) -> bool:
        """Whether there is more to do; waits a tenth of a second for it, at most."""
        self._thread.join(0.1)
        return self._thread.is_alive()

    def result(self) -> str:
        """Waits for it; hexadecimal. Raises ImageError."""
        self._thread.join()
        if self._error is not None:
            raise ImageError(f"cannot read {self._path}: {self._error.strerror}") from self._error
        return self._digest.hexdigest()

    def _run(self) -> None:
        try:
            if self._file is not None:
                self._hash(self._file.fileno())
            else:
                with self._path.open("rb", buffering=0) as file:
                    self._hash(file.fileno())
        except OSError as error:
            self._error = error

    def _hash(self, fd: int) -> None:
        # pread leaves the position alone that the owner of the descriptor works with
        while not self._stop and (chunk := os.pread(fd, BLOCK, self.done)):
            self._digest.update(chunk)
            self.done += len(chunk)
