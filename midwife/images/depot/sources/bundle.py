"""Offline bundles: a depot in a zip, as VMware and others publish it; a zip inside another zip; an unpacked one.

The index files lead to the metadata zips, those to the VIBs; names are never assumed. Listing reads no VIB, and
a VIB is read where it lies in the zip or folder.
"""

import posixpath
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import TracebackType

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats.index import parse_index, parse_vendor_index, resolve, vendor_index_address
from midwife.images.depot.formats.metadata import DepotContent, Metadata, combine, read_metadata
from midwife.images.depot.formats.zips import Member, ZipReader
from midwife.images.depot.merge import differences
from midwife.images.depot.sources.folder import FolderReader
from midwife.images.errors import FormatError, ImageError
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.vib.container import VibFile

__all__ = ["OfflineBundle"]

_INDEX = "index.xml"
_VENDOR_INDEX = "vendor-index.xml"
_MAX_NESTING = 2
"""Zips around the bundle's own; one download is known that has one."""
_MAX_INNER = 8 << 30
"""Bytes. The largest depots have less than 1 GiB."""


class OfflineBundle(AbstractContextManager["OfflineBundle"]):
    """An opened bundle, a ``Depot``; close it, or use it in ``with``. Raises ImageError only.

    A VIB id that comes with two different contents is left out with a warning, and so is whatever cannot be read
    in a metadata zip; a bundle in which nothing can be read is a FormatError.
    """

    def __init__(self, path: Path, index: Path | None = None) -> None:
        """A zip; or, with ``index`` (see ``unpacked.py``), the folder in which that file is."""
        self._open_things = ExitStack()
        self.source = str(path)
        self.name = path.name
        self._warnings: list[str] = []
        try:
            self._archive, name = self._opened(path) if index is None else self._unpacked(index)
            self._content = self._read(name)
            self._warn_of_missing()
            if index is not None:
                self._warn_of_others()
        except BaseException:
            self.close()
            raise

    @property
    def packages(self) -> Mapping[str, SoftwarePackage]:
        """By VIB id, sorted; also those whose .vib is not in the bundle, which a warning tells."""
        return self._packages

    @cached_property
    def _packages(self) -> dict[str, SoftwarePackage]:
        return {vib_id: vib.package for vib_id, vib in self._content.packages.items()}

    @property
    def profiles(self) -> tuple[ImageProfile, ...]:
        """Sorted by name."""
        return self._content.profiles

    @property
    def bulletins(self) -> tuple[Bulletin, ...]:
        """Sorted by id."""
        return self._content.bulletins

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was tolerated while reading."""
        return tuple(dict.fromkeys([*self._warnings, *self._content.warnings]))

    @property
    def content(self) -> DepotContent:
        """What its metadata say, checksums of the .vib files among it."""
        return self._content

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Ids of VIBs that are listed, but whose .vib is not in the bundle."""
        return tuple(vib_id for vib_id in self._content.packages if self._member(vib_id) is None)

    def vib(self, vib_id: str) -> VibFile:
        """Read where it is; good until the bundle is closed. Raises FormatError if it is not what is listed."""
        listed = self._content.packages.get(vib_id)
        if listed is None:
            raise ImageError(f"{self.source} has no VIB {vib_id}")
        member = self._member(vib_id)
        if member is None:
            where = self._content.locations[vib_id]
            raise FormatError(f"{self.source} lists {vib_id}, but has no {where}; get a complete bundle")
        what = f"{self._archive.what}: {member.name}"
        vib = VibFile.from_stream(self._archive.open(member), what)
        if found := differences(listed.package, vib.package):  # all that makes the id among them
            vib.close()
            raise FormatError(
                f"{what} is {vib.package.id}, but not the VIB {vib_id} that the bundle's metadata describe: "
                f"they differ in {', '.join(found)}; get the bundle again"
            )
        if listed.packed_size not in (None, member.size):
            vib.close()
            raise FormatError(
                f"{what} has {member.size:,} bytes, but the metadata say {listed.packed_size:,}; get it again"
            )
        return vib

    def close(self) -> None:
        """VIBs that came of it cannot be read any more."""
        self._open_things.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self, path: Path) -> tuple[ZipReader | FolderReader, str]:
        try:
            file = self._open_things.enter_context(path.open("rb"))
        except OSError as error:
            raise ImageError(f"cannot open {path}: {error.strerror}") from None
        return _innermost(ZipReader(file, str(path)))

    def _unpacked(self, index: Path) -> tuple[ZipReader | FolderReader, str]:
        folder = FolderReader(index.parent)
        self._warnings += folder.warnings
        return folder, index.name

    def _read(self, index: str) -> DepotContent:
        parts: list[tuple[str, Metadata]] = []
        problems: list[str] = []
        for address in dict.fromkeys(self._metadata_addresses(index)):
            try:
                parts.append((address, self._metadata(address)))
            except FormatError as error:
                problems.append(str(error))
        if not parts:
            raise FormatError(
                problems[0] if problems else f"{self._archive.what}: its index names no metadata zip"
            )
        self._warnings += problems
        return combine(parts, self._archive.what)

    def _metadata(self, address: str) -> Metadata:
        member = self._archive.find(address)
        if member is None:
            raise FormatError(
                f"{self._archive.what} has no {address}, which its index names; get a complete bundle"
            )
        with self._archive.open(member) as file:
            return read_metadata(file, f"{self._archive.what}: {member.name}")

    def _metadata_addresses(self, index: str) -> list[str]:
        """Of the index, vendor by vendor; what leads nowhere is told."""
        if not index:
            self._warnings.append(
                f"{self._archive.what} has no {_INDEX}; its metadata zips are taken as they are"
            )
            return [member.name for member in _metadata_zips(self._archive)]
        if posixpath.basename(index).lower() == _VENDOR_INDEX:
            self._warnings.append(f"{self._archive.what} has no {_INDEX}; its {index} is used")
            return self._of_vendor(index)
        found: list[str] = []
        for vendor in parse_index(self._xml(index), f"{self._archive.what}: {index}"):
            try:
                found += self._of_vendor(vendor_index_address(index, vendor))
            except FormatError as error:
                self._warnings.append(str(error))
        if not found and self._warnings:
            raise FormatError(self._warnings[0])
        return found

    def _of_vendor(self, address: str) -> list[str]:
        refs = parse_vendor_index(self._xml(address), f"{self._archive.what}: {address}")
        return [resolve(address, ref.url) for ref in refs]

    def _xml(self, name: str) -> bytes:
        member = self._archive.find(name)
        if member is None:
            raise FormatError(
                f"{self._archive.what} has no {name}, which its index names; get a complete bundle"
            )
        return self._archive.read(member)

    def _member(self, vib_id: str) -> Member | None:
        """Where the metadata say, or any one place where a .vib of the right name lies."""
        location = self._content.locations[vib_id]
        if member := self._archive.find(location):
            return member
        for name in (posixpath.basename(location), f"{vib_id}.vib"):
            found = self._by_file_name.get(name.lower(), [])
            if len(found) == 1:
                return found[0]
        return None

    @cached_property
    def _by_file_name(self) -> dict[str, list[Member]]:
        found: dict[str, list[Member]] = {}
        for member in self._archive.members:
            found.setdefault(posixpath.basename(member.name).lower(), []).append(member)
        return found

    def _warn_of_missing(self) -> None:
        missing = self.missing
        if missing:
            shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
            self._warnings.append(
                f"{self._archive.what} lists {len(missing)} VIBs without their files: {shown}; they cannot be "
                "exported"
            )

    def _warn_of_others(self) -> None:
        """A folder grows: somebody put a driver beside, and takes it for a part of the depot."""
        listed = {member.name for vib_id in self._content.packages if (member := self._member(vib_id))}
        others = [
            member.name
            for member in _vibs(self._archive)
            if member.name not in listed and not posixpath.basename(member.name).startswith(".")
        ]
        if others:
            shown = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
            self._warnings.append(
                f"{self._archive.what} holds .vib files that its index does not list ({len(others)}): {shown}; "
                "they are left out; add them by themselves"
            )


