"""The depot library below ``<data>/depots``: what was added, each depot under one name, each payload stored once.

One process changes it at a time, readers never wait. A depot is there as a whole or not at all: ``kill -9`` in the
middle leaves drafts and blobs that nobody refers to, and the next change clears them away. Knows nothing of sites.
"""

import difflib
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from midwife.images import shelf
from midwife.images.depot.depot import Depot
from midwife.images.depot.formats.records import (
    MANIFEST,
    OWNER,
    DepotRecord,
    Kind,
    append_line,
    read_manifest,
)
from midwife.images.depot.kept.blobs import Blobs
from midwife.images.depot.kept.filling import Filled, fill, fill_online, publish, same_content
from midwife.images.depot.kept.intake import Intake
from midwife.images.depot.kept.stored import StoredDepot
from midwife.images.depot.sources.asking import Patience
from midwife.images.depot.sources.fetch import Fetcher
from midwife.images.depot.sources.online import OnlineDepot, download_vib
from midwife.images.depot.sources.opening import (
    check_depot_name,
    default_depot_name,
    kind_of,
    local_path,
    open_depot,
)
from midwife.images.depot.sources.unpacked import unpacked_index
from midwife.images.depot.sources.urls import shown_url
from midwife.images.disk import LARGER_DISK, check_space, fsync_path, unwritable
from midwife.images.errors import ImageError
from midwife.images.flow import FileHash, Progress
from midwife.images.vib.descriptor import parse_descriptor

__all__ = ["AddReport", "DepotLibrary"]

_UNFINISHED = ".unfinished"
_DOWNLOADS = ".downloads"
_CACHE = "cache"
_PATIENCE = 120.0
"""Seconds that a download waits for the right to change the library: an import may be running."""
_STALE = 7 * 24 * 3600
"""Seconds after which a download that nobody continued is thrown away."""


Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AddReport:
    """What ``add`` or ``refresh`` did. ``already``: the same content was there, and nothing was changed."""

    record: DepotRecord
    already: bool = False
    new_bytes: int = 0
    """Of payloads that no depot had before."""
    shared_bytes: int = 0
    """Of payloads that were in the library."""


