"""Importing an ESXi installer ISO: every file unpacked, hashed and checked, or nothing at all.

The image appears under its name in one step (rename); a full disk, a bad ISO or Ctrl-C leaves nothing behind,
``kill -9`` only a draft that the next import clears. Knows ISO and boot.cfg, not how images are served.
"""

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from midwife.images import shelf
from midwife.images.boot.files import boot_files
from midwife.images.boot.library import Library
from midwife.images.boot.manifest import FILES, Entry, Manifest, write_manifest
from midwife.images.disk import LARGER_DISK, check_space, unwritable, write_all
from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK, FileHash, Progress
from midwife.images.isofs import IsoReader
from midwife.images.names import check_image_name, default_image_name
from midwife.wire.bootcfg import BootCfgError, parse

__all__ = ["import_iso"]


# The root's is the one mboot reads after it was loaded by PXE; that below efi/ is for booting the medium.
_BOOT_CFG = ("boot.cfg", "efi/boot/boot.cfg")
# The first name in profile.xml is the image profile's: ESXi-8.0U3-24022510-standard, HPE-Custom-…
_PROFILE = re.compile(rb"<name>\s*([A-Za-z0-9][A-Za-z0-9._() +-]{0,100}?)\s*</name>")
_VERSION_BUILD = re.compile(rb"\b([5-9]\.\d{1,2}\.\d{1,2}-(?:\d{1,3}\.){1,3}\d{5,9})\b")


def import_iso(
    path: Path, library: Library, name: str | None = None, progress: Progress | None = None
) -> Manifest:
    """Unpack an installer ISO to ``library.images_dir/<name>``. Raises ImageError, which says what to do.

    ``name``: by default made from the ISO's file name (``8.0U3-24022510``). Takes a few MiB of memory.
    """
    name = check_image_name(name or default_image_name(path.name))
    images = library.images_dir
    with shelf.exclusive(images):
        if (images / name).exists():
            raise ImageError(
                f"an image called {name} is already imported: choose another with --name, "
                f"or remove it first with `midwife image delete {name}`"
            )
        with IsoReader(path) as iso:
            manifest = _describe(iso, name)
            needed = sum(file.size for file in iso.files.values())
            try:
                check_space(images, needed, "the image")
                with shelf.draft_directory(images) as draft:
                    manifest = _unpack(iso, draft / FILES, manifest, needed, progress)
                    write_manifest(draft, manifest)
                    shelf.publish(draft, images / name)
            except OSError as error:
                raise unwritable(error, images, LARGER_DISK) from error
    return manifest


def _describe(iso: IsoReader, name: str) -> Manifest:
    """The manifest without files, from the image's own words; the boot must be possible."""
    found = next((file for file in _BOOT_CFG if file in iso.files), None)
    if found is None:
        raise ImageError(f"{iso.path} has no boot.cfg, so it is not an ESXi installer ISO")
    raw = iso.read_small(found)
    try:
        cfg = parse(raw)
    except BootCfgError as error:
        raise ImageError(f"{iso.path}: {found}: {error.reason} (line {error.line})") from None
    if not cfg.kernel:
        raise ImageError(f"{iso.path}: {found} names no kernel, so it is not an ESXi installer ISO")
    if missing := boot_files(cfg, iso.files.keys()).missing:
        raise ImageError(
            f"{iso.path} lacks {len(missing)} of the files that its {found} names: "
            f"{', '.join(missing[:20])}{' …' if len(missing) > 20 else ''}; get the ISO again"
        )
    profile = _PROFILE.search(iso.read_small("upgrade/profile.xml"))
    return Manifest(
        name=name,
        kind="esxi",
        title=cfg.title,
        build=cfg.build or _build_elsewhere(iso),
        profile=profile[1].decode() if profile else "",
        source=iso.path.name,
        iso_sha256="",
        imported=datetime.now(UTC).isoformat(timespec="seconds"),
        boot_cfg=raw.decode(errors="replace"),
    )


def _build_elsewhere(iso: IsoReader) -> str:
    """Some images have an empty ``build=`` (seen: 6.0); a text of that form may stand in these files."""
    for name in ("upgrade/metadata.xml", "upgrade/profile.xml", ".discinfo"):
        if match := _VERSION_BUILD.search(iso.read_small(name)):
            return match[1].decode()
    return ""


def _unpack(
    iso: IsoReader, files: Path, manifest: Manifest, needed: int, progress: Progress | None
) -> Manifest:
    entries: dict[str, Entry] = {}
    done = 0
    files.mkdir()
    with FileHash(iso.path, iso.file) as whole:
        for file in iso.files.values():
            target = files / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with target.open("xb", buffering=0) as out:
                for chunk in iso.chunks(file, BLOCK):
                    write_all(out.write, chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    if progress:
                        progress(done + whole.done, needed + iso.size)
            entries[file.name] = Entry(file.size, digest.hexdigest())
        while whole.running():
            if progress:
                progress(done + whole.done, needed + iso.size)
        if progress:
            progress(needed + iso.size, needed + iso.size)
        sha256 = whole.result()
        if iso.changed() or whole.done != iso.size:
            raise ImageError(f"{iso.path} changed while it was read; wait until it is copied completely")
        return replace(manifest, iso_sha256=sha256, files=entries)
