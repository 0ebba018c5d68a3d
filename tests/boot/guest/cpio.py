"""Writes initrd archives: cpio in the "newc" form the Linux kernel unpacks (initramfs buffer format,
Documentation/driver-api/early-userspace/buffer-format.rst), compressed with gzip.

Everything belongs to root and has no time, so that the same tree gives the same bytes. Knows nothing of what
is packed.
"""

import gzip
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Entry", "pack", "tree"]

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory (data empty) or symbolic link (data is its target)."""

    mode: int
    """Type and permission bits, as in ``st_mode``."""
    data: bytes = b""

    @classmethod
    def directory(cls, permissions: int = 0o755) -> "Entry":
        return cls(stat.S_IFDIR | permissions)

    @classmethod
    def file(cls, data: bytes, permissions: int = 0o644) -> "Entry":
        return cls(stat.S_IFREG | permissions, data)

    @classmethod
    def link(cls, target: str) -> "Entry":
        return cls(stat.S_IFLNK | 0o777, target.encode())


def tree(root: Path) -> dict[str, Entry]:
    """The files below a directory, by their path inside it; an executable stays one."""
    return {
        str(path.relative_to(root)): Entry.file(
            path.read_bytes(), 0o755 if path.stat().st_mode & 0o100 else 0o644
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def pack(entries: Mapping[str, Entry]) -> bytes:
    """A gzip'd newc archive of the entries, parent directories added, parents before children.

    Padded to four bytes: the archives of one boot are laid end to end, and the kernel expects the next one on
    such a boundary.
    """
    complete = {
        str(parent): Entry.directory()
        for name in entries
        for parent in Path(name).parents
        if str(parent) != "."
    } | dict(entries)
    records = [
        _record(number, name, entry) for number, (name, entry) in enumerate(sorted(complete.items()), start=1)
    ]
    archive = b"".join(records) + _record(0, _TRAILER, Entry(0))
    packed = gzip.compress(archive, compresslevel=6, mtime=0)
    return packed + bytes(-len(packed) % 4)


def _record(inode: int, name: str, entry: Entry) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    return _padded(head) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
