"""Every image that can be booted, under one name each: imported ESXi images, and kernel and initrd pairs.

``<data>/images`` holds what was imported (images/boot/iso.py); the site describes the rest, and may give an
imported image another name and options. The disk is looked at again at every question, so an import shows at
once. Knows neither hosts nor protocols.
"""

import difflib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import structlog

from midwife.images.boot import imported
from midwife.images.boot.files import LOADERS, boot_files, build_key
from midwife.images.boot.manifest import FILES, MANIFEST, Manifest, read_manifest
from midwife.images.boot.module import BootModuleError, boot_module
from midwife.images.boot.verify import VERIFIED, out_of_service
from midwife.images.disk import replacing
from midwife.images.errors import ImageError
from midwife.images.names import check_image_name
from midwife.images.objects.profile import HardwareRule
from midwife.site.model import Image
from midwife.wire.bootcfg import BootCfg, BootCfgError, Module, ascii_lower, parse

__all__ = ["BootImage", "BootModule", "ImageFile", "Kind", "Library"]

Kind = Literal["esxi", "linux"]
BootModule = Callable[[str, Kind], bytes]
"""Makes the boot module out of the service's public key."""

_MODULE_NAME: Mapping[Kind, str] = {"esxi": "midwife.tgz", "linux": "midwife.cpio.gz"}


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file on disk. ``sha256`` is known for imported files and for the boot module."""

    path: Path
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class BootImage:
    """What is to be loaded, in order, and every file that can be asked for."""

    name: str
    kind: Kind
    title: str
    build: str
    """"" where it is not known, as for every Linux image."""
    kernel: str
    modules: tuple[Module, ...]
    """After the kernel: ESXi's modules, or initial RAM disks (without options). The boot module is last."""
    options: str
    """Kernel words from the site; those of the image itself are in ``boot_cfg.kernelopt``."""
    files: Mapping[str, ImageFile]
    """By lower-case name: look up ``name.lower()``. ESXi's loaders are in it under their served names too."""
    boot_cfg: BootCfg | None = None
    """ESXi only: names as in ``files``, no prefix; for ``bootcfg.rewrite``."""
    netboot: bool = False
    hardware: tuple[HardwareRule, ...] = ()
    """Which machines it is for; empty: every machine."""

    @property
    def loads(self) -> tuple[str, ...]:
        """Names of the kernel and all modules, in loading order."""
        return (self.kernel, *(module.name for module in self.modules))

    @property
    def load_size(self) -> int:
        """Bytes of all of them: 100 % of the progress bar."""
        return sum(self.files[name].size for name in self.loads)


@dataclass(frozen=True, slots=True)
class _Imported:
    stamp: tuple[int, ...]
    manifest: Manifest
    image: BootImage


