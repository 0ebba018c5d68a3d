"""``StoredDepot`` and ``StoredVib``: a depot of the library as everybody else sees it.

Listing reads one file of records from one end to the other and no payload; descriptors are parsed when somebody
asks for packages. A VIB of an online depot that is not here yet is brought by whoever made the object.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats.bulletin import parse_bulletin
from midwife.images.depot.formats.profilexml import parse_profile
from midwife.images.depot.formats.records import DepotRecord, VibRecord, content_lines, xml_of
from midwife.images.depot.kept.blobs import Blobs
from midwife.images.errors import FormatError, ImageError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.vib.descriptor import parse_descriptor

__all__ = ["Bring", "StoredDepot", "StoredVib"]

Bring = Callable[[str], None]
"""Downloads a VIB, by id, and adds its record. Raises ImageError."""


@dataclass(frozen=True)
class StoredVib:
    """A VIB in the library, a ``Vib``: its records and its blobs."""

    depot: str
    record: VibRecord
    blobs: Blobs

    @cached_property
    def package(self) -> SoftwarePackage:
        """What its own descriptor says."""
        return parse_descriptor(self.record.descriptor, f"{self.depot}: {self.record.id}").package

    @property
    def descriptor(self) -> bytes:
        """The exact bytes, if ``exact``."""
        return self.record.descriptor

    @property
    def signature(self) -> bytes:
        """As it was; b"" for none."""
        return self.record.signature

    @property
    def exact(self) -> bool:
        """False: it came from an ISO that has no exact descriptors."""
        return self.record.exact

    @property
    def headers(self) -> tuple[bytes, ...]:
        """Those of the file it came in, if it came in one."""
        return self.record.headers

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        """The bytes as stored. Raises ImageError."""
        blob, size = self._blob(payload)
        left = size
        try:
            with blob.open("rb", buffering=0) as file:
                while data := file.read(block):
                    left -= len(data)
                    yield data
        except OSError as error:
            raise ImageError(f"{self._where(payload)}: {error.strerror}; {_AGAIN}") from None
        if left:
            raise FormatError(f"{self._where(payload)}: {blob} has not its {size} bytes any more; {_AGAIN}")

    def path(self, payload: str) -> Path:
        """The blob: exactly these bytes, never changed; link to it. Raises ImageError."""
        return self._blob(payload)[0]

    def _blob(self, payload: str) -> tuple[Path, int]:
        for stored in self.record.payloads:
            if stored.name == payload:
                break
        else:
            known = ", ".join(stored.name for stored in self.record.payloads) or "none"
            raise ImageError(f"{self._where(payload)}: there is no such payload; there are: {known}")
        if not stored.sha256:
            if (blob := self._from_another(payload, stored.size)) is not None:
                return blob, stored.size
            raise ImageError(
                f"{self._where(payload)}: the source had everything of this VIB but these bytes; "
                "add a depot that has it whole, an offline bundle for instance"
            )
        if not self.blobs.has(stored.sha256, stored.size):
            raise ImageError(f"{self._where(payload)}: its bytes are gone from {self.blobs.root}; {_AGAIN}")
        return self.blobs.path(stored.sha256), stored.size

    def _from_another(self, payload: str, size: int) -> Path | None:
        """What this depot's source lacked may have come with another depot since."""
        found = next(one for one in self.package.payloads if one.name == payload)
        expected = found.stored_checksum()
        return self.blobs.path(expected) if expected and self.blobs.has(expected, size) else None

    def _where(self, payload: str) -> str:
        return f"depot {self.depot}: {self.record.id}: payload {payload}"


_AGAIN = "bring them again with `midwife depot add SOURCE --replace`"


@dataclass(slots=True)
class _Index:
    """Where the records are in the content file that had ``size`` bytes."""

    size: int = 0
    vibs: dict[str, int] = field(default_factory=dict)
    profiles: list[bytes] = field(default_factory=list)
    bulletins: list[bytes] = field(default_factory=list)


