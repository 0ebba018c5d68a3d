"""``OnlineDepot``: a depot on a web server: its indexes and metadata downloaded, its VIBs when somebody asks.

index.xml leads to vendor indexes, these to metadata zips, these to VIBs. Documents are kept beside what the server
says of their version, so that reading again fetches only what changed. Knows nothing of the depot library.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats.index import (
    index_address,
    parse_index,
    parse_vendor_index,
    resolve,
    vendor_index_address,
)
from midwife.images.depot.formats.metadata import (
    DepotContent,
    Metadata,
    OtherMetadata,
    combine,
    read_metadata,
)
from midwife.images.depot.formats.records import Origin
from midwife.images.depot.sources.fetch import Expected, Fetcher
from midwife.images.depot.sources.urls import check_url, shown_url
from midwife.images.errors import FormatError, ImageError
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.vib.container import VibFile

__all__ = ["OnlineDepot", "download_vib"]

_MAX_INDEX = 8 << 20
_MAX_METADATA = 512 << 20
"""Bytes; VMware's largest has some 30 MB."""
_MAX_VIB = 8 << 30
"""Bytes, where the depot does not say; the largest real one (VMware Tools) has less than 1 GB."""
_MAX_DOCUMENTS = 500
"""Indexes and metadata zips of one depot."""


class OnlineDepot(AbstractContextManager["OnlineDepot"]):
    """A depot at an address. Making one downloads what changed. Every method raises ImageError only.

    ``cache``: a directory of its own; documents stay there, and VIBs that ``vib`` was asked for.
    """

    def __init__(self, url: str, cache: Path, fetcher: Fetcher) -> None:
        self.url = check_url(url)
        self.source = shown_url(url)
        """The address without the secrets in it."""
        self.name = urlsplit(url).hostname or ""
        self._cache = cache
        self._fetcher = fetcher
        self._seen: dict[str, Path] = {}
        self._open: list[VibFile] = []
        self.content = self._load()

    @property
    def packages(self) -> Mapping[str, SoftwarePackage]:
        """By VIB id, sorted."""
        return {vib_id: vib.package for vib_id, vib in self.content.packages.items()}

    @property
    def profiles(self) -> tuple[ImageProfile, ...]:
        """Sorted by name."""
        return self.content.profiles

    @property
    def bulletins(self) -> tuple[Bulletin, ...]:
        """Sorted by id."""
        return self.content.bulletins

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was tolerated."""
        return tuple(_masked(warning, self._seen) for warning in self.content.warnings)

    def origin(self, vib_id: str) -> Origin:
        """Where a VIB is."""
        vib = self.content.packages.get(vib_id)
        if vib is None:
            raise ImageError(f"{self.source} has no VIB {vib_id}")
        return Origin(self.content.locations[vib_id], vib.packed_size, vib.checksum)

    def vib(self, vib_id: str) -> VibFile:
        """Downloaded, checked, and open until the depot is closed."""
        vib = download_vib(self._fetcher, vib_id, self.origin(vib_id), self._cache)
        self._open.append(vib)
        return vib

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for vib in self._open:
            vib.close()

    def _load(self) -> DepotContent:
        index = index_address(self.url)
        with self._told():
            vendors = parse_index(self._document(index, _MAX_INDEX).read_bytes(), shown_url(index))
            parts: dict[str, Metadata] = {}
            others: dict[str, str] = {}
            for vendor in vendors:
                address = vendor_index_address(index, vendor)
                document = self._document(address, _MAX_INDEX)
                for ref in parse_vendor_index(document.read_bytes(), shown_url(address)):
                    place = resolve(address, ref.url)
                    if place in parts or place in others:
                        continue
                    zipped = self._document(place, _MAX_METADATA)
                    try:
                        parts[place] = read_metadata(zipped, shown_url(place))
                    except OtherMetadata as error:  # of ESX 4, in a depot for every release
                        others[place] = f"{error}; it is left out"
            if not parts:
                # Believed, a refresh would forget everything that was downloaded.
                raise FormatError(f"{shown_url(index)} leads to no metadata zip, so the depot is empty")
            content = combine(parts.items(), self.source)
            return replace(content, warnings=(*content.warnings, *others.values()))

    def _document(self, url: str, limit: int) -> Path:
        if url not in self._seen:
            if len(self._seen) >= _MAX_DOCUMENTS:
                raise FormatError(f"{self.source} has more than {_MAX_DOCUMENTS} indexes and metadata zips")
            path = self._cache / hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()
            self._fetcher.document(url, path, Expected(limit))
            self._seen[url] = path
        return self._seen[url]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What others say of an address names it in full; and files of the cache may be unreadable."""
        try:
            yield
        except FormatError as error:
            raise FormatError(_masked(str(error), (self.url, index_address(self.url), *self._seen))) from None
        except OSError as error:
            raise ImageError(f"cannot keep {self.source} below {self._cache}: {error.strerror}") from None


def download_vib(fetcher: Fetcher, vib_id: str, origin: Origin, folder: Path) -> VibFile:
    """The .vib, below ``folder`` under a name of our own, checked against what the depot says of it, and opened.

    Raises ImageError.
    """
    path = folder / f"{hashlib.sha256(origin.url.encode(errors='surrogateescape')).hexdigest()}.vib"
    limit = _MAX_VIB if origin.size is None else origin.size
    fetcher.download(origin.url, path, Expected(limit, origin.size, origin.sha256))
    vib = VibFile(path)
    if vib.package.id != vib_id:
        vib.close()
        path.unlink(missing_ok=True)
        raise FormatError(
            f"{shown_url(origin.url)} should be the VIB {vib_id}, but it is {vib.package.id}; it was thrown away"
        )
    return vib


def _masked(text: str, addresses: "Mapping[str, Path] | tuple[str, ...]") -> str:
    """With every address shown as ``shown_url`` shows it; the longest first, as one may begin like another."""
    for url in sorted(addresses, key=len, reverse=True):
        text = text.replace(url, shown_url(url))
    return text
