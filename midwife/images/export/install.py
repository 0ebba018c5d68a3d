"""An image profile as an image that hosts can boot: its netboot tree in the image library, with a manifest.

The image appears in one step, and takes the place of an older one of the same profile in one step too. Payloads
that the depot library holds are shared with it where the file system can. Knows no host and no protocol.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from midwife.images import shelf
from midwife.images.boot.library import Library
from midwife.images.boot.manifest import FILES, Manifest, read_manifest, write_manifest
from midwife.images.disk import LARGER_DISK, unwritable
from midwife.images.errors import ImageError
from midwife.images.export.modules import base_version
from midwife.images.export.tree import KERNELOPT, fill, tree_layout
from midwife.images.flow import Progress
from midwife.images.names import check_image_name, default_image_name
from midwife.images.profile.hardware import hardware_rules
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.content import Vib
from midwife.images.vib.descriptor import write_descriptor
from midwife.wire.bootcfg import render

__all__ = ["install_tree", "profile_digest"]


def install_tree(
    library: Library,
    resolved: ResolvedProfile,
    vibs: Callable[[str], Vib],
    name: str | None = None,
    progress: Progress | None = None,
    boot_module: bool = True,
    *,
    kernelopt: str = KERNELOPT,
    loaders_from: Path | None = None,
) -> Manifest:
    """Make ``library.images_dir/<name>`` of a profile. Raises ImageError; the library is as it was then.

    ``name``: by default made from the profile's name. ``boot_module``: whether the service adds its own module.
    ``loaders_from``: as of ``write_tree``; without loaders of its own an image boots with those of the newest
    image that has some.
    """
    profile = resolved.profile
    name = default_image_name(profile.name, "--as") if name is None else check_image_name(name)
    images = library.images_dir
    with shelf.exclusive(images):
        replaces = _replaces(images / name, profile.name)
        try:
            with (
                tree_layout(resolved, vibs, kernelopt, loaders_from) as layout,
                shelf.draft_directory(images) as draft,
            ):
                (draft / FILES).mkdir()
                manifest = Manifest(
                    name=name,
                    kind="esxi",
                    title=layout.boot_cfg.title,
                    build=base_version(resolved),
                    profile=profile.name,
                    source=f"profile {profile.name}",
                    iso_sha256="",
                    imported=datetime.now(UTC).isoformat(timespec="seconds"),
                    boot_cfg=render(layout.boot_cfg).decode(),
                    netboot=boot_module,
                    profile_digest=profile_digest(resolved),
                    hardware=hardware_rules(resolved.packages.values()),
                    files=fill(draft / FILES, layout, progress, link=True),
                )
                write_manifest(draft, manifest)
                shelf.publish(draft, images / name, replaces=replaces)
        except OSError as error:
            raise unwritable(error, images / name, LARGER_DISK) from error
    return manifest


def profile_digest(resolved: ResolvedProfile) -> str:
    """Changes whenever an image made of the profile would be another one; not with its dates and its serial
    number. Hexadecimal. Raises FormatError for texts that XML cannot hold.
    """
    profile = resolved.profile
    attributes = (
        *(profile.name, profile.vendor, profile.author, profile.description, profile.guid),
        *(str(profile.acceptance_level), profile.signature_check),
    )
    entries = [(vib.id, vib.boot, sorted(vib.payloads.items())) for vib in profile.vibs]
    contents = [
        hashlib.sha256(write_descriptor(package)).hexdigest()
        for _, package in sorted(resolved.packages.items())
    ]
    return hashlib.sha256(json.dumps([attributes, sorted(entries), contents]).encode()).hexdigest()


def _replaces(directory: Path, profile: str) -> bool:
    """Whether there is an older image of this profile. Raises ImageError for any other one."""
    if not directory.exists():
        return False
    known = read_manifest(directory)
    if known.made_of != profile:
        raise ImageError(
            f"an image called {directory.name} is there already, made of {known.source}: choose another name "
            f"(--as), or remove it first with `midwife image delete {directory.name}`"
        )
    return True
