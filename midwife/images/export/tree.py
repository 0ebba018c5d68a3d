"""The netboot tree: an image profile's modules under their 8.3 names, ``imgdb.tgz``, ``boot.cfg`` and loaders.

What mboot loads over TFTP or HTTP, laid out as on ESXi's media. Every byte is checked while it is written, and
a tree that was not finished is gone. Knows nothing of the image library (install.py).
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from midwife.images import shelf
from midwife.images.boot.manifest import Entry
from midwife.images.disk import unwritable, write_all
from midwife.images.errors import ImageError
from midwife.images.export.layout import Layout, lay_out
from midwife.images.export.media import Medium
from midwife.images.flow import Progress
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.content import Vib

__all__ = ["Tree", "fill", "tree_layout", "write_tree"]


KERNELOPT = "runweasel"
"""The installer's word, as on ESXi's media. The service takes it out for a host that runs from memory, and puts
``ks=`` in its place for one that is installed."""

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file until one of them is written to


@dataclass(frozen=True, slots=True)
class Tree:
    """What was written."""

    files: Mapping[str, Entry]
    """By path below the tree."""
    layout: Layout
    warnings: tuple[str, ...]


def write_tree(
    directory: Path,
    resolved: ResolvedProfile,
    vibs: Callable[[str], Vib],
    *,
    kernelopt: str = KERNELOPT,
    loaders_from: Path | None = None,
    progress: Progress | None = None,
) -> Tree:
    """Write a tree to a directory that does not exist yet, or is empty; copies only, no links.

    ``loaders_from``: an installer ISO, or a directory with its files, for loaders that no VIB of the profile
    brings. The directory appears in one step. Raises ImageError, and leaves nothing then.
    """
    parent = directory.resolve().parent
    try:
        if directory.is_symlink() or (
            directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        ):
            raise ImageError(f"{directory} exists already; choose a new directory, or an empty one")
        parent.mkdir(parents=True, exist_ok=True)
        with (
            tree_layout(resolved, vibs, kernelopt, loaders_from) as layout,
            tempfile.TemporaryDirectory(prefix=f".{directory.name}.tmp-", dir=parent) as temporary,
        ):
            draft = Path(temporary) / "tree"
            draft.mkdir()
            files = fill(draft, layout, progress)
            shelf.publish(draft, parent / directory.name)
    except OSError as error:
        raise unwritable(error, directory) from error
    return Tree(files, layout, layout.warnings)


@contextmanager
def tree_layout(
    resolved: ResolvedProfile, vibs: Callable[[str], Vib], kernelopt: str, loaders_from: Path | None
) -> Iterator[Layout]:
    """The files of a netboot tree; a hint among its warnings if there is no loader. Raises ImageError."""
    with ExitStack() as stack:
        medium = stack.enter_context(Medium(loaders_from)) if loaders_from else None
        yield lay_out(resolved, vibs, installer=False, kernelopt=kernelopt, medium=medium)


def fill(
    directory: Path, layout: Layout, progress: Progress | None = None, *, link: bool = False
) -> dict[str, Entry]:
    """Write every file into an empty directory; the sums of what was written. Raises ImageError, OSError.

    ``link``: where a VIB's payload is a file that never changes, share it (clone or hard link) instead of
    copying; its bytes are read and checked all the same.
    """
    entries: dict[str, Entry] = {}
    whole, before = layout.size, 0
    for file in layout.files:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shared = link and file.link is not None and _shared(file.link, target)
        digest = None if file.sha256 else hashlib.sha256()
        done = 0
        with ExitStack() as stack:
            out = None if shared else stack.enter_context(target.open("xb", buffering=0))
            for chunk in file.chunks():
                if out is not None:
                    write_all(out.write, chunk)
                if digest is not None:
                    digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(before + done, whole)
        if done != file.size or (shared and target.stat().st_size != file.size):
            raise ImageError(f"{file.path} changed while it was written; nothing was kept")
        before += done
        entries[file.path] = Entry(done, file.sha256 or (digest.hexdigest() if digest else ""))
    return entries


def _shared(source: Path, target: Path) -> bool:
    """Whether ``target`` now shares the bytes of ``source``: a clone if the file system can, else a link."""
    try:
        with source.open("rb") as original, target.open("xb") as clone:
            fcntl.ioctl(clone, _FICLONE, original.fileno())
            shutil.copymode(source, target)
        return True
    except OSError:
        target.unlink(missing_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
        return True
    except OSError:  # another file system, no more links to this file, or a file system without
        return False
