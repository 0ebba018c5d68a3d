"""A depot written down for the library: its VIBs taken in, its profiles and bulletins, the file of records.

Works in a draft directory that nobody else sees; ``publish`` gives it its name in one step, or replaces what has
that name by replacing ``depot.json``. The caller holds the library's lock.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from midwife.images import shelf
from midwife.images.depot.depot import Depot
from midwife.images.depot.formats.bulletin import write_bulletin
from midwife.images.depot.formats.metadata import MetaVib
from midwife.images.depot.formats.profilexml import write_profile
from midwife.images.depot.formats.records import (
    CONTENT,
    DepotRecord,
    Origin,
    VibRecord,
    content_number,
    write_manifest,
    xml_line,
)
from midwife.images.depot.kept.blobs import Blobs
from midwife.images.depot.kept.intake import Intake, own_platforms
from midwife.images.depot.kept.stored import StoredDepot
from midwife.images.depot.sources.online import OnlineDepot
from midwife.images.disk import fsync_path
from midwife.images.errors import ImageError
from midwife.images.flow import Progress
from midwife.images.objects.package import SoftwarePackage
from midwife.images.vib.descriptor import parse_descriptor, write_descriptor

__all__ = ["Filled", "fill", "fill_online", "publish", "same_content"]

_Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written down: bytes of payloads that were new, that were there already, and of all."""

    new_bytes: int
    shared_bytes: int
    size: int
    vibs: int
    warnings: tuple[str, ...]


def fill(
    depot: Depot,
    draft: Path,
    blobs: Blobs,
    drafts: Path,
    progress: Progress | None = None,
    *,
    anew: bool = False,
    lenient: bool = False,
) -> Filled:
    """Every VIB, with its bytes. ``anew``: those of known payloads too; ``lenient``: see ``Intake``.

    Raises ImageError, and OSError when writing.
    """
    packages = depot.packages
    size = sum(_size(package) for package in packages.values())
    lacking = frozenset(getattr(depot, "missing", ()))  # a bundle may list VIBs that are not in it
    with blobs.writing(drafts, anew=anew) as writer, _content(draft) as write:
        intake = Intake(depot.name, blobs, writer, size, progress, lenient=lenient)
        for vib_id, listed in packages.items():
            if vib_id in lacking:
                write(VibRecord(vib_id, write_descriptor(listed), exact=False, here=False).line())
                continue
            with ExitStack() as stack:
                vib = depot.vib(vib_id)
                if isinstance(vib, AbstractContextManager):
                    stack.enter_context(vib)
                write(intake.vib(vib, listed).line())
        _write_rest(write, depot)
    intake.prove()
    warnings = tuple(dict.fromkeys([*depot.warnings, *intake.warnings]))
    return Filled(writer.written, writer.shared, size, len(packages), warnings)


def fill_online(online: OnlineDepot, draft: Path, before: StoredDepot | None = None) -> Filled:
    """What its metadata list. VIBs that are here ``before`` stay here, if they are the same ones."""
    size = 0
    with _content(draft) as write:
        for vib_id, vib in online.content.packages.items():
            size += _size(vib.package)
            origin = online.origin(vib_id)
            new = VibRecord(vib_id, vib.descriptor, exact=False, here=False, origin=origin)
            carried = None
            with suppress(ImageError):  # what was there is damaged: then it is downloaded again
                carried = _carried(before, vib, origin)
            write((carried or new).line())
        _write_rest(write, online)
    return Filled(0, 0, size, len(online.content.packages), online.warnings)


def publish(draft: Path, target: Path, record: DepotRecord) -> DepotRecord:
    """Give the draft its name; the record as it is on disk. Raises OSError."""
    if not target.exists():
        write_manifest(draft, record)
        shelf.publish(draft, target)
        return record
    old = [path for path in target.iterdir() if content_number(path.name)]
    number = max((content_number(path.name) for path in old), default=0) + 1
    name = CONTENT.replace("1", str(number))
    (draft / CONTENT).rename(target / name)
    fsync_path(target)
    record = replace(record, content=name)
    write_manifest(target, record)  # from here on the new content counts
    for path in old:
        path.unlink()
    return record


def same_content(stored: StoredDepot, depot: Depot) -> bool:
    """Whether a depot says and has what is stored; reads no payloads, only the sums that were signed."""
    if stored.packages.keys() != depot.packages.keys() or _texts(stored) != _texts(depot):
        return False
    lacking = frozenset(getattr(depot, "missing", ()))
    for record in stored.records():
        if record.here == (record.id in lacking):
            return False
        if not record.here:
            continue
        with ExitStack() as stack:
            vib = depot.vib(record.id)
            if isinstance(vib, AbstractContextManager):
                stack.enter_context(vib)
            if (vib.descriptor, vib.signature) != (record.descriptor, record.signature):
                return False
    return True


def _carried(before: StoredDepot | None, vib: MetaVib, origin: Origin) -> VibRecord | None:
    """The record of a VIB that was downloaded and did not change since: the same file, or the same payloads."""
    if before is None or not before.has(vib.package.id):
        return None
    record = before.stored(vib.package.id)
    if not record.here:
        return None
    package = parse_descriptor(record.descriptor).package
    known = record.origin.sha256 if record.origin else None
    if origin.sha256 is not None and known is not None:
        same = origin.sha256 == known
    else:
        same = package.payloads == vib.package.payloads
    platforms = own_platforms(package, vib.package)
    return replace(record, origin=origin, platforms=platforms) if same else None


@contextmanager
def _content(draft: Path) -> Iterator[_Write]:
    """The file of records, durable at the end. Mode 0600: addresses may carry secrets."""
    fd = os.open(draft / CONTENT, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        yield out.write
        out.flush()
        os.fsync(fd)


def _write_rest(write: _Write, depot: Depot) -> None:
    for kind, xml in _texts(depot):
        write(xml_line("profile" if kind == "profile" else "bulletin", xml))


def _texts(depot: Depot) -> list[tuple[str, bytes]]:
    profiles = [("profile", write_profile(profile, payloads=True)) for profile in depot.profiles]
    return profiles + [("bulletin", write_bulletin(bulletin)) for bulletin in depot.bulletins]


def _size(package: SoftwarePackage) -> int:
    return sum(payload.size for payload in package.payloads)
