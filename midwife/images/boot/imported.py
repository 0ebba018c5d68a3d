"""What was imported into ``<data>/images``: which images there are, removing one, switching its boot module.

Importing is done by iso.py and, for image profiles, by export/install.py. Knows no ISO and no boot.cfg.
"""

from pathlib import Path

from midwife.images import shelf
from midwife.images.boot.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from midwife.images.disk import LARGER_DISK, unwritable
from midwife.images.errors import ImageError
from midwife.images.names import check_image_name

__all__ = ["directory", "remove", "set_netboot", "stored"]


def stored(images: Path) -> list[str]:
    """Names of the imported images, sorted."""
    if not images.is_dir():
        return []
    found = (entry.name for entry in images.iterdir() if (entry / MANIFEST).is_file())
    return sorted(name for name in found if not name.startswith("."))


def directory(images: Path, name: str) -> Path:
    """Where an image is. Raises ImageError, with the names of those that there are."""
    check_image_name(name)
    if name not in stored(images):
        known = ", ".join(stored(images)) or "none; `midwife image import FILE.iso` brings one"
        raise ImageError(f"no imported image is called {name!r}; there are: {known}")
    return images / name


def remove(images: Path, name: str) -> None:
    """Take an image out of the library. Raises ImageError."""
    with shelf.exclusive(images):
        shelf.discard(directory(images, name))


def set_netboot(images: Path, name: str, on: bool) -> Manifest:
    """Record whether the boot module is added to an image. Raises ImageError."""
    with shelf.exclusive(images):
        place = directory(images, name)
        manifest = read_manifest(place).with_netboot(on)
        try:
            write_manifest(place, manifest)
        except OSError as error:
            raise unwritable(error, place, LARGER_DISK) from None
        return manifest
