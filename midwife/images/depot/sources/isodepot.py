"""An ESXi installer ISO as a depot: its one image profile, and its VIBs put together again.

The image database gives profile, descriptors and signatures; the payloads are the ISO's own files, named by the
profile or, for loaders and the installer's files, found by size and checksum. Knows nothing of .vib files.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats.imgdb import DatabaseVib, KnownVib, read_imgdb
from midwife.images.errors import FormatError, ImageError
from midwife.images.flow import BLOCK
from midwife.images.isofs import IsoFile, IsoReader
from midwife.images.names import default_image_name
from midwife.images.objects.package import Payload, SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.vib.archives.payload import gunzipped
from midwife.wire.bootcfg import ascii_lower

__all__ = ["IsoDepot", "IsoVib"]

_DATABASE = "imgdb.tgz"
_MAX_DATABASE = 32 << 20  # bytes, packed; a real one has 1 to 2 MB
# Archives of VMware's media writer that may hold payloads which are no files of the ISO themselves.
_ARCHIVES = ("imgpayld.tgz", "basemisc.tgz")
_MAX_ARCHIVE = 2 << 30  # unpacked bytes that are looked through
_TAR_BLOCK = 512
_MAX_ISOLINUX = 1 << 20
_EMPTY = b"\xef\xbe\xad\xde"  # what ISOLINUX has where nothing is known yet
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Place:
    """A file of the ISO; the ``member``-th regular file (from 0) of an archive that is one; or a file whose
    first bytes must be replaced by ``head``.
    """

    file: IsoFile
    member: int | None = None
    head: bytes = b""


class IsoDepot(AbstractContextManager["IsoDepot"]):
    """Implements Depot; open as long as its VIBs are read. Raises ImageError only.

    A VIB with a payload that is not on the ISO is listed, with a warning; its ``chunks`` say so.
    """

    def __init__(self, path: Path) -> None:
        self.name = _name(path)
        self.source = str(path)
        self._iso = IsoReader(path)
        try:
            self._read = read_imgdb(io.BytesIO(self._database()), f"{path}: {_DATABASE}")
        except BaseException:
            self._iso.__exit__(None, None, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._iso.__exit__(kind, error, trace)

    @cached_property
    def packages(self) -> Mapping[str, SoftwarePackage]:
        """By VIB id, sorted."""
        return {vib_id: vib.package for vib_id, vib in self._read.vibs.items()}

    @property
    def profiles(self) -> tuple[ImageProfile, ...]:
        """The one; it has the names of its files on the ISO (``ProfileVib.payloads``)."""
        return (self._read.profile,)

    @property
    def bulletins(self) -> tuple[Bulletin, ...]:
        """An ISO has none."""
        return ()

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Looks for every payload: files of the same size are hashed."""
        found = list(self._read.warnings)
        lost = [vib_id for vib_id, vib in self._read.vibs.items() if not vib.exact]
        if lost:
            found.append(
                f"{self.source}: {len(lost)} VIBs have lost their original descriptor (before ESXi 6.5 an ISO "
                "keeps none), so their signatures cannot be checked"
            )
        for_dpus = 0
        for vib_id, package in self.packages.items():
            names = [
                payload.name for payload in package.payloads if (vib_id, payload.name) not in self._places
            ]
            if names and package.dpu_only:
                for_dpus += 1
            elif names:
                found.append(
                    f"{self.source}: VIB {vib_id} is listed, but its {', '.join(names)} is not on the ISO; "
                    "the offline bundle has it"
                )
        if for_dpus:
            found.append(
                f"{self.source}: {for_dpus} VIBs for DPUs are listed, but their files are in no form that midwife "
                "reads; hosts don't need them, and the offline bundle has them"
            )
        return tuple(found)

    def vib(self, vib_id: str) -> "IsoVib":
        """Raises ImageError for an id that is not in the profile."""
        if vib_id not in self._read.vibs:
            raise ImageError(f"{self.source} holds no VIB {vib_id!r}")
        return IsoVib(self, vib_id, self._read.vibs[vib_id])

    def payload(self, vib_id: str, payload: Payload, block: int = BLOCK) -> Iterator[bytes]:
        """The bytes of a payload, as many as its size says. Raises ImageError if it is not on the ISO."""
        place = self._places.get((vib_id, payload.name))
        if place is None:
            raise ImageError(
                f"VIB {vib_id}: its payload {payload.name} is not on {self.source}; take the VIB from an offline "
                "bundle of this release"
            )
        if place.head:
            yield place.head
            yield self._iso.read_small(place.file.name, _MAX_ISOLINUX)[len(place.head) :]
            return
        if place.member is None:
            yield from self._iso.chunks(place.file, block)
            return
        for _, content in islice(self._archived(place.file), place.member, place.member + 1):
            for chunk in content:
                yield from (chunk[at : at + block] for at in range(0, len(chunk), block))

    def _database(self) -> bytes:
        file = self._iso.files.get(_DATABASE)
        if file is None:
            raise ImageError(
                f"{self.source} has no {_DATABASE}, so it is no ESXi installer ISO (5.0 or later)"
            )
        if file.size > _MAX_DATABASE:
            raise FormatError(f"{self.source}: {_DATABASE} has {file.size} bytes: no image database")
        return b"".join(self._iso.chunks(file))

    @cached_property
    def _places(self) -> dict[_Key, _Place]:
        places: dict[_Key, _Place] = {}
        unnamed: list[tuple[str, Payload]] = []
        given = {entry.id: entry.payloads for entry in self._read.profile.vibs}
        for vib_id, package in self.packages.items():
            for payload in package.payloads:
                file = self._named(given[vib_id].get(payload.name, ""))
                if file is not None and file.size == payload.size:
                    places[vib_id, payload.name] = _Place(file)
                else:
                    unnamed.append((vib_id, payload))
        search = _Search(unnamed)
        for file in self._iso.files.values():
            if search.wants(file.size):
                places |= dict.fromkeys(search.found(self._iso.chunks(file), file.size), _Place(file))
        places |= self._isolinux(search)
        for name in _ARCHIVES:
            archive = self._iso.files.get(name)
            if archive is None or not search.left:
                continue
            try:
                for number, (size, content) in enumerate(self._archived(archive)):
                    if search.wants(size):
                        places |= dict.fromkeys(search.found(content, size), _Place(archive, number))
            except FormatError:
                continue  # no archive that we know: VIBs that would need it are told as incomplete
        return places

    def _isolinux(self, search: "_Search") -> dict[_Key, _Place]:
        """ISOLINUX as it was before a boot information table was written over its bytes 8 to 63 (mkisofs(8))."""
        file = self._iso.files.get("isolinux.bin")
        if file is None or not 64 <= file.size <= _MAX_ISOLINUX or not search.wants(file.size):
            return {}
        data = self._iso.read_small(file.name, _MAX_ISOLINUX)
        for length_and_sum in (data[16:24], _EMPTY * 2):  # releases differ in what they have there
            head = data[:8] + bytes((16, 0, 0, 0, 0, 0, 0, 0)) + length_and_sum + _EMPTY * 10
            if found := search.found([head, data[64:]], file.size):
                return dict.fromkeys(found, _Place(file, head=head))
        return {}

    def _named(self, name: str) -> IsoFile | None:
        """ISO 9660 knows no dash, so a name may have an underscore instead."""
        name = ascii_lower(name)
        return self._iso.files.get(name) or self._iso.files.get(name.replace("-", "_"))

    def _archived(self, archive: IsoFile) -> Iterator[tuple[int, Iterator[bytes]]]:
        what = f"{self.source}: {archive.name}"
        return _tar_files(_limited(gunzipped(self._iso.chunks(archive), what), what), what)