def _innermost(archive: ZipReader) -> tuple[ZipReader, str]:
    """The zip that is the bundle, and its index: a download may wrap it in another zip, beside a read-me.

    No index, but VIBs and metadata: a bundle that somebody packed by hand.
    """
    for _ in range(_MAX_NESTING + 1):
        index = _index(archive)
        if index or (_metadata_zips(archive) and _vibs(archive)):
            return archive, index
        inner = [m for m in archive.members if m.name.lower().endswith(".zip") and "__MACOSX" not in m.name]
        if not inner:
            raise FormatError(_no_bundle(archive))
        if len(inner) > 1:
            names = ", ".join(m.name for m in inner[:10])
            raise FormatError(
                f"{archive.what} has no {_INDEX}, but several zips ({names}): unpack it, give the bundle of them"
            )
        if inner[0].size > _MAX_INNER:
            raise FormatError(
                f"{archive.what}: {inner[0].name} has {inner[0].size:,} bytes unpacked, which is absurd"
            )
        archive = ZipReader(archive.open(inner[0]), f"{archive.what}: {inner[0].name}")
    raise FormatError(f"{archive.what}: zips in zips in zips, and no {_INDEX}; this is no offline bundle")


def _index(archive: ZipReader) -> str:
    """At the root, else the only one in a folder; else that of the only vendor; "" if there is none."""
    for name in (_INDEX, _VENDOR_INDEX):
        if archive.find(name) and not _is_metadata(archive):
            return name
        below = [m.name for m in archive.members if posixpath.basename(m.name).lower() == name]
        if len(below) == 1 and not _is_metadata(archive):
            return below[0]
    return ""


def _is_metadata(archive: ZipReader) -> bool:
    """A metadata zip has a vendor-index.xml of its own."""
    return any(fnmatchcase(member.name.lower(), "vibs/*.xml") for member in archive.members)


def _metadata_zips(archive: ZipReader | FolderReader) -> list[Member]:
    return [m for m in archive.members if fnmatchcase(posixpath.basename(m.name).lower(), "*metadata*.zip")]


def _vibs(archive: ZipReader | FolderReader) -> list[Member]:
    return [member for member in archive.members if member.name.lower().endswith(".vib")]


def _no_bundle(archive: ZipReader) -> str:
    if _is_metadata(archive):
        return f"{archive.what} is the metadata of a depot without its VIBs; give the whole bundle"
    if _vibs(archive):
        return f"{archive.what} has no {_INDEX}, so it is no offline bundle; unpack it, and give the folder"
    return f"{archive.what} has no {_INDEX}, so it is no offline bundle"
