"""Whatever somebody adds to the depot library, opened as a ``Depot``: told apart by content, never by name.

Bundles are zips or have an index, VIBs are ar archives, ISOs have a volume descriptor, image databases are
gzipped. What has a scheme is an address, and is not opened here. Knows nothing of the library.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from midwife.images.depot.depot import Depot
from midwife.images.depot.formats.records import Kind
from midwife.images.depot.sources.bundle import OfflineBundle
from midwife.images.depot.sources.loose import LooseVibs
from midwife.images.depot.sources.unpacked import unpacked_index
from midwife.images.depot.sources.urls import check_url, is_url
from midwife.images.errors import ImageError
from midwife.images.names import default_image_name

__all__ = ["check_depot_name", "default_depot_name", "kind_of", "local_path", "open_depot"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_RESERVED = "blobs"
_VOLUME = 16 * 2048 + 1
_POWERCLI = re.compile(r"zip:(.+?)(\?.*)?", re.DOTALL)


def check_depot_name(name: str) -> str:
    """The name itself, if it can be one. Raises ImageError."""
    if not _NAME.fullmatch(name):
        raise ImageError(f"{name!r} is not a depot name: letters, digits and . _ - + only, at most 80")
    if name.lower() == _RESERVED:
        raise ImageError(f"{name!r} has a meaning of its own among the depots: choose another name")
    return name


def default_depot_name(source: str) -> str:
    """``VMware-ESXi-8.0U3-24022510`` from ``…-24022510-depot.zip``, the host of an address, the name of a folder.

    Raises ImageError if nothing usable is left.
    """
    if is_url(source):
        stem = urlsplit(check_url(source)).hostname or ""
    else:
        stem = local_path(source).absolute().name
        if stem.lower().endswith(".iso"):
            return check_depot_name(default_image_name(stem))
        if stem.lower().endswith(".xml"):  # the index of an unpacked one, which has the folder's name
            stem = local_path(source).absolute().parent.name
        stem = re.sub(r"\.(zip|vib|tgz)$", "", stem, flags=re.IGNORECASE)
        stem = re.sub(r"[-_](depot|offline[-_]bundle)$", "", stem, flags=re.IGNORECASE)
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-._+")[:80]
    try:
        return check_depot_name(stem)
    except ImageError:
        raise ImageError(f"no depot name can be made from {stem!r}: give one with --name") from None


def local_path(source: str) -> Path:
    """``zip:/path/bundle.zip?index.xml``, as PowerCLI and esxcli write a bundle, is that file."""
    match = _POWERCLI.fullmatch(source)
    return Path(match[1] if match and not Path(source).exists() else source)


def kind_of(source: str) -> Kind:
    """Raises ImageError for what is none of them, or cannot be read."""
    if is_url(source):
        check_url(source)
        return "online"
    if not source.strip():
        raise ImageError("no source was given: the path of a file or folder, or an http(s) address")
    path = local_path(source)
    try:
        if path.is_dir():
            return "bundle" if unpacked_index(path) else "vibs"
        if not path.is_file():
            raise ImageError(_no_file(path))
        with path.open("rb") as file:
            head = file.read(8)
            file.seek(_VOLUME)
            volume = file.read(5)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise ImageError(f"{source!r} is no path") from None
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "bundle"
    if head == b"!<arch>\n":
        return "vibs"
    if volume == b"CD001":
        return "iso"
    if head.startswith(b"\x1f\x8b"):
        return "imgdb"
    if unpacked_index(path):
        return "bundle"
    what = "is a web page (was the download refused?)" if head.lstrip().startswith(b"<") else "is no depot"
    raise ImageError(
        f"{path} {what}: a depot is an offline bundle (a zip, or a folder with index.xml), a .vib, a folder of "
        "them, an installer ISO, an imgdb.tgz, or an http(s) address"
    )


def _no_file(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to {path.readlink()}, which does not exist"
    return f"{path} is neither a file nor a folder" if path.exists() else f"{path} does not exist"


@contextmanager
def open_depot(source: str) -> Iterator[Depot]:
    """A bundle, VIBs, an ISO or an image database; closed afterwards. Raises ImageError."""
    path, kind = local_path(source), kind_of(source)
    if kind == "bundle":
        with OfflineBundle(path, unpacked_index(path)) as bundle:
            yield bundle
    elif kind == "iso":
        from midwife.images.depot.sources.isodepot import IsoDepot

        with IsoDepot(path) as iso:
            yield iso
    elif kind == "imgdb":
        from midwife.images.depot.sources.databasedepot import DatabaseDepot

        with DatabaseDepot(path) as database:
            yield database
    elif kind == "vibs":
        yield LooseVibs(path)
    else:
        raise ImageError("an online depot is added to the depot library, not opened as a file")
