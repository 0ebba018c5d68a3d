"""Names of images and of files in them: what is allowed, and how a name off a CD becomes the one we store.

ISO 9660 has upper-case names with a version (``B.B00;1``), Rock Ridge and Joliet have them as they were, and
mboot and the installer do not care: so everything is stored in lower case. Text only; touches no file.
"""

import re

from midwife.images.errors import ImageError
from midwife.site.reserved import RESERVED_IMAGE_NAMES
from midwife.wire.bootcfg import ascii_lower

__all__ = ["check_image_name", "default_image_name", "stored_name"]

_IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_VERSION = re.compile(r";[0-9]{1,5}$")


def check_image_name(name: str) -> str:
    """The name itself, if it can be one (the same rule as for names in the site). Raises ImageError."""
    if not _IMAGE_NAME.fullmatch(name):
        raise ImageError(f"{name!r} is not an image name: letters, digits and . _ - + only, at most 80")
    if name.lower() in RESERVED_IMAGE_NAMES:
        raise ImageError(f"{name!r} has a meaning of its own in boot paths: choose another image name")
    return name


def default_image_name(file_name: str, option: str = "--name") -> str:
    """``8.0U3-24022510`` from ``VMware-VMvisor-Installer-8.0U3-24022510.x86_64.iso``; else the file's stem.

    Raises ImageError if nothing usable is left; ``option`` is how one gives a name then.
    """
    stem = re.sub(r"\.iso$", "", file_name, flags=re.IGNORECASE)
    stem = re.sub(r"\.(x86_64|aarch64)$", "", stem)
    stem = re.sub(r"^VMware-(VMvisor-Installer|ESXi)-", "", stem, flags=re.IGNORECASE)
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-._+")[:80]
    try:
        return check_image_name(stem)
    except ImageError:
        raise ImageError(f"no image name can be made from {file_name!r}: give one with {option}") from None


def stored_name(component: str, *, plain_9660: bool) -> str:
    """One path component as it is stored. ``plain_9660``: drop the version and the dot of an empty extension.

    Raises ImageError for anything that could leave the image's directory or confuse a terminal.
    """
    name = _VERSION.sub("", component) if plain_9660 else component
    if plain_9660 and len(name) > 1:
        name = name.removesuffix(".")
    name = ascii_lower(name)
    if name in ("", ".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise ImageError(
            f"the ISO holds a file name that is not allowed: {component!r}; nothing was imported"
        )
    if len(name.encode(errors="replace")) > 255:
        raise ImageError(f"the ISO holds a file name of more than 255 bytes: {component[:40]!r}…")
    return name
