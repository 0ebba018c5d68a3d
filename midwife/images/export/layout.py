"""What lies where on boot media and in a netboot tree, as a list of files whose bytes are fetched when written.

Source: the layout of ESXi's installer ISOs and the key order of their boot.cfg. Every payload's size and
checksum are checked while its bytes pass; nothing is written here.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from midwife.images.depot.formats.imgdb import write_imgdb
from midwife.images.depot.formats.profilexml import write_profile
from midwife.images.errors import FormatError, ImageError, ProfileError
from midwife.images.export.media import Medium
from midwife.images.export.modules import ModulePlan, base_version, media_path, plan_modules
from midwife.images.objects.package import Payload
from midwife.images.objects.profile import ImageProfile
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.archives.payload import check_payload
from midwife.images.vib.content import Vib
from midwife.wire.bootcfg import BootCfg, BootCfgError, parse, render

__all__ = ["Layout", "MediaFile", "lay_out", "payload_chunks"]

Vibs = Callable[[str], Vib]

_LOADER_TYPES = frozenset({"boot_com32_bios", "boot_loader_efi"})
_LOADERS = ("mboot.c32", "efi/boot/bootx64.efi", "efi/boot/bootaa64.efi", "efi/boot/crypto64.efi")
_INSTALLER = (
    *("isolinux.bin", "menu.c32", "safeboot.c32", "efiboot.img"),
    *("efi/boot/safeboot.efi", "efi/boot/bootia32.efi", ".discinfo"),
)
# Modules that VMware's media writer makes (7.0 U2 and later) and no VIB holds; what is in them is not
# documented. They belong to one build.
_MADE_BY_VMWARE = ("basemisc.tgz", "resvibs.tgz", "esxiodpt.tgz", "imgpayld.tgz")


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file of the tree."""

    path: str
    """Lower case, ``/`` between directories."""
    size: int
    chunks: Callable[[], Iterator[bytes]]
    """The bytes; raises ImageError (FormatError for a wrong checksum) before the last one is believed."""
    link: Path | None = None
    """A file that holds the same bytes and is never changed."""
    sha256: str | None = None
    """Known beforehand, and what ``chunks`` checks; lower case."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All files, sorted by path."""

    files: tuple[MediaFile, ...]
    boot_cfg: BootCfg
    plan: ModulePlan
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def paths(self) -> frozenset[str]:
        """Of all files."""
        return frozenset(file.path for file in self.files)


def lay_out(
    resolved: ResolvedProfile,
    vibs: Vibs,
    *,
    installer: bool,
    kernelopt: str = "",
    medium: Medium | None = None,
) -> Layout:
    """``installer``: a whole medium, paths in its boot.cfg with a leading slash; else modules and loaders only.

    ``medium`` gives the loaders that no VIB of the profile brings. Raises ImageError.
    """
    plan = plan_modules(resolved)
    found = {vib_id: vibs(vib_id) for vib_id in sorted(resolved.packages)}
    for vib_id, vib in found.items():
        if vib.package.payloads != resolved.packages[vib_id].payloads:
            raise FormatError(
                f"VIB {vib_id}: its payloads are not those that its depot lists; add the depot again"
            )
    files = _Files()
    for planned in plan.loads:
        files.add_payload(planned.name, found[planned.vib], planned.payload)
    lacking: set[str] = set()
    for planned in plan.others:
        if resolved.packages[planned.vib].dpu_only:
            if not installer:
                continue
            try:  # a medium has everything; a loader for ARM must not take the host's name
                files.add_payload(planned.name, found[planned.vib], planned.payload)
            except (FormatError, ProfileError):
                raise
            except ImageError:  # a depot that was made of VMware's ISO has not these files
                lacking.add(planned.vib)
        elif installer or planned.payload.type in _LOADER_TYPES:
            path = media_path(planned, resolved.packages[planned.vib])
            fits = files.free(path) and len(path.rpartition("/")[2]) <= _LONGEST
            files.add_payload(path if fits else planned.name, found[planned.vib], planned.payload)
            if fits and planned.payload.type == "boot_iso_bios":
                # Its first bytes are changed on an ISO (boot information table), so here is the VIB's own too.
                files.add_payload(planned.name, found[planned.vib], planned.payload)
    if lacking:
        files.warnings.append(
            f"the files of {len(lacking)} VIBs for DPUs are left out: no depot has them; hosts don't need them"
        )
    files.add_bytes("imgdb.tgz", write_imgdb(_with_names(resolved, plan), found.values()))
    names = [*(module.name for module in plan.modules), "imgdb.tgz"]
    build = base_version(resolved)
    if medium is not None:
        names += _from_medium(files, medium, build, installer=installer)
    cfg = _boot_cfg(
        resolved.profile.name, build, plan.kernel.name, names, kernelopt, "/" if installer else ""
    )
    files.add_bytes("boot.cfg", render(cfg))
    if installer:
        files.add_bytes("efi/boot/boot.cfg", render(cfg))
        files.add_bytes("upgrade/profile.xml", write_profile(resolved.profile))
    return Layout(tuple(sorted(files.all, key=lambda file: file.path)), cfg, plan, tuple(files.warnings))