@dataclass(frozen=True, slots=True)
class IsoVib(KnownVib):
    """Implements Vib: a VIB of an installer ISO."""

    _depot: IsoDepot
    _id: str
    _known: DatabaseVib

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        """The bytes of a payload as stored. Raises ImageError."""
        wanted = next((one for one in self.package.payloads if one.name == payload), None)
        if wanted is None:
            raise ImageError(f"VIB {self._id} has no payload {payload!r}")
        yield from self._depot.payload(self._id, wanted, block)


class _Search:
    """Payloads that are to be found by their bytes."""

    def __init__(self, wanted: Iterable[tuple[str, Payload]]) -> None:
        self._by_sum: dict[tuple[int, str, str], list[_Key]] = {}
        for vib_id, payload in wanted:
            for kind in ("sha-256", "sha-1"):
                if value := payload.stored_checksum(kind):
                    key = (payload.size, kind, value)
                    self._by_sum.setdefault(key, []).append((vib_id, payload.name))
                    break

    @property
    def left(self) -> bool:
        """Whether something is still to be found."""
        return bool(self._by_sum)

    def wants(self, size: int) -> bool:
        """Whether a file of that size is worth hashing."""
        return any(wanted == size for wanted, _, _ in self._by_sum)

    def found(self, content: Iterable[bytes], size: int) -> list[_Key]:
        """The payloads that are these bytes; they are not looked for any more."""
        digests = {"sha-256": hashlib.sha256(), "sha-1": hashlib.sha1(usedforsecurity=False)}
        for chunk in content:
            for digest in digests.values():
                digest.update(chunk)
        keys = [(size, kind, digest.hexdigest()) for kind, digest in digests.items()]
        return [key for sum_ in keys for key in self._by_sum.pop(sum_, [])]


def _name(path: Path) -> str:
    try:
        return default_image_name(path.name)
    except ImageError:
        return "iso"


def _limited(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > _MAX_ARCHIVE:
            raise FormatError(f"{what} unpacks to more than {_MAX_ARCHIVE >> 20} MiB")
        yield chunk


def _tar_files(chunks: Iterator[bytes], what: str) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Size and bytes of every regular file of a tar stream, whatever it is called.

    tarfile would believe the length of a name, and hold it in memory. Raises FormatError.
    """
    stream = _Stream(chunks, what)
    while (header := stream.exactly(_TAR_BLOCK)) and header[0]:
        digits = header[124:136].strip(b" \0")
        if not all(digit in b"01234567" for digit in digits):
            raise FormatError(f"{what} is no tar archive of the kind that ESXi has")
        size = int(digits or b"0", 8)
        content = stream.up_to(size)
        if header[156:157] in (b"0", b"\0", b"7"):
            yield size, content
        for _ in content:  # what nobody wanted
            pass
        for _ in stream.up_to(-size % _TAR_BLOCK):
            pass


class _Stream:
    def __init__(self, chunks: Iterator[bytes], what: str) -> None:
        self._chunks, self._what, self._rest = chunks, what, b""

    def exactly(self, size: int) -> bytes:
        """b"" at the end of the stream."""
        try:
            return b"".join(self.up_to(size))
        except FormatError:
            if self._rest:
                raise
            return b""

    def up_to(self, size: int) -> Iterator[bytes]:
        """The next ``size`` bytes."""
        while size:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    raise FormatError(f"{self._what} ends within a file")
            part, self._rest = self._rest[:size], self._rest[size:]
            size -= len(part)
            yield part
