"""A file that appears whole, or not at all: written under another name beside it, made durable, renamed.

A full disk, Ctrl-C or an error leaves nothing; ``kill -9`` leaves a ``.tmp-`` file. Knows no format.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from midwife.images.errors import ImageError

__all__ = ["new_file"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Opened for writing and reading; takes the place of ``target`` if the block ends without an error.

    Raises ImageError for every OSError, whoever raised it inside the block.
    """
    try:
        if target.is_dir():
            raise ImageError(f"{target} is a directory; give the name of the file to write")
        descriptor, name = tempfile.mkstemp(prefix=f".tmp-{target.name[:100]}-", dir=target.parent)
        draft = Path(name)
        try:
            with open(descriptor, "w+b") as file:  # noqa: PTH123 - a descriptor
                umask = os.umask(0)
                os.umask(umask)
                os.fchmod(descriptor, 0o666 & ~umask)
                yield file
                file.flush()
                os.fsync(descriptor)
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync_directory(target.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise ImageError(
                f"no room for {target}: {error.strerror}; nothing was kept; make room"
            ) from error
        raise ImageError(f"cannot write {target}: {error.strerror or error}; nothing was kept") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