def payload_chunks(vib: Vib, payload: Payload) -> Iterator[bytes]:
    """The payload's bytes, checked on the way by the sum over them as stored (else, by whatever it has).

    Raises FormatError, after the last chunk, if they are not what the descriptor says.
    """
    where = f"VIB {vib.package.id}, payload {payload.name}"
    kind, value = next(
        ((kind, value) for kind in ("sha-256", "sha-1") if (value := payload.stored_checksum(kind))), ("", "")
    )
    if not value:
        check_payload(vib, payload)
    digest = hashlib.sha1(usedforsecurity=False) if kind == "sha-1" else hashlib.sha256()
    size = 0
    for chunk in vib.chunks(payload.name):
        size += len(chunk)
        digest.update(chunk)
        yield chunk
    if size != payload.size:
        raise FormatError(f"{where}: {size} bytes instead of {payload.size}; get the VIB again")
    if value and digest.hexdigest() != value:
        raise FormatError(f"{where}: the {kind} sum is not the descriptor's: damaged; get the VIB again")


class _Files:
    """What was put where so far."""

    def __init__(self) -> None:
        self.all: list[MediaFile] = []
        self.warnings: list[str] = []
        self._taken: set[str] = set()
        self._directories: set[str] = set()

    def free(self, path: str) -> bool:
        """Whether neither a file nor a directory has this path, nor a file that of one of its directories."""
        return not {path, *_parents(path)} & self._taken and path not in self._directories

    def add(self, file: MediaFile) -> None:
        if not self.free(file.path):
            raise ProfileError(f"two files of the image would be called {file.path}")
        self._taken.add(file.path)
        self._directories |= _parents(file.path)
        self.all.append(file)

    def add_payload(self, path: str, vib: Vib, payload: Payload) -> None:
        self.add(
            MediaFile(
                path,
                payload.size,
                lambda: payload_chunks(vib, payload),
                vib.path(payload.name),
                payload.stored_checksum(),
            )
        )

    def add_bytes(self, path: str, data: bytes) -> None:
        self.add(MediaFile(path, len(data), lambda: iter((data,) if data else ())))

    def add_from(self, medium: Medium, path: str) -> None:
        self.add(MediaFile(path, medium.sizes[path], lambda: medium.chunks(path)))


def _parents(path: str) -> set[str]:
    return {path[:at] for at, character in enumerate(path) if character == "/"}


def _from_medium(files: _Files, medium: Medium, build: str, *, installer: bool) -> Sequence[str]:
    """Loaders and other files that the profile lacks; gives the names of more modules."""
    wanted = [*_LOADERS, *(_INSTALLER if installer else ())]
    if installer:
        wanted += [name for name in medium.sizes if _UPGRADE.fullmatch(name) and name not in _DESCRIBING]
    for name in wanted:
        if name in medium.sizes and files.free(name):
            files.add_from(medium, name)
    made = [name for name in _MADE_BY_VMWARE if name in medium.sizes]
    if not made:
        return []
    theirs = _build_of(medium)
    if theirs != build:
        files.warnings.append(
            f"{', '.join(made)} of {medium.path.name} are left out: they are of build {theirs or 'unknown'}, "
            f"the image profile of {build or 'none'}"
        )
        return []
    for name in made:
        files.add_from(medium, name)
    return made


_LONGEST = 30  # characters of a name on an ISO 9660 medium
_UPGRADE = re.compile(r"upgrade/[a-z0-9_.-]{1,30}")
# These describe the medium's own profile, not the one that is exported.
_DESCRIBING = frozenset({"upgrade/profile.xml", "upgrade/metadata.zip", "upgrade/metadata.xml"})


def _build_of(medium: Medium) -> str:
    try:
        return parse(medium.read("boot.cfg", 1 << 20)).build
    except BootCfgError:
        return ""


def _with_names(resolved: ResolvedProfile, plan: ModulePlan) -> ImageProfile:
    """With the file name of every payload, as an image database has it; VIBs for DPUs are not booted."""
    names: dict[str, dict[str, str]] = {}
    for (vib_id, payload), name in plan.names.items():
        names.setdefault(vib_id, {})[payload] = name
    vibs = (
        replace(vib, payloads=names.get(vib.id, {}), boot=vib.boot and not resolved.packages[vib.id].dpu_only)
        for vib in resolved.profile.vibs
    )
    return replace(resolved.profile, vibs=tuple(vibs))


def _boot_cfg(
    name: str, build: str, kernel: str, modules: Sequence[str], kernelopt: str, root: str
) -> BootCfg:
    values: Mapping[str, str] = {
        "bootstate": "0",
        "title": f"Loading {name}",
        "timeout": "5",
        "prefix": "",
        "kernel": root + kernel,
        "kernelopt": kernelopt,
        "modules": " --- ".join(root + module for module in modules),
        "build": build,
        "updated": "0",
    }
    return BootCfg().replaced(**values)
