"""``imgdb.tgz``, the database of an ESXi image: one image profile and the descriptors of its VIBs.

A gzipped tar below ``var/db/esximg``; since ESXi 6.5 with each VIB's original descriptor and signature beside
the database's own form of it. Names in it are not believed, contents decide. Knows no payload's bytes.
"""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from midwife.images.depot.formats.profilexml import parse_profile, write_profile
from midwife.images.errors import FormatError
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.objects.version import SoftwareVersion
from midwife.images.vib.content import Vib
from midwife.images.vib.descriptor import parse_descriptor, write_descriptor

__all__ = ["DatabaseVib", "ImageDatabase", "KnownVib", "read_imgdb", "write_imgdb"]

_ROOT = "var/db/esximg"
_MAX_TAR = 64 << 20
"""Unpacked bytes. A real one of 8.0 has some 6 MB; a gzip bomb would have any number."""
_MAX_MEMBERS = 20_000  # 2,000 VIBs with three files each, and room
_MAX_FILE = 16 << 20  # the largest real descriptor, esx-base with its file list, has less than 1 MB
_FOLDERS = (["vibs"], ["profiles"])
_LONGEST = 50  # of a name in it: ESXi takes paths of 99 characters at most
_SECURE_BOOT = SoftwareVersion.parse("6.1")  # from this esx-version on, originals and signatures are kept


@dataclass(frozen=True, slots=True)
class DatabaseVib:
    """What an image database knows of a VIB."""

    package: SoftwarePackage
    descriptor: bytes
    """The exact bytes that were signed if ``exact``, else the database's own form."""
    signature: bytes
    exact: bool


class KnownVib:
    """The part of a ``Vib`` that an image database answers; it came in no file."""

    __slots__ = ()
    _known: DatabaseVib

    @property
    def package(self) -> SoftwarePackage:
        """What its descriptor says."""
        return self._known.package

    @property
    def descriptor(self) -> bytes:
        """The signed bytes if ``exact``, else the database's own form."""
        return self._known.descriptor

    @property
    def signature(self) -> bytes:
        """b"" for an unsigned VIB, and for one of a database before ESXi 6.5."""
        return self._known.signature

    @property
    def exact(self) -> bool:
        """False in databases before ESXi 6.5."""
        return self._known.exact

    @property
    def headers(self) -> tuple[bytes, ...]:
        """None are known."""
        return ()

    def path(self, payload: str) -> Path | None:
        """There is none."""
        return None


@dataclass(frozen=True, slots=True)
class ImageDatabase:
    """The profile's VIB entries have the file names on boot media (``ProfileVib.payloads``)."""

    profile: ImageProfile
    vibs: Mapping[str, DatabaseVib]
    """By VIB id, sorted; exactly those of the profile."""
    warnings: tuple[str, ...] = ()


def read_imgdb(file: BinaryIO | Path, what: str = "imgdb.tgz") -> ImageDatabase:
    """Read an image database. Raises FormatError, which names ``what`` and the member."""
    try:
        if isinstance(file, Path):
            with file.open("rb") as opened:
                data = _unpacked(opened, what)
        else:
            data = _unpacked(file, what)
    except OSError as error:
        raise FormatError(f"cannot read {what}: {error.strerror or error}") from None
    warnings: list[str] = []
    members = dict(_members(data, what))
    profiles: list[ImageProfile] = []
    vibs: dict[str, DatabaseVib] = {}
    for name, content in members.items():
        if name.endswith((".orig", ".sig")):
            continue
        kind = _root_element(content)
        if kind == b"imageprofile":
            profiles.append(parse_profile(content, f"{what}: {name}"))
        elif kind == b"vib":
            vib = _vib(name, members, what, warnings)
            if vibs.setdefault(vib.package.id, vib) != vib:
                raise FormatError(f"{what}: {name}: a second VIB {vib.package.id} with other contents")
    if len(profiles) != 1:
        raise FormatError(
            f"{what} holds {len(profiles)} image profiles and {len(vibs)} VIBs; an image database has exactly "
            "one profile"
        )
    profile = profiles[0]
    if missing := [vib_id for vib_id in profile.vib_list if vib_id not in vibs]:
        raise FormatError(
            f"{what}: its profile {profile.name!r} lists {missing[0]}, which is not in the database "
            f"({len(missing)} are missing)"
        )
    if extra := sorted(vibs.keys() - set(profile.vib_list)):
        warnings.append(f"{what}: {extra[0]} is not in the profile and is left out ({len(extra)} such VIBs)")
    chosen = {vib_id: vibs[vib_id] for vib_id in sorted(profile.vib_list)}
    return ImageDatabase(profile, chosen, tuple(warnings))


