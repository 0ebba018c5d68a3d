"""Writes an image profile as an offline bundle, as Image Builder's ExportToBundle does.

Each VIB is read once: checked, hashed and written in one pass; the metadata with the sums come last, since a
zip has no order. The same input gives the same bytes. Whether signatures prove the levels is the
caller's business (run.py).
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast
from uuid import NAMESPACE_URL, uuid5
from zipfile import ZipFile

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats.index import MetadataRef, VendorRef, write_index, write_vendor_index
from midwife.images.depot.formats.metadata import MetaVib, write_metadata
from midwife.images.depot.formats.zips import member_info
from midwife.images.depot.merge import merge
from midwife.images.disk import check_space, new_file
from midwife.images.errors import FormatError, ProfileError
from midwife.images.export.checked import CheckedVib
from midwife.images.flow import Progress
from midwife.images.objects.package import SoftwarePackage, SoftwarePlatform
from midwife.images.objects.profile import ImageProfile
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.ar import HEADER, MAGIC
from midwife.images.vib.container import write_vib
from midwife.images.vib.content import Vib
from midwife.images.vib.describe import DepotFields, write_descriptor

__all__ = ["write_bundle"]


_PRODUCT = "embeddedEsx"
_ANY_VERSION = "5.*"
"""What ESXi's own export writes; nothing reads it any more, except that it must be there."""
_METADATA = "metadata.zip"
_LONG_AGO = datetime(1980, 1, 1, tzinfo=UTC)


def write_bundle(
    out: Path,
    resolved: ResolvedProfile,
    vibs: Callable[[str], Vib],
    *,
    bulletins: Iterable[Bulletin] = (),
    vendor_code: str = "Unknown",
    versions: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write ``out``, or leave what was there before. Raises ImageError.

    ``vibs`` opens a VIB by id, or refuses to; each payload is checked against its descriptor. ``bulletins`` whose
    VIBs are all in the profile (components) go with it, beside one rollup bulletin that has the profile's name.
    ``versions`` of ESXi: by default those of the VIBs' software platforms.
    A profile without GUID or creation time gets ones made from its contents, because ESXi wants them.
    """
    if resolved.missing:
        raise ProfileError(
            f"image profile {resolved.profile.name!r} cannot be exported: {len(resolved.missing)} of its VIBs are "
            f"in no depot: {', '.join(resolved.missing[:10])}; add the depot that has them, or remove them"
        )
    profile = _complete(resolved)
    refs = [MetadataRef(_METADATA, _PRODUCT, version) for version in versions or _versions(resolved)]
    total = sum(one.size for vib_id in profile.vib_list for one in resolved.packages[vib_id].payloads)
    with new_file(out) as file:
        check_space(out.parent, total, "the bundle", "make room, or write it somewhere else")
        with ZipFile(file, "w") as archive, ThreadPoolExecutor(1, "payload-sums") as threads:
            writer = _Writer(archive, threads, total, progress)
            written = {
                vib_id: writer.vib(resolved.packages[vib_id], vibs(vib_id)) for vib_id in profile.vib_list
            }
            metadata = BytesIO()
            all_bulletins = _bulletins(profile, written, bulletins, refs)
            write_metadata(metadata, written, [profile], all_bulletins, refs)
            archive.writestr(member_info(_METADATA, stored=True), metadata.getvalue())
            archive.writestr(member_info("vendor-index.xml", stored=False), write_vendor_index(refs))
            vendor = VendorRef(profile.vendor, vendor_code)
            archive.writestr(member_info("index.xml", stored=False), write_index([vendor]))


class _Writer:
    """Writes VIBs, one after another, and says what the metadata must say of them."""

    def __init__(
        self,
        archive: ZipFile,
        threads: ThreadPoolExecutor,
        total: int,
        progress: Progress | None,
    ) -> None:
        self._archive, self._threads = archive, threads
        self._total, self._progress = total, progress
        self._done = 0

    def vib(self, listed: SoftwarePackage, vib: Vib) -> MetaVib:
        """Raises ImageError, also if it is not what the profile was validated with."""
        if vib.package.id != listed.id:
            raise FormatError(f"what should be the VIB {listed.id} is {vib.package.id}; nothing was exported")
        package = merge(listed, vib.package)
        path = f"vib20/{package.name}/{package.id}.vib"
        info = member_info(path, stored=True)
        info.file_size = _size(
            vib.package, len(vib.descriptor) + len(vib.signature)
        )  # more than 2 GiB: ZIP64
        with self._archive.open(info, "w") as member:
            size, sha256 = write_vib(cast(BinaryIO, member), CheckedVib(vib, self._threads, self._count))
        return MetaVib(
            package, write_descriptor(package, depot=DepotFields(path, size, sha256)), path, size, sha256
        )

    def _count(self, size: int) -> None:
        self._done += size
        if self._progress:
            self._progress(min(self._done, self._total), self._total)


def _complete(resolved: ResolvedProfile) -> ImageProfile:
    profile = resolved.profile
    dates = (package.release_date for package in resolved.packages.values() if package.release_date)
    created = profile.creation_time or profile.modified_time or max(dates, default=_LONG_AGO)
    return replace(
        profile,
        guid=profile.guid or uuid5(NAMESPACE_URL, f"{profile.vendor}/{profile.name}").hex,
        creation_time=created,
        modified_time=profile.modified_time or created,
    )


def _versions(resolved: ResolvedProfile) -> list[str]:
    platforms = {one for package in resolved.packages.values() for one in package.software_platforms}
    found = sorted({one.version for one in platforms if one.product == _PRODUCT and one.version})
    return found or [_ANY_VERSION]


def _bulletins(
    profile: ImageProfile, vibs: dict[str, MetaVib], others: Iterable[Bulletin], refs: Iterable[MetadataRef]
) -> list[Bulletin]:
    """Sorted by id: the rollup, and those that are complete in the profile."""
    rollup = Bulletin(
        id=profile.name,
        vendor=profile.vendor,
        summary=profile.name,
        severity="general",
        category="general",
        urgency="important",
        release_type="rollup",
        description=profile.description or profile.name,
        release_date=profile.modified_time,
        platforms=tuple(SoftwarePlatform(ref.product, ref.version, ref.locale) for ref in refs),
        vibs=tuple(vibs),
    )
    kept = {one.id: one for one in others if one.vibs and all(vib_id in vibs for vib_id in one.vibs)}
    kept[rollup.id] = rollup  # an older export of the same profile may have brought one, too
    return [kept[key] for key in sorted(kept)]


def _size(package: SoftwarePackage, texts: int = 0) -> int:
    bodies = sum(payload.size + payload.size % 2 for payload in package.payloads)
    return len(MAGIC) + HEADER * (len(package.payloads) + 2) + bodies + texts + 2
