"""The files inside a payload: listed, or unpacked to a directory without leaving it.

vgz and vzstd hold a vmtar, tgz an ordinary tar, and inside the gzip there may be xz or zstd; whichever it really
is, is read. Archives are hostile: nothing is written through a link, outside the directory, or over something
that is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from midwife.images.errors import FormatError, ImageError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import Payload
from midwife.images.vib.archives.bytestream import ByteStream
from midwife.images.vib.archives.payload import MAX_UNPACKED, limited, unpacked
from midwife.images.vib.archives.planting import Planter
from midwife.images.vib.archives.tar import read_tar
from midwife.images.vib.archives.tarhead import BLOCK_SIZE, HARD_LINK, SYMLINK, TarEntry
from midwife.images.vib.archives.vmtar import VmtarReader, is_vmtar
from midwife.images.vib.archives.xzstreams import XZ_MAGIC, unxz
from midwife.images.vib.archives.zstdframes import ZSTD_MAGIC, unzstd
from midwife.images.vib.content import Vib

__all__ = ["ARCHIVES", "Extracted", "extract", "list_files"]

ARCHIVES = frozenset({"vgz", "tgz", "vzstd", "installer_vgz"})
"""Types of payloads that hold files."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What came of unpacking a payload."""

    files: int
    """Files, links and directories that were made."""
    skipped: tuple[str, ...] = ()
    """What was left out, in sentences: device nodes, links that lead nowhere."""


def list_files(vib: Vib, payload: Payload) -> tuple[TarEntry, ...]:
    """Every entry, directories too, in the archive's order. Raises FormatError; ImageError.

    Of a vmtar only the headers are unpacked.
    """
    what, stream = _open(vib, payload)
    if _starts_as_vmtar(stream):
        return VmtarReader(_rest(stream), what).entries
    return tuple(entry for entry, _ in read_tar(_rest(stream), what))


def extract(vib: Vib, payload: Payload, directory: Path, *, special_modes: bool = False) -> Extracted:
    """Unpacks a payload into an existing directory; nothing that is there already is changed.

    Times and permissions are the archive's, without set-user-id, set-group-id and sticky bits unless
    ``special_modes``; owners are not. Raises FormatError for names that lead outside, ImageError for what cannot
    be written; then a part may have been written.
    """
    what, stream = _open(vib, payload)
    try:
        with Planter(directory, what, special_modes=special_modes) as planter:
            if _starts_as_vmtar(stream):
                _plant_vmtar(VmtarReader(_rest(stream), what), planter)
            else:
                for entry, content in read_tar(_rest(stream), what):
                    _plant(planter, entry, content)
            planter.finish()
            return Extracted(planter.made, tuple(planter.skipped))
    except OSError as error:
        raise ImageError(f"{what}: cannot unpack to {directory}: {error.strerror or error}") from None


def _open(vib: Vib, payload: Payload) -> tuple[str, ByteStream]:
    """The archive itself, whatever it is packed in: the type does not tell of xz, which ESXi's own VIBs have."""
    what = f"{vib.package.id}: payload {payload.name}"
    if payload.type not in ARCHIVES:
        raise FormatError(f"{what} is of type {payload.type}: not an archive, there are no files in it")
    stream = ByteStream(unpacked(vib.chunks(payload.name), payload.type, MAX_UNPACKED, what), what)
    start = stream.peek(len(XZ_MAGIC))
    if start == XZ_MAGIC:
        stream = ByteStream(limited(unxz(_rest(stream), what), MAX_UNPACKED, what), what)
    elif start.startswith(ZSTD_MAGIC):
        stream = ByteStream(limited(unzstd(_rest(stream), what), MAX_UNPACKED, what), what)
    return what, stream


def _starts_as_vmtar(stream: ByteStream) -> bool:
    return is_vmtar(stream.peek(BLOCK_SIZE))


def _rest(stream: ByteStream) -> Iterator[bytes]:
    while data := stream.some(BLOCK):
        yield data


def _plant_vmtar(reader: VmtarReader, planter: Planter) -> None:
    for entry in reader.entries:
        if not entry.is_file:
            _plant(planter, entry, iter(()))
    for entries, content in reader.contents():
        planter.file(entries[0], content)
        for other in entries[1:]:
            # The same content under several names; without content there is nothing to share.
            if other.size:
                planter.copy(entries[0], other)
            else:
                planter.file(other, iter(()))


def _plant(planter: Planter, entry: TarEntry, content: Iterator[bytes]) -> None:
    if entry.is_file:
        planter.file(entry, content)
    elif entry.is_directory:
        planter.directory(entry)
    elif entry.kind in (SYMLINK, HARD_LINK):
        planter.link(entry)
    else:
        planter.skip(entry, f"is a device, a pipe or something else that is no file (type {entry.kind!r})")