def write_imgdb(profile: ImageProfile, vibs: Iterable[Vib]) -> bytes:
    """The database of a profile whose VIB entries have file names; the same bytes for the same input.

    Originals and signatures go with it where ESXi does the same: from version 6.5 on. Raises FormatError.
    """
    by_id = {vib.package.id: vib for vib in vibs}
    listed = sorted(profile.vib_list)
    if missing := [vib_id for vib_id in listed if vib_id not in by_id]:
        raise FormatError(f"image profile {profile.name!r}: no descriptor of {missing[0]}, which it lists")
    originals = _keeps_originals(by_id[vib_id].package for vib_id in listed)
    files: dict[str, bytes] = {}
    for vib_id in listed:
        vib = by_id[vib_id]
        name = f"{_ROOT}/vibs/{_file_name(vib.package.name, vib_id)}.xml"
        files[name] = write_descriptor(vib.package)
        if originals and vib.exact:
            files[f"{name}.orig"] = vib.descriptor
            if vib.signature:
                files[f"{name}.sig"] = vib.signature
    quoted = quote(profile.name, safe="")[:_LONGEST]
    number = _number(f"{profile.vendor} {profile.name}")
    files[f"{_ROOT}/profiles/{quoted}{number}"] = write_profile(profile, payloads=True)
    return _packed(files)


def _vib(name: str, members: Mapping[str, bytes], what: str, warnings: list[str]) -> DatabaseVib:
    own = members[name]
    parsed = parse_descriptor(own, f"{what}: {name}")
    warnings += parsed.warnings
    original = members.get(f"{name}.orig")
    if original is None:
        return DatabaseVib(parsed.package, own, b"", exact=False)
    true = parse_descriptor(original, f"{what}: {name}.orig").package
    if true.id != parsed.package.id:
        raise FormatError(f"{what}: {name}.orig is the descriptor of {true.id}, not of {parsed.package.id}")
    return DatabaseVib(true, original, members.get(f"{name}.sig", b""), exact=True)


def _unpacked(file: BinaryIO, what: str) -> bytes:
    """gunzip, but never more than ``_MAX_TAR`` bytes."""
    unpacker = zlib.decompressobj(wbits=31)
    out = bytearray()
    try:
        # 4 KiB unpack to 4 MiB at most, so the limit is seen in time.
        while not unpacker.eof and (chunk := file.read(4096)):
            out += unpacker.decompress(chunk)
            if len(out) > _MAX_TAR:
                raise FormatError(f"{what} unpacks to more than {_MAX_TAR >> 20} MiB: no image database")
    except zlib.error as error:
        raise FormatError(f"{what} is not a gzip file, or is damaged: {error}") from None
    if not unpacker.eof:
        raise FormatError(f"{what} ends too soon: it is truncated, get it again")
    return bytes(out)


def _members(data: bytes, what: str) -> Iterator[tuple[str, bytes]]:
    """Files below ``vibs`` and ``profiles`` directories, wherever those are."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            count = 0
            while (member := tar.next()) is not None:
                count += 1
                _check_count(count, what)
                # A sparse member may claim any size and consist of nothing.
                if member.isreg() and not member.sparse and member.name.split("/")[-2:-1] in _FOLDERS:
                    yield member.name, _content(tar, member, what)
    except FormatError:
        raise
    except Exception as error:  # tarfile answers damage with half a dozen kinds
        raise FormatError(f"{what} holds no readable tar archive: {error or type(error).__name__}") from None


def _check_count(count: int, what: str) -> None:
    if count > _MAX_MEMBERS:
        raise FormatError(f"{what} holds more than {_MAX_MEMBERS} files: no image database")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, what: str) -> bytes:
    if member.size > _MAX_FILE:
        raise FormatError(f"{what}: {member.name[:120]!r} claims {member.size} bytes: no image database")
    opened = tar.extractfile(member)
    if opened is None:
        raise FormatError(f"{what}: {member.name[:120]!r} is no file")
    with opened:
        found = opened.read()
    if len(found) != member.size:
        raise FormatError(f"{what}: {member.name[:120]!r} is cut off: the file is truncated")
    return found


def _root_element(content: bytes) -> bytes:
    """Name of the first element, past an XML declaration and comments; b"" for what is no XML."""
    rest = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    while rest.startswith((b"<?", b"<!--")):
        _, end, rest = rest.partition(b"?>" if rest.startswith(b"<?") else b"-->")
        rest = rest.lstrip() if end else b""
    if not rest.startswith(b"<"):
        return b""
    return rest[1:64].split(b">")[0].split(b"/")[0].split(maxsplit=1)[0] if rest[1:2].isalpha() else b""


def _keeps_originals(packages: Iterable[SoftwarePackage]) -> bool:
    versions = [
        provide.release
        for package in packages
        for provide in package.all_provides
        if provide.name == "esx-version" and provide.release is not None
    ]
    return bool(versions) and max(versions) >= _SECURE_BOOT


def _file_name(name: str, key: str) -> str:
    """``name-number``: ESXi's number is arbitrary; this one is the same each time."""
    return f"{quote(name, safe='')[: _LONGEST - 11]}-{_number(key)}"


def _number(key: str) -> int:
    """At most ten digits."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:4], "big")


def _packed(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for directory in ("var", "var/db", _ROOT, f"{_ROOT}/vibs", f"{_ROOT}/profiles"):
            entry = tarfile.TarInfo(directory)  # uid, gid and mtime are 0
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o755
            tar.addfile(entry)
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode = 0o644
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(out.getvalue())
    return packed.getvalue()
