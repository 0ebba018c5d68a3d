"""The site's ``bundles/`` directory: files that steps upload. Nothing outside of it is ever read, whatever
``..``, absolute names or symbolic links say."""

import hashlib
import stat
from io import BufferedReader
from pathlib import Path

from midwife.core.plan import BundleError

__all__ = ["BundleFolder"]

_LARGEST_TEXT = 1024 * 1024


class BundleFolder:
    """Implements ``midwife.core.plan.Bundles``. Methods raise BundleError: which path, why."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str) -> BufferedReader:
        """A file for reading."""
        real = self._inside(path)
        try:
            if not stat.S_ISREG(real.stat().st_mode):
                raise BundleError(f"bundles/{path} is not a file")
            return real.open("rb")
        except OSError as error:
            raise BundleError(f"bundles/{path}: {error.strerror}") from None

    def digest(self, path: str) -> str:
        """Hexadecimal sha256 of a file of any size."""
        with self.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def text(self, path: str) -> str:
        """A UTF-8 file of at most 1 MiB (a template)."""
        with self.open(path) as file:
            data = file.read(_LARGEST_TEXT + 1)
        if len(data) > _LARGEST_TEXT:
            raise BundleError(
                f"bundles/{path} is larger than {_LARGEST_TEXT} bytes, too large for a template"
            )
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise BundleError(f"bundles/{path} is not UTF-8 text (byte {error.start})") from None

    def _inside(self, path: str) -> Path:
        try:
            root = self._root.resolve(strict=True)
            real = (root / path).resolve(strict=True)
        except OSError as error:
            raise BundleError(f"bundles/{path}: {error.strerror}") from None
        except (ValueError, RuntimeError):  # a NUL in the name; a loop of symbolic links (Python 3.11, 3.12)
            raise BundleError(f"bundles/{path!r} is not a usable name") from None
        if not real.is_relative_to(root):
            raise BundleError(f"bundles/{path} leads out of the bundles directory; copy the file into it")
        return real
