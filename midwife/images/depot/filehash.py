"""SHA-256 of a whole file in a thread of its own, while its parts are read elsewhere. Knows nothing of depots."""

import hashlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from midwife.images.errors import ImageError
from midwife.images.vib.content import BLOCK

__all__ = ["FileHash"]


class FileHash:
    """Hashes from the beginning of the ``with`` block on (hashlib lets go of the interpreter lock)."""

    def __init__(self, path: Path | None) -> None:
        """``path``: None for nothing to hash."""
        self._path = path
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

    def result(self) -> str:
        """Waits for it; hexadecimal, "" for nothing. Raises ImageError."""
        self._thread.join()
        if self._error is not None:
            raise ImageError(f"cannot read {self._path}: {self._error.strerror}") from None
        return self._digest.hexdigest() if self._path else ""

    def _run(self) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("rb", buffering=0) as file:
                while not self._stop and (chunk := file.read(BLOCK)):
                    self._digest.update(chunk)
        except OSError as error:
            self._error = error
