"""Do the images exist that are spoken of, are they whole, and do their options fit on a kernel line?"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from midwife.site.draft import Draft, Found
from midwife.site.model import Image
from midwife.site.problems import Problem, nearest
from midwife.site.reserved import RESERVED_IMAGE_NAMES
from midwife.site.yaml import Place
from midwife.wire.bootcmd import ESXI, LINUX, BootCommandError, Endpoint, check_length, kernel_words

__all__ = ["check_images", "check_kernel_lines", "check_references"]


# What the line holds beside the options: the longest token, and BOOTIF= from mboot, iPXE or PXELINUX.
_TOKEN = "x" * 43
_BOOTIF = "BOOTIF=01-52-54-00-12-34-56"


def check_images(draft: Draft) -> Iterator[Problem]:
    """Each image of midwife.yaml by itself."""
    for name, found in draft.images.items():
        image, place = found.value, found.place
        if name.lower() in RESERVED_IMAGE_NAMES:
            hint = "choose another name"
            yield place.problem(f"{name!r} has a meaning of its own in boot paths", hint, key=True)
        if (image.kernel is None) == (image.imported is None):
            said = "both kernel and imported" if image.kernel else "neither kernel nor imported"
            hint = "give kernel and initrd for Linux, or imported for an ESXi image"
            yield place.problem(f"image {name} has {said}", hint, key=True)
        if image.imported is not None:
            if image.imported not in draft.imported:
                what = f"{image.imported!r} has not been imported"
                yield place.at("imported").problem(f"{place.name}.imported: {what}", _import_hint(draft))
            if image.initrd:
                what = f"{place.name}.initrd: an ESXi image brings its own modules"
                yield place.at("initrd").problem(what, "take it out")
        yield from _check_files(draft.root, found)


def check_references(draft: Draft) -> Iterator[Problem]:
    """Images and host configurations that hosts and rules name."""
    images = draft.image_names | draft.imported
    for host in draft.hosts:
        yield from _image(host.place.at("image"), host.value.image, images, draft)
        place = host.place.at("configuration")
        yield from _configuration(place, host.value.configuration, draft)
    for found in draft.items:
        items, place = found.value, found.place
        yield from _image(place.at("image"), items.image, images, draft)
        yield from _configuration(place.at("configuration"), items.configuration, draft)


def check_kernel_lines(draft: Draft) -> Iterator[Problem]:
    """Options that would not fit; a loader cuts the rest off without a word."""
    for name, found in draft.images.items():
        yield from _too_long(draft, found.place.at("options"), found.value, name, "")
    for host in draft.hosts:
        if host.value.options:
            name = host.value.image or ""
            image = draft.images[name].value if name in draft.images else None
            yield from _too_long(draft, host.place.at("options"), image, name, host.value.options)


def _check_files(root: Path, found: Found[Image]) -> Iterator[Problem]:
    files = [(found.place.at("kernel"), found.value.kernel)] if found.value.kernel else []
    files += [(found.place.at("initrd", number), path) for number, path in enumerate(found.value.initrd)]
    names: dict[str, Path] = {}
    for place, path in files:
        if path is None:
            continue
        reason = _unreadable(root / path)
        if reason:
            hint = f"relative paths begin at {root}"
            yield place.problem(f"{place.name}: {path} {reason}", hint)
        first = names.setdefault(path.name.lower(), path)
        if first is not path:
            what = f"{place.name}: {path} has the same file name as {first}"
            yield place.problem(what, "files of an image are served by their name; rename one")


def _unreadable(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if os.access(path, os.R_OK) else "cannot be read: permission denied"


def _too_long(draft: Draft, place: Place, image: Image | None, name: str, own: str) -> Iterator[Problem]:
    linux = image is not None and image.kernel is not None
    options = image.options if image else ""
    main = draft.main.value if draft.main else None
    listen = main.callback.listen if main else ()
    endpoint = Endpoint(
        main.server.address if main else "192.0.2.1", (listen[0].port if listen else 0) or 3500
    )
    try:
        words = (kernel_words(endpoint, _TOKEN), options, own, _BOOTIF)
        line = " ".join(part for part in words if part)
        check_length(line, LINUX if linux else ESXI)
    except BootCommandError as error:
        what, _, hint = str(error).partition(". ")
        with_image = f" (with the options of image {name})" if own and options else ""
        yield place.problem(f"{place.name}: {what}{with_image}", hint)


def _image(place: Place, name: str | None, known: set[str], draft: Draft) -> Iterator[Problem]:
    profiles = {found.value.name for found in draft.image_profiles}
    if name in profiles and name not in known:
        what = f"{place.name}: {name!r} is an image profile, of which no image was made yet"
        yield place.problem(what, f"make it with: midwife image netboot {name}")
        return
    yield from _named(place, name, known, "image", _import_hint(draft))


def _configuration(place: Place, name: str | None, draft: Draft) -> Iterator[Problem]:
    hint = "host configurations are files in host-configurations/"
    yield from _named(place, name, draft.configuration_names, "host configuration", hint)


def _named(place: Place, name: str | None, known: set[str], kind: str, otherwise: str) -> Iterator[Problem]:
    if name is not None and name not in known:
        near = nearest(name, known) if known else ""
        hint = (
            near if near.startswith("did you mean") else "; ".join(part for part in (near, otherwise) if part)
        )
        yield place.problem(f"{place.name}: there is no {kind} {name!r}", hint)


def _import_hint(draft: Draft) -> str:
    known = f"imported: {', '.join(sorted(draft.imported))}" if draft.imported else "nothing is imported yet"
    return f"{known}; import with: midwife image import FILE.iso"