class StoredDepot:
    """A depot of the library, a ``Depot``. What it says is as of the moment it was got from the library.

    Every method raises ImageError only.
    """

    def __init__(
        self, directory: Path, record: DepotRecord, blobs: Blobs, bring: Bring | None = None
    ) -> None:
        self.record = record
        self.directory = directory
        self._blobs = blobs
        self._bring = bring
        self._index = _Index()

    @property
    def name(self) -> str:
        """In the library."""
        return self.record.name

    @property
    def source(self) -> str:
        """As it was given; an address without the secrets in it."""
        return self.record.source

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was tolerated when it was added."""
        return self.record.warnings

    @property
    def content(self) -> Path:
        """The file of records."""
        return self.directory / self.record.content

    @cached_property
    def packages(self) -> Mapping[str, SoftwarePackage]:
        """By VIB id, sorted."""
        return {record.id: self._listed(record) for record in self.records()}

    def _listed(self, record: VibRecord) -> SoftwarePackage:
        package = parse_descriptor(record.descriptor, f"depot {self.name}: {record.id}").package
        return replace(package, software_platforms=record.platforms) if record.platforms else package

    @cached_property
    def profiles(self) -> tuple[ImageProfile, ...]:
        """Sorted by name."""
        lines = self._read().profiles
        found = (parse_profile(xml_of(line), f"depot {self.name}: an image profile") for line in lines)
        return tuple(sorted(found, key=lambda profile: (profile.name, profile.vendor)))

    @cached_property
    def bulletins(self) -> tuple[Bulletin, ...]:
        """Sorted by id."""
        lines = self._read().bulletins
        found = (parse_bulletin(xml_of(line), f"depot {self.name}: a bulletin") for line in lines)
        return tuple(sorted(found, key=lambda bulletin: bulletin.id))

    def vib(self, vib_id: str) -> StoredVib:
        """A VIB by id; that of an online depot is downloaded first, if it is not here yet."""
        found = self.stored(vib_id)
        if not found.here:
            if self._bring is None:
                raise ImageError(
                    f"depot {self.name}: {self.source} lists {vib_id}, but did not have it; add a complete one"
                )
            self._bring(vib_id)
            found = self.stored(vib_id)
        return StoredVib(self.name, found, self._blobs)

    def has(self, vib_id: str) -> bool:
        """Whether it lists such a VIB; asks no descriptor."""
        return vib_id in self._read().vibs

    def stored(self, vib_id: str) -> VibRecord:
        """The record of a VIB as it is now."""
        index = self._read()
        if vib_id not in index.vibs:
            raise ImageError(f"depot {self.name} has no VIB {vib_id}")
        with _told(self.name), self.content.open("rb") as file:
            file.seek(index.vibs[vib_id])
            return self._parsed(file.readline(), vib_id)

    def records(self) -> Iterator[VibRecord]:
        """Of every VIB, sorted by id; one at a time is in memory."""
        places = self._read().vibs
        with _told(self.name), self.content.open("rb") as file:
            for vib_id in sorted(places):
                file.seek(places[vib_id])
                yield self._parsed(file.readline(), vib_id)

    def _parsed(self, line: bytes, vib_id: str) -> VibRecord:
        record = VibRecord.parse(line)
        if record.id != vib_id:
            raise FormatError(f"the record of {vib_id} is another one's")
        return record

    def _read(self) -> _Index:
        """Reads what was added to the file since."""
        index = self._index
        with _told(self.name):
            size = self.content.stat().st_size
            if size != index.size:
                for kind, vib_id, offset, line in content_lines(self.content, index.size):
                    if kind == "vib":
                        index.vibs[vib_id] = offset
                    elif kind in ("profile", "bulletin"):
                        (index.profiles if kind == "profile" else index.bulletins).append(line)
                    index.size = offset + len(line)
        return index


@contextmanager
def _told(name: str) -> Iterator[None]:
    """A depot's name and what to do, around whatever goes wrong with its records."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"depot {name} is damaged: {error}; add it again with --replace") from None
    except FileNotFoundError:
        raise ImageError(f"depot {name} was changed or removed just now; try again") from None
    except OSError as error:
        raise ImageError(f"depot {name}: cannot read its records: {error.strerror}") from None
