"""A source medium: an installer ISO, a folder with its files, or an imported image, to take loaders from.

Image profiles of some depots lack the boot loaders; those of ESXi's own media fit every older release. Names are
lower case. Knows the layout of no image.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from midwife.images.boot.manifest import FILES, MANIFEST
from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK
from midwife.images.names import stored_name

if TYPE_CHECKING:
    from midwife.images.isofs import IsoReader

__all__ = ["Medium"]

_MAX_FILES = 20_000
_MAX_DEPTH = 16


class Medium(AbstractContextManager["Medium"]):
    """The files of an ISO or a directory; ``sizes`` by lower-case name. Raises ImageError only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._iso: IsoReader | None = None
        self._paths: dict[str, Path] = {}
        self._stack = ExitStack()
        if path.is_dir():
            root = path / FILES if (path / MANIFEST).is_file() else path
            self._paths = dict(_listed(root))
            self.sizes = {name: found.lstat().st_size for name, found in self._paths.items()}
        else:
            self._iso = self._stack.enter_context(_reader(path))
            self.sizes = {name: file.size for name, file in self._iso.files.items()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def chunks(self, name: str, block: int = BLOCK) -> Iterator[bytes]:
        """The bytes of a file of ``sizes``; exactly that many, or ImageError."""
        if self._iso is not None:
            yield from self._iso.chunks(self._iso.files[name], block)
            return
        left = self.sizes[name]
        try:
            with _opened(self._paths[name]) as file:
                while left and (data := file.read(min(block, left))):
                    left -= len(data)
                    yield data
        except OSError as error:
            raise ImageError(f"cannot read {self._paths[name]}: {error.strerror}") from None
        if left:
            raise ImageError(f"{self._paths[name]} became shorter while it was read")

    def read(self, name: str, limit: int = 4 << 20) -> bytes:
        """A small file as a whole, b"" if there is none. Raises ImageError for more than ``limit`` bytes."""
        if name not in self.sizes:
            return b""
        if self.sizes[name] > limit:
            raise ImageError(f"{self.path}: {name} has {self.sizes[name]} bytes, more than it may have")
        return b"".join(self.chunks(name))


def _reader(path: Path) -> "IsoReader":
    from midwife.images.isofs import IsoReader  # not above: pycdlib takes its time

    return IsoReader(path)


def _opened(path: Path) -> BinaryIO:
    # What was a file when the directory was listed must not be a link to elsewhere by now.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _listed(root: Path) -> Iterator[tuple[str, Path]]:
    """Regular files below a directory; symbolic links are passed over."""
    count = 0
    for directory, folders, names in os.walk(root):
        parts = Path(directory).relative_to(root).parts
        if len(parts) >= _MAX_DEPTH:
            folders.clear()
        for name in sorted(names):
            path = Path(directory) / name
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue
                stored = "/".join(stored_name(part, plain_9660=False) for part in (*parts, name))
            except OSError as error:
                raise ImageError(f"cannot read {path}: {error.strerror}") from None
            except ImageError:
                continue  # not a name that an installer's medium has
            count += 1
            if count > _MAX_FILES:
                raise ImageError(f"{root} holds more than {_MAX_FILES} files: not an ESXi medium")
            yield stored, path
