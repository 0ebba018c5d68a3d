"""``metadata.zip``: the descriptors, image profiles and bulletins of a depot; and several of them made one.

Only ``vibs/``, ``profiles/`` and ``bulletins/`` are read; what 7.0 and later add (base images, add-ons) has no
public description and is passed over. Knows no VIB's bytes and no URL but those it is told.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote
from zipfile import ZipFile

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats.bulletin import parse_bulletin, write_bulletin
from midwife.images.depot.formats.index import MetadataRef, resolve, write_vendor_index
from midwife.images.depot.formats.profilexml import parse_profile, write_profile
from midwife.images.depot.formats.vmwarexml import write_vmware_xml
from midwife.images.depot.formats.zips import Member, ZipReader, member_info, stable_number
from midwife.images.depot.merge import differences
from midwife.images.errors import FormatError
from midwife.images.objects.package import SoftwarePackage, SoftwarePlatform
from midwife.images.objects.profile import ImageProfile
from midwife.images.vib.descriptor import parse_descriptor
from midwife.images.xmlsafe import MAX_XML

__all__ = [
    "DepotContent",
    "MetaVib",
    "Metadata",
    "OtherMetadata",
    "combine",
    "read_metadata",
    "write_metadata",
]

T = TypeVar("T")

_MAX_UNPACKED = 512 << 20
"""Bytes of XML in one metadata zip. 2,000 real descriptors have some 40 MB; a bomb would have any number."""
_MAX_WARNINGS = 200
"""Of one metadata zip; more would hide what matters, and fill the memory for a hostile one."""
_LONG_AGO = datetime(1980, 1, 1, tzinfo=UTC)


class OtherMetadata(FormatError):
    """A sound zip that is no metadata of ESXi 5.0 or later: that of ESX 4 has ``vmware.xml`` and no folders."""


@dataclass(frozen=True, slots=True)
class MetaVib:
    """A VIB as a depot's metadata tells it. The descriptor is not the one that was signed."""

    package: SoftwarePackage
    descriptor: bytes
    relative_path: str | None = None
    """From the metadata zip to the .vib; as written, so it may lead anywhere."""
    packed_size: int | None = None
    """Bytes of the .vib."""
    checksum: str | None = None
    """sha-256 of the .vib, lower case."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a metadata zip holds."""

    packages: dict[str, MetaVib]
    """By VIB id, sorted."""
    profiles: tuple[ImageProfile, ...]
    """Sorted by name and vendor."""
    bulletins: tuple[Bulletin, ...]
    """Sorted by id."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DepotContent:
    """A whole depot: ``locations`` say where each .vib is, by VIB id (URL, or path in the bundle)."""

    packages: dict[str, MetaVib]
    locations: dict[str, str]
    profiles: tuple[ImageProfile, ...]
    bulletins: tuple[Bulletin, ...]
    warnings: tuple[str, ...] = ()


def read_metadata(file: BinaryIO | Path, what: str = "metadata.zip") -> Metadata:
    """Everything readable in it. A member that is not is left out, with a warning that names it.

    So is a VIB whose id comes with two different contents: which of them is meant nobody can know. Raises
    FormatError for what is no zip, has no ``vibs/`` at all, or nothing readable in it.
    """
    if isinstance(file, Path):
        try:
            with file.open("rb") as opened:
                return read_metadata(opened, what)
        except OSError as error:
            raise FormatError(f"cannot read {what}: {error.strerror or error}") from None
    archive = ZipReader(file, what)
    reader = _Reader(archive)
    vibs = reader.all("vibs", lambda data, place: _meta_vib(data, place, reader.warn))
    profiles = reader.all("profiles", parse_profile)
    bulletins = reader.all("bulletins", parse_bulletin)
    if not vibs and (reader.failed or not reader.seen("vibs", "profiles", "bulletins")):
        if reader.failed:
            raise FormatError(f"{reader.failed}; nothing else in it can be used")
        raise OtherMetadata(
            f"{what} has no folders vibs, profiles or bulletins, so it is no metadata of a depot"
        )
    part = Metadata(*_united([("", vib) for vib in vibs], profiles, bulletins, what, reader.warn)[1:])
    return Metadata(part.packages, part.profiles, part.bulletins, tuple(reader.warnings))


def combine(parts: Iterable[tuple[str, Metadata]], what: str) -> DepotContent:
    """One depot of several metadata zips, each with its address (URL, or path in the bundle).

    The same VIB in several of them is one; with different contents it is left out, with a warning. Of two
    versions of a profile or bulletin the newer one counts. A VIB whose path leads out of the depot is left out,
    too. Raises FormatError if no VIB is left of those there were.
    """
    warnings: list[str] = []
    vibs: list[tuple[str, MetaVib]] = []
    profiles: list[ImageProfile] = []
    bulletins: list[Bulletin] = []
    listed = 0
    for base, part in parts:
        warnings += part.warnings
        vibs += _placed(base, part, warnings)
        listed += len(part.packages)
        profiles += part.profiles
        bulletins += part.bulletins
    if listed and not vibs:
        raise FormatError(f"{what}: no VIB of it can be used: {warnings[-1]}")
    locations, packages, kept_profiles, kept_bulletins = _united(
        vibs, profiles, bulletins, what, warnings.append
    )
    return DepotContent(packages, locations, kept_profiles, kept_bulletins, tuple(dict.fromkeys(warnings)))


def write_metadata(
    out: BinaryIO,
    vibs: Mapping[str, MetaVib],
    profiles: Iterable[ImageProfile],
    bulletins: Iterable[Bulletin],
    refs: Iterable[MetadataRef],
) -> None:
    """A metadata zip; the same bytes for the same input. ``refs`` are those of the vendor index.

    Raises FormatError for texts that XML cannot hold.
    """
    refs, bulletins = tuple(refs), tuple(bulletins)
    places = {
        vib_id: (vib.package, vib.relative_path, vib.packed_size, vib.checksum)
        for vib_id, vib in vibs.items()
    }
    products = dict.fromkeys(SoftwarePlatform(ref.product, ref.version, ref.locale) for ref in refs)
    dates = [date for b in bulletins if (date := b.release_date)]
    dates += [date for vib in vibs.values() if (date := vib.package.release_date)]
    members = {
        "vendor-index.xml": write_vendor_index(refs),
        "vmware.xml": write_vmware_xml(bulletins, places, products, max(dates, default=_LONG_AGO)),
    }
    for vib_id in sorted(vibs):
        members[f"vibs/{vibs[vib_id].package.name}-{stable_number(vib_id)}.xml"] = vibs[vib_id].descriptor
    for bulletin in bulletins:
        members[f"bulletins/{quote(bulletin.id, safe=' ')[:200]}.xml"] = write_bulletin(bulletin)
    for profile in profiles:
        number = stable_number(f"{profile.vendor}\n{profile.name}")
        members[f"profiles/{quote(profile.name, safe='')[:50]}{number}"] = write_profile(profile)
    with ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(member_info(name, stored=False), data)


class _Reader:
    """The members of a metadata zip, folder by folder, within limits."""

    def __init__(self, archive: ZipReader) -> None:
        self.warnings: list[str] = []
        self.failed = ""
        """The first member that could not be read."""
        self._archive = archive
        self._left = _MAX_UNPACKED
        self._folders: dict[str, list[Member]] = {}
        for member in archive.members:
            folder, _, name = member.name.rpartition("/")
            if folder and not name.startswith("."):  # .DS_Store and the like
                self._folders.setdefault(folder.rpartition("/")[2].lower(), []).append(member)

    def seen(self, *folders: str) -> bool:
        return any(folder in self._folders for folder in folders)

    def warn(self, warning: str) -> None:
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(warning)

    def all(self, folder: str, parse: Callable[[bytes, str], T]) -> list[T]:
        found: list[T] = []
        for member in self._folders.get(folder, []):
            self._left -= member.size
            if self._left < 0:
                raise FormatError(
                    f"{self._archive.what} has more than {_MAX_UNPACKED >> 20} MiB of XML; no depot needs that"
                )
            try:
                found.append(
                    parse(self._archive.read(member, MAX_XML), f"{self._archive.what}: {member.name}")
                )
            except FormatError as error:
                self.failed = self.failed or str(error)
                self.warn(f"{error}; it is left out")
        return found


def _meta_vib(data: bytes, what: str, warn: Callable[[str], None]) -> MetaVib:
    parsed = parse_descriptor(data, what)
    for warning in parsed.warnings:
        warn(warning)
    return MetaVib(parsed.package, data, parsed.relative_path, parsed.packed_size, parsed.checksum)


def _placed(base: str, part: Metadata, warnings: list[str]) -> Iterator[tuple[str, MetaVib]]:
    """Each VIB with where its .vib is: where they usually are if the metadata does not say."""
    for vib_id, vib in part.packages.items():
        try:
            yield resolve(base, vib.relative_path or f"vib20/{vib.package.name}/{vib_id}.vib"), vib
        except FormatError as error:
            warnings.append(f"VIB {vib_id}: {error}; it is left out")


def _united(
    vibs: list[tuple[str, MetaVib]],
    profiles: list[ImageProfile],
    bulletins: list[Bulletin],
    what: str,
    warn: Callable[[str], None],
) -> tuple[dict[str, str], dict[str, MetaVib], tuple[ImageProfile, ...], tuple[Bulletin, ...]]:
    """Each id once."""
    packages: dict[str, MetaVib] = {}
    locations: dict[str, str] = {}
    unclear: dict[str, str] = {}
    for location, vib in vibs:
        vib_id = vib.package.id
        known = packages.setdefault(vib_id, vib)
        if known is vib:
            locations[vib_id] = location
        elif found := differences(known.package, vib.package):
            unclear.setdefault(vib_id, ", ".join(found))
        elif _newer(vib.package.release_date, known.package.release_date):
            packages[vib_id], locations[vib_id] = vib, location
    for vib_id, why in unclear.items():
        del packages[vib_id], locations[vib_id]
        told = f"{what}: two different VIBs have the id {vib_id} (they differ in {why}); neither is used"
        if not packages:
            raise FormatError(told)
        warn(told)
    kept_profiles: dict[tuple[str, str], ImageProfile] = {}
    for profile in profiles:
        one = kept_profiles.setdefault((profile.name, profile.vendor), profile)
        if one != profile:
            if _newer(profile.modified_time, one.modified_time):
                kept_profiles[profile.name, profile.vendor] = profile
            warn(
                f"{what}: two image profiles are called {profile.name!r} ({profile.vendor}); the newer one is used"
            )
    kept_bulletins: dict[str, Bulletin] = {}
    for bulletin in bulletins:
        other = kept_bulletins.setdefault(bulletin.id, bulletin)
        if other != bulletin:
            if _newer(bulletin.release_date, other.release_date):
                kept_bulletins[bulletin.id] = bulletin
            warn(f"{what}: two different bulletins have the id {bulletin.id}; the newer one is used")
    return (
        dict(sorted(locations.items())),
        dict(sorted(packages.items())),
        tuple(kept_profiles[key] for key in sorted(kept_profiles)),
        tuple(kept_bulletins[key] for key in sorted(kept_bulletins)),
    )


def _newer(a: datetime | None, b: datetime | None) -> bool:
    return a is not None and (b is None or a > b)