class Library:
    """The images of one site. Every method that takes a name raises ImageError if it cannot be served.

    ``site_images``: ``images:`` of midwife.yaml; ``root``: the directory their paths are relative to.
    ``public_key``: the service's, for the boot module of images with ``netboot``.
    """

    def __init__(
        self,
        data_dir: Path,
        site_images: Mapping[str, Image],
        root: Path,
        public_key: str = "",
        make_module: BootModule = boot_module,
    ) -> None:
        self.images_dir = data_dir / "images"
        self._modules_dir = data_dir / "boot-modules"
        self._site = site_images
        self._root = root
        self._public_key = public_key
        self._make_module = make_module
        self._made: dict[Kind, ImageFile] = {}
        self._imported: dict[str, _Imported] = {}
        self._log = structlog.get_logger()

    def names(self) -> tuple[str, ...]:
        """All images, sorted; one that turns out to be broken is among them."""
        return tuple(sorted({*self._site, *imported.stored(self.images_dir)}))

    def hardware(self) -> Mapping[str, tuple[HardwareRule, ...]]:
        """Every image with the machines that it is for, as ``core.decide`` wants them; looked up when asked."""
        return _Hardware(self)

    def get(self, name: str) -> BootImage:
        """An image as it is served, the boot module (if it is to have one) written and added."""
        image = self.describe(name)
        return self._with_module(image) if image.netboot else image

    def describe(self, name: str) -> BootImage:
        """An image by name, without the boot module; writes nothing and needs no key.

        The site's word counts before that of an imported image with the same name.
        """
        described = self._site.get(name)
        if described is None:
            return self._esxi(name).image
        check_image_name(name)
        if described.imported is None:
            return self._linux(name, described)
        if described.kernel or described.initrd:
            raise ImageError(f"images.{name} in midwife.yaml has both imported: and kernel: or initrd:")
        base = self._esxi(described.imported).image
        netboot = base.netboot or described.netboot
        return replace(base, name=name, options=described.options, netboot=netboot)

    def manifest(self, name: str) -> Manifest | None:
        """What was recorded when an image was imported, under whatever name; None for kernel and initrd."""
        source = self._source(name)
        return self._esxi(source).manifest if source else None

    def loader(self, kind: str, prefer_image: str | None = None) -> ImageFile | None:
        """One of ESXi's own loaders (``bootfiles.LOADERS``); None if no image brings it.

        That of the chosen image, else of the newest: new loaders boot old images, never the reverse.
        """
        if kind not in LOADERS:
            return None
        chosen = self._source(prefer_image) if prefer_image else None
        if chosen and (found := self._readable(chosen)) and kind in found.image.files:
            return found.image.files[kind]
        every = [found for name in imported.stored(self.images_dir) if (found := self._readable(name))]
        having = [found for found in every if kind in found.image.files]
        if not having:
            return None
        newest = max(having, key=lambda found: (build_key(found.image.build), found.manifest.imported))
        return newest.image.files[kind]

    def _source(self, name: str) -> str | None:
        """The imported image behind a name."""
        described = self._site.get(name)
        return name if described is None else described.imported

    def _readable(self, name: str) -> _Imported | None:
        try:
            return self._esxi(name)
        except ImageError as error:
            self._log.warning("image.unreadable", image=name, reason=str(error))
            return None

    def _esxi(self, name: str) -> _Imported:
        check_image_name(name)
        directory = self.images_dir / name
        try:
            status = (directory / MANIFEST).stat()
        except OSError:
            self._imported.pop(name, None)
            raise ImageError(self._unknown(name)) from None
        stamp = (*_changed(status), *_verified(directory))
        known = self._imported.get(name)
        if known is None or known.stamp != stamp:
            manifest = read_manifest(directory)
            if reason := out_of_service(directory, manifest):
                raise ImageError(reason)
            known = _Imported(stamp, manifest, _from_manifest(directory, manifest))
            self._imported[name] = known
        return known

    def _linux(self, name: str, described: Image) -> BootImage:
        if described.kernel is None:
            raise ImageError(f"images.{name} in midwife.yaml needs kernel: (a file) or imported: (a name)")
        files: dict[str, ImageFile] = {}
        for given in (described.kernel, *described.initrd):
            path = self._root / given
            served = ascii_lower(path.name)
            if served in files:
                raise ImageError(
                    f"images.{name}: {files[served].path} and {path} would both be served as "
                    f"{name}/{served}; rename one of them"
                )
            files[served] = _on_disk(name, path)
        kernel, *initrds = files
        return BootImage(
            name=name,
            kind="linux",
            title=name,
            build="",
            kernel=kernel,
            modules=tuple(Module(initrd) for initrd in initrds),
            options=described.options,
            files=files,
            netboot=described.netboot,
        )

    def _with_module(self, image: BootImage) -> BootImage:
        name = _MODULE_NAME[image.kind]
        if image.kind not in self._made:
            self._made[image.kind] = self._write_module(image.kind)
        modules = (*(module for module in image.modules if module.name != name), Module(name))
        cfg = image.boot_cfg and image.boot_cfg.replaced(modules=" --- ".join(map(str, modules)))
        files = {**image.files, name: self._made[image.kind]}
        return replace(image, modules=modules, boot_cfg=cfg, files=files)

    def _write_module(self, kind: Kind) -> ImageFile:
        try:
            body = self._make_module(self._public_key, kind)
        except (BootModuleError, OSError) as error:
            raise ImageError(f"the boot module for {kind} cannot be made: {error}") from error
        digest = hashlib.sha256(body).hexdigest()
        target = self._modules_dir / f"{digest}{_MODULE_NAME[kind].removeprefix('midwife')}"
        try:
            self._modules_dir.mkdir(parents=True, exist_ok=True)
            with replacing(target) as out:
                out.write(body)
        except OSError as error:
            raise ImageError(f"cannot write the boot module to {target}: {error.strerror}") from None
        return ImageFile(target, len(body), digest)

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.names(), 1)
        known = ", ".join(self.names()) or "none; `midwife image import FILE.iso` brings one"
        hint = f"did you mean {near[0]}?" if near else f"there are: {known}"
        return f"no image is called {name!r}; {hint}"


def _changed(status: os.stat_result) -> tuple[int, int, int]:
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _verified(directory: Path) -> tuple[int, ...]:
    """Of what the last verification left: another process may have found the image broken, or whole again."""
    try:
        return _changed((directory / VERIFIED).stat())
    except OSError:
        return ()


def _from_manifest(directory: Path, manifest: Manifest) -> BootImage:
    root = directory / FILES
    files = {name: ImageFile(root / name, entry.size, entry.sha256) for name, entry in manifest.files.items()}
    try:
        cfg = parse(manifest.boot_cfg)
    except BootCfgError as error:
        raise ImageError(f"image {manifest.name}: {error}; import it again") from None
    found = boot_files(cfg, manifest.files.keys())
    if found.missing or not found.cfg.kernel:
        raise ImageError(f"image {manifest.name} is incomplete: {', '.join(found.missing)}; import it again")
    for loader, places in LOADERS.items():
        if place := next((place for place in places if place in files), None):
            files[loader] = files[place]
    return BootImage(
        name=manifest.name,
        kind="esxi",
        title=manifest.title,
        build=manifest.build,
        kernel=found.cfg.kernel,
        modules=found.cfg.modules,
        options="",
        files=files,
        boot_cfg=found.cfg,
        netboot=manifest.netboot,
        hardware=manifest.hardware,
    )


class _Hardware(Mapping[str, tuple[HardwareRule, ...]]):
    """Reads the one manifest that a decision is about, and not those of all images."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def __getitem__(self, name: str) -> tuple[HardwareRule, ...]:
        if name not in self._library.names():
            raise KeyError(name)
        try:
            return self._library.describe(name).hardware
        except ImageError:
            return ()  # it cannot be served, and whoever tries says why

    def __iter__(self) -> Iterator[str]:
        return iter(self._library.names())

    def __len__(self) -> int:
        return len(self._library.names())


def _on_disk(image: str, path: Path) -> ImageFile:
    try:
        if not path.is_file():
            raise ImageError(f"images.{image} in midwife.yaml: {path} is not there, or is not a file")
        return ImageFile(path, path.stat().st_size)
    except OSError as error:
        raise ImageError(f"images.{image} in midwife.yaml: cannot read {path}: {error.strerror}") from None
