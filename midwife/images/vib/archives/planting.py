"""``Planter``: makes the files of an untrusted archive below one directory, never outside of it.

Every directory on the way is opened without following links, files are made and never overwritten, links come
last. Knows entries of archives, not where they come from.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from midwife.images.disk import write_all
from midwife.images.errors import FormatError, ImageError
from midwife.images.flow import BLOCK
from midwife.images.vib.archives.tarhead import HARD_LINK, TarEntry

__all__ = ["Planter"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 64
_MOST = 1 << 32
"""Bytes in all. A vmtar of 100 KB may give one content a thousand names, and each becomes a file."""


class Planter(AbstractContextManager["Planter"]):
    """Methods raise FormatError for a name that leads outside, ImageError for one that is taken, and OSError."""

    def __init__(self, directory: Path, what: str, *, special_modes: bool = False) -> None:
        """``what`` names the archive in messages; ``directory`` must exist."""
        self._what = what
        self._mask = 0o7777 if special_modes else 0o777
        self._links: list[tuple[tuple[str, ...], TarEntry]] = []
        self._modes: dict[tuple[str, ...], int] = {}
        self._own: set[tuple[str, ...]] = set()  # directories that were made here
        self._left = _MOST
        self.made = 0
        """Entries that are there now."""
        self.skipped: list[str] = []
        """What was left out, in sentences."""
        # The directory itself may be reached through links: the user named it.
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    def file(self, entry: TarEntry, content: Iterable[bytes]) -> None:
        """A file and its content."""
        parts = self._parts(entry.name)
        if not parts:
            raise FormatError(f"{self._what}: {entry.name!r} is a file without a name")
        with self._parent(parts) as parent:
            fd = self._create(parent, parts)
        with os.fdopen(fd, "wb", buffering=0) as out:
            for chunk in content:
                self._left -= len(chunk)
                if self._left < 0:
                    raise FormatError(
                        f"{self._what}: its files have more than {_MOST >> 30} GiB; nothing more of it is unpacked"
                    )
                write_all(out.write, chunk)
            os.fchmod(out.fileno(), entry.mode & self._mask)
            os.utime(out.fileno(), (entry.mtime, entry.mtime))
        self.made += 1

    def copy(self, original: TarEntry, entry: TarEntry) -> None:
        """A file with the content of one that was made before."""
        parts = self._parts(original.name)
        with self._parent(parts) as parent:
            fd = os.open(parts[-1], _OLD, dir_fd=parent)
        with os.fdopen(fd, "rb", buffering=0) as source:
            self.file(entry, iter(lambda: source.read(BLOCK), b""))

    def directory(self, entry: TarEntry) -> None:
        """A directory; its permissions are set at the end, unless it was there before."""
        parts = self._parts(entry.name)
        with self._opened(parts):
            pass
        if parts in self._own:
            self._modes[parts] = entry.mode & self._mask | 0o700  # or nobody could clear it away
        self.made += bool(parts)

    def link(self, entry: TarEntry) -> None:
        """A symbolic or hard link, made at the end: nothing can be written through it."""
        parts = self._parts(entry.name)
        if not parts or not entry.link:
            raise FormatError(f"{self._what}: {entry.name!r} is a link without a name or a target")
        self._links.append((parts, entry))

    def skip(self, entry: TarEntry, reason: str) -> None:
        """Leaves an entry out and says so."""
        self.skipped.append(f"{self._what}: {entry.name!r} {reason}; it was left out")

    def finish(self) -> None:
        """Links, hard ones first, and the directories' permissions, the deepest first."""
        for parts, entry in sorted(self._links, key=lambda link: link[1].kind):
            if entry.kind == HARD_LINK:
                self._hard_link(parts, entry)
            else:
                with self._parent(parts) as parent, self._taken(parts):
                    os.symlink(entry.link, parts[-1], dir_fd=parent)
                self.made += 1
        for parts, mode in sorted(self._modes.items(), key=lambda item: -len(item[0])):
            with self._opened(parts) as fd:
                os.fchmod(fd, mode)

    def _hard_link(self, parts: tuple[str, ...], entry: TarEntry) -> None:
        target = self._parts(entry.link) or (entry.link,)
        try:
            with (
                self._parent(target, make=False) as source,
                self._parent(parts) as parent,
                self._taken(parts),
            ):
                os.link(
                    target[-1], parts[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False
                )  # fmt: skip
        except FileNotFoundError:
            self.skip(entry, f"is a link to {entry.link!r}, which is not in the archive")
        else:
            self.made += 1

    def _parts(self, name: str) -> tuple[str, ...]:
        """A name in pieces; () is the directory itself. Raises FormatError if it leads elsewhere."""
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts or "\0" in name or len(parts) > _DEEPEST:
            raise FormatError(
                f"{self._what}: the name {name[:200]!r} leads out of the archive; this is no honest VIB, "
                "nothing more of it is unpacked"
            )
        return parts

    @contextmanager
    def _parent(self, parts: tuple[str, ...], *, make: bool = True) -> Iterator[int]:
        with self._opened(parts[:-1], make=make) as fd:
            yield fd

    @contextmanager
    def _opened(self, parts: tuple[str, ...], *, make: bool = True) -> Iterator[int]:
        """The directory, opened; made where it is missing."""
        fd = os.dup(self._root)
        try:
            for depth, part in enumerate(parts, 1):
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=fd)
                        self._own.add(parts[:depth])
                try:
                    deeper = os.open(part, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    raise ImageError(
                        f"{self._what}: {'/'.join(parts)!r}: {part!r} should be a directory, but is none"
                    ) from None
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    def _create(self, parent: int, parts: tuple[str, ...]) -> int:
        with self._taken(parts):
            return os.open(parts[-1], _NEW, 0o600, dir_fd=parent)

    @contextmanager
    def _taken(self, parts: tuple[str, ...]) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise ImageError(
                f"{self._what}: {'/'.join(parts)!r} is there already; unpack to an empty directory"
            ) from None