class DepotLibrary:
    """The depots of one data directory. Every method raises ImageError only."""

    def __init__(self, data_dir: Path, patience: Patience | None = None, tell: Tell | None = None) -> None:
        """``patience``: with web servers. ``tell`` gets warnings; they are logged without it."""
        self.root = data_dir / "depots"
        self.blobs = Blobs(self.root / "blobs")
        self._patience = patience or Patience()
        self._tell = tell or (lambda text: structlog.get_logger().warning("depot.library", reason=text))

    def names(self) -> tuple[str, ...]:
        """All depots, sorted; one that turns out to be broken is among them."""
        try:
            if not self.root.is_dir():
                return ()
            found = [entry.name for entry in self.root.iterdir() if (entry / MANIFEST).is_file()]
        except OSError as error:
            raise ImageError(f"cannot read {self.root}: {error.strerror}; {OWNER}") from None
        return tuple(sorted(name for name in found if not name.startswith(".")))

    def get(self, name: str) -> StoredDepot:
        """A depot as it is now."""
        self._check_known(name)
        record = read_manifest(self.root / name)
        bring = partial(self._bring, name) if record.kind == "online" else None
        return StoredDepot(self.root / name, record, self.blobs, bring)

    def all(self) -> tuple[StoredDepot, ...]:
        """Every depot that can be read, sorted by name; the others are told."""
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except ImageError as error:
                self._tell(str(error))
        return tuple(found)

    def add(
        self,
        source: str,
        name: str | None = None,
        progress: Progress | None = None,
        *,
        replace: bool = False,
        download: bool = False,
    ) -> AddReport:
        """Add an offline bundle, a .vib, a folder of them, an installer ISO, an image database, or an address.

        ``replace``: instead of a depot of that name, every byte read and written anew. ``download``: all VIBs of
        an online depot at once. After damage, a full disk or Ctrl-C nothing is kept.
        """
        name = check_depot_name(name or default_depot_name(source))
        kind = kind_of(source)
        with self._changing():
            known = self.get(name) if name in self.names() and not replace else None
            if kind == "online":
                if known is not None:
                    _check_same(known, known.record.url == source)
                    report = AddReport(known.record, already=True)
                else:
                    report = self._take_online(name, source, progress)
            else:
                with open_depot(source) as depot:
                    if known is not None:
                        _check_same(known, same_content(known, depot))
                        return AddReport(known.record, already=True)
                    report = self._take(name, kind, source, depot, progress, anew=replace)
        if download and kind == "online":
            self.download(name, progress=progress)
        return report

    def refresh(self, name: str, progress: Progress | None = None) -> AddReport:
        """Ask an online depot what is new. VIBs that were downloaded stay, if they are the same."""
        with self._changing():
            record = self.get(name).record
            if record.kind != "online":
                raise ImageError(
                    f"depot {name} came from {record.source}, not from a web server; "
                    f"`midwife depot add SOURCE --name {name} --replace` reads it again"
                )
            return self._take_online(name, record.url, progress)

    def download(
        self, name: str, vib_ids: Collection[str] = (), progress: Progress | None = None
    ) -> tuple[str, ...]:
        """Bring VIBs of an online depot here, all by default; the ids of those that were not here."""
        depot = self.get(name)
        if depot.record.kind != "online":
            raise ImageError(f"depot {name} is no online depot: all that it has is here")
        wanted = [depot.stored(vib_id) for vib_id in vib_ids] if vib_ids else depot.records()
        sizes = {
            record.id: (record.origin.size or 0) if record.origin else 0
            for record in wanted
            if not record.here
        }
        total, done = sum(sizes.values()), 0
        for vib_id, size in sizes.items():
            self._bring(name, vib_id, _shifted(progress, done, total))
            done += size
        return tuple(sizes)

    def remove(self, name: str) -> int:
        """Take a depot out, and every payload that no other one has; the bytes that were freed."""
        with self._changing():
            self._check_known(name)
            shelf.discard(self.root / name)
            return self._sweep() or 0

    def _take(
        self, name: str, kind: Kind, source: str, depot: Depot, progress: Progress | None, *, anew: bool
    ) -> AddReport:
        bare = kind == "imgdb"  # it has no payload to read anew, or to need room for
        if not bare:
            self._check_space(depot, anew=anew)
        path = local_path(source)
        one_file = path.is_file() and not unpacked_index(path)
        with (
            FileHash(path) if one_file else nullcontext() as whole,
            shelf.draft_directory(self.root) as drafts,
            shelf.draft_directory(self.root) as draft,
        ):
            lenient = bare or kind == "iso"
            filled = fill(depot, draft, self.blobs, drafts, progress, anew=anew and not bare, lenient=lenient)
            place = str(path.absolute())  # as it was given means nothing in another directory
            record = _record(name, kind, place, depot, filled, sha256=whole.result() if whole else "")
            record = self._publish(draft, record)
        shutil.rmtree(self.root / name / _CACHE, ignore_errors=True)  # of an online depot that was replaced
        return AddReport(record, False, filled.new_bytes, filled.shared_bytes)

    def _take_online(self, name: str, url: str, progress: Progress | None) -> AddReport:
        before = None
        if name in self.names():
            with suppress(ImageError):  # damaged, so it is to be replaced
                before = self.get(name)
        there = self.root / name
        with shelf.draft_directory(self.root) as draft:
            cache = (there if there.exists() else draft) / _CACHE
            cache.mkdir(exist_ok=True)
            with OnlineDepot(url, cache, self._fetcher(progress)) as online:
                filled = fill_online(online, draft, before)
                record = self._publish(
                    draft, _record(name, "online", shown_url(url), online, filled, url=url)
                )
        return AddReport(record)

    def _publish(self, draft: Path, record: DepotRecord) -> DepotRecord:
        there = (self.root / record.name).exists()
        record = publish(draft, self.root / record.name, record)
        if there:
            self._sweep()
        return record

    def _bring(self, name: str, vib_id: str, progress: Progress | None = None) -> None:
        """Download a VIB of an online depot, take it in, add its record."""
        record = self.get(name).stored(vib_id)
        if record.here:
            return
        if record.origin is None:
            raise ImageError(
                f"depot {name}: where {vib_id} is was not recorded; `midwife depot refresh {name}`"
            )
        fetcher = self._fetcher(progress)
        fetcher.parts.mkdir(parents=True, exist_ok=True)
        listed = parse_descriptor(record.descriptor).package
        with download_vib(fetcher, vib_id, record.origin, fetcher.parts) as vib:
            try:
                with self._changing(_PATIENCE), shelf.draft_directory(self.root) as drafts:
                    depot = self.get(name)
                    now = depot.stored(vib_id)
                    if now.here:
                        return
                    if now.origin != record.origin:
                        raise ImageError(f"depot {name} was refreshed just now; try again")
                    with self.blobs.writing(drafts) as writer:
                        intake = Intake(name, self.blobs, writer, 0)
                        taken = intake.vib(vib, listed, record.origin)
                    intake.prove()
                    append_line(depot.content, taken.line())
            finally:
                Path(vib.name).unlink(missing_ok=True)

    def _fetcher(self, progress: Progress | None) -> Fetcher:
        return Fetcher(self.root / _DOWNLOADS, self._patience, progress)

    @contextmanager
    def _changing(self, wait: float = 0) -> Iterator[None]:
        """The right to change the library. Whatever goes wrong inside leaves no blob without a depot."""
        with shelf.exclusive(self.root, wait):
            mark = self.root / _UNFINISHED
            try:
                clean = not mark.exists() or self._sweep() is not None
                mark.touch()
                fsync_path(self.root)
                yield
            except BaseException as error:
                with suppress(OSError):
                    if self._sweep() is not None:
                        mark.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise unwritable(error, self.root, LARGER_DISK) from error
                raise
            else:
                if clean:
                    mark.unlink(missing_ok=True)

    def _sweep(self) -> int | None:
        """Remove what nobody refers to; the bytes that were freed. None: a damaged depot may refer to anything."""
        referenced: set[str] = set()
        try:
            for name in self.names():
                for record in self.get(name).records():
                    referenced.update(payload.sha256 for payload in record.payloads)
        except ImageError as error:
            self._tell(f"{error}. Until then nothing that other depots leave behind is cleared away")
            return None
        old = time.time() - _STALE
        downloads = self.root / _DOWNLOADS
        for path in downloads.iterdir() if downloads.is_dir() else ():
            with suppress(FileNotFoundError):  # another download finishes just now
                if path.lstat().st_mtime < old:
                    path.unlink()
        return self.blobs.sweep(referenced)

    def _check_known(self, name: str) -> None:
        names = self.names()
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            known = ", ".join(names) or "none; `midwife depot add SOURCE` brings one"
            raise ImageError(
                f"no depot is called {name!r}; {f'did you mean {near[0]}?' if near else f'there are: {known}'}"
            )

    def _check_space(self, depot: Depot, *, anew: bool) -> None:
        """Raises ImageError if the payloads that are not here yet are more than the disk has room for."""
        wanted = {
            (payload.stored_checksum() or (package.id, payload.name)): payload
            for package in depot.packages.values()
            for payload in package.payloads
        }
        needed = sum(
            payload.size
            for key, payload in wanted.items()
            if anew or not isinstance(key, str) or not self.blobs.has(key, payload.size)
        )
        check_space(self.root, needed, "the depot")


def _record(
    name: str, kind: Kind, source: str, depot: Depot, filled: Filled, *, sha256: str = "", url: str = ""
) -> DepotRecord:
    return DepotRecord(
        name=name,
        kind=kind,
        source=source,
        added=datetime.now(UTC).isoformat(timespec="seconds"),
        sha256=sha256,
        vibs=filled.vibs,
        profiles=len(depot.profiles),
        bulletins=len(depot.bulletins),
        size=filled.size,
        warnings=filled.warnings,
        url=url,
    )


def _check_same(known: StoredDepot, same: bool) -> None:
    """Raises ImageError if another depot has the name."""
    if not same:
        raise ImageError(
            f"a depot called {known.name} is there already, from {known.source}, with other content: choose "
            "another name with --name, or put this one in its place with --replace"
        )


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    """Progress of one download as a part of many."""
    if progress is None:
        return None
    return lambda here, _all: progress(min(done + here, total), total)
