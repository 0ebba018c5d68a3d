"""Whatever somebody adds to the depot library, opened as a ``Depot``: told apart by content, never by name.

Bundles are zips, VIBs are ar archives, ISOs have a volume descriptor. What has a scheme is an address, and is not
opened here. Knows nothing of the library.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from midwife.images.depot.bundle import OfflineBundle
from midwife.images.depot.depot import Depot
from midwife.images.depot.loose import LooseVibs
from midwife.images.depot.records import Kind
from midwife.images.depot.urls import check_url, is_url
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
        stem = re.sub(r"\.(zip|vib)$", "", stem, flags=re.IGNORECASE)
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
    path = local_path(source)
    try:
        if path.is_dir():
            return "vibs"
        if not path.is_file():
            raise ImageError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
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
    what = "is a web page (was the download refused?)" if head.lstrip().startswith(b"<") else "is no depot"
    raise ImageError(
        f"{path} {what}: a depot is an offline bundle (zip), a .vib, a folder of them, an installer ISO, "
        "or an http(s) address"
    )


@contextmanager
def open_depot(source: str) -> Iterator[Depot]:
    """A bundle, VIBs or an ISO; closed afterwards. Raises ImageError."""
    path, kind = local_path(source), kind_of(source)
    if kind == "bundle":
        with OfflineBundle(path) as bundle:
            yield bundle
    elif kind == "iso":
        from midwife.images.depot.isodepot import IsoDepot

        with IsoDepot(path) as iso:
            yield iso
    elif kind == "vibs":
        yield LooseVibs(path)
    else:
        raise ImageError("an online depot is added to the depot library, not opened as a file")
