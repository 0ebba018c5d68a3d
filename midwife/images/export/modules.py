"""Which payloads of an image profile are boot modules, under which 8.3 name, loaded in which order.

The rules are ESXi's own, confirmed on the lists of ESXi 6.0, 6.7, 8.0.2 and 8.0.3. VIBs for DPUs alone take no
part: public profiles of 8.0 have them, the boot.cfg of the same release has neither them nor gaps in its names.
Works on descriptors only and touches no bytes of a VIB.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from midwife.images.errors import ProfileError
from midwife.images.objects.package import Payload, SoftwarePackage
from midwife.images.profile.resolved import ResolvedProfile
from midwife.wire.bootcfg import ascii_lower

__all__ = ["MODULE_TYPES", "ModulePlan", "PlannedFile", "base_version", "media_path", "plan_modules"]

_TARDISKS = frozenset({"vgz", "tgz", "vzstd", "installer_vgz"})
MODULE_TYPES = _TARDISKS | {"boot"}
"""Payload types that mboot loads; everything else on boot media is a loader, or a file for the installer."""

_FIRST = 100  # the boot-order that puts a tardisk before all others: sb, s, vim, vmx of esx-base
_LAST = 1 << 62  # a boot payload without boot-order comes after those that have one
_MOST = 256  # two hexadecimal digits
_VFAT = re.compile(r"[a-z0-9_~$+-]{1,8}\.[a-z0-9_~$+-]{1,3}")
_FIXED = re.compile(r"[a-z0-9_~$+-][a-z0-9_.~$+-]{0,30}")
_ODD = re.compile(r"[^a-z0-9_.]")
# What the writers of trees and ISOs put into the root themselves: no payload may take such a name.
_RESERVED = frozenset(
    (
        *("boot.cfg", "isolinux.cfg", "isolinux.bin", "mboot.c32", "menu.c32", "safeboot.c32", "efiboot.img"),
        *(
            "boot.cat",
            ".discinfo",
            "imgdb.tgz",
            "basemisc.tgz",
            "resvibs.tgz",
            "esxiodpt.tgz",
            "imgpayld.tgz",
        ),
        *("midwife.tgz", "mboot.efi", "mbootaa64.efi", "crypto64.efi", "efi", "upgrade"),
    )
)


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A payload and the name it gets on boot media (lower case)."""

    vib: str
    """VIB id."""
    payload: Payload
    name: str
    """8.3 form: ``nvmxnet3.v00``."""


@dataclass(frozen=True, slots=True)
class ModulePlan:
    """Every payload of a profile is in exactly one of ``kernel``, ``modules`` and ``others``."""

    kernel: PlannedFile
    modules: tuple[PlannedFile, ...]
    """After the kernel, in loading order."""
    others: tuple[PlannedFile, ...]
    """Loaders, the installer's files, payloads of VIBs that are not booted or for DPUs; by VIB id, as in the
    descriptor.
    """
    names: Mapping[tuple[str, str], str]
    """(VIB id, payload name) to file name."""

    @property
    def loads(self) -> tuple[PlannedFile, ...]:
        """Kernel and modules."""
        return (self.kernel, *self.modules)


def plan_modules(resolved: ResolvedProfile) -> ModulePlan:
    """Names and order of everything in a profile.

    Names that the profile fixes itself (one that came with an image database) are kept. Raises ProfileError
    if a VIB is missing, there is nothing to boot, or there are more than 256 names of one stem.
    """
    if resolved.missing:
        raise ProfileError(
            f"image profile {resolved.profile.name!r}: {len(resolved.missing)} of its VIBs are in no depot: "
            f"{', '.join(resolved.missing[:5])}; add the depot that has them with `midwife depot add`"
        )
    names = _names(resolved)
    packages = [resolved.packages[vib_id] for vib_id in sorted(resolved.packages)]
    files = [
        PlannedFile(package.id, payload, names[package.id, payload.name])
        for package in packages
        for payload in package.payloads
    ]
    overlay = {package.id for package in packages if package.overlay}
    unbooted = {vib.id for vib in resolved.profile.vibs if not vib.boot}
    unbooted |= {package.id for package in packages if package.dpu_only}
    loaded = [file for file in files if file.payload.type in MODULE_TYPES and file.vib not in unbooted]
    kernels = [file for file in loaded if file.payload.type == "boot"]
    if not kernels:
        raise ProfileError(
            f"image profile {resolved.profile.name!r} has no bootable kernel module, so nothing can start it; "
            "add the base VIB (esx-base) of an ESXi depot"
        )
    kernels.sort(key=lambda file: _LAST if file.payload.boot_order is None else file.payload.boot_order)
    tardisks = [file for file in loaded if file.payload.type in _TARDISKS]
    base = [file for file in tardisks if file.vib not in overlay]
    # ESXi puts these to the front one after the other, so the last one found is loaded first.
    first = [file for file in base if file.payload.boot_order == _FIRST][::-1]
    rest = [file for file in base if file.payload.boot_order != _FIRST]
    on_top = [file for file in tardisks if file.vib in overlay]
    order = [*kernels, *first, *rest, *on_top]
    chosen = {(file.vib, file.payload.name) for file in order}
    others = [file for file in files if (file.vib, file.payload.name) not in chosen]
    return ModulePlan(order[0], tuple(order[1:]), tuple(others), names)


def base_version(resolved: ResolvedProfile) -> str:
    """``8.0.3-0.35.24280767``: what boot.cfg calls ``build``. The version of esx-base; where a profile has
    none, the highest ``esx-version`` that is provided; "" without either.
    """
    bases = [one.version_object for one in resolved.packages.values() if one.name == "esx-base"]
    provided = (provide for package in resolved.packages.values() for provide in package.all_provides)
    bases = bases or [one.release for one in provided if one.name == "esx-version" and one.release]
    return str(max(bases)) if bases else ""


def media_path(file: PlannedFile, package: SoftwarePackage) -> str:
    """Where a file of ``ModulePlan.others`` lies on ESXi's own installer media, lower case.

    By payload type; the type alone does not tell a loader's file name, so that is the payload's own.
    """
    payload = file.payload
    own = _ODD.sub(lambda match: match[0] if match[0] == "-" else "_", ascii_lower(payload.name)).lstrip(".")
    own = own or file.name
    match payload.type:
        case "boot_iso_bios":
            return "isolinux.bin" if own in ("isolinux", "isolinux.bin") else own
        case "boot_com32_bios":
            return own if "." in own else f"{own}.c32"
        case "boot_pxe_bios":
            return own if "." in own else f"{own}.0"
        case "boot_loader_efi":
            own = own.removesuffix(".efi")
            return f"efi/boot/{_EFI.get(own, own)}.efi"
        case "eltorito_image_efi":
            return "efiboot.img"
        case "upgrade":
            return f"upgrade/{own}"
        case "text":
            prefix = f"{package.vendor}-{package.name}".lower()
            return _ODD.sub(lambda match: match[0] if match[0] == "-" else "_", f"{prefix}-{own}")
        case _:
            return file.name


# The loader that the firmware finds by itself is called bootx64.efi, whatever its VIB calls it.
_EFI = {"mboot": "bootx64", "mboot64": "bootx64", "mbootx64": "bootx64", "mbootaa64": "bootaa64"}


def _names(resolved: ResolvedProfile) -> dict[tuple[str, str], str]:
    names: dict[tuple[str, str], str] = {}
    taken = set(_RESERVED)
    for vib in resolved.profile.vibs:
        package = resolved.packages.get(vib.id)
        have = {payload.name for payload in package.payloads} if package else set()
        for payload_name, given in vib.payloads.items():
            name = ascii_lower(given)
            if payload_name in have and _usable(_FIXED, name) and name not in taken:
                names[vib.id, payload_name] = name
                taken.add(name)
    left = [
        (vib_id, payload) for vib_id, payload in _payloads(resolved) if (vib_id, payload.name) not in names
    ]
    left.sort(key=lambda one: resolved.packages[one[0]].dpu_only)  # stable: what the host boots comes first
    for vib_id, payload in left:
        wish = ascii_lower(payload.vfat_name or "")
        if _usable(_VFAT, wish) and wish not in taken:
            names[vib_id, payload.name] = wish
            taken.add(wish)
    for vib_id, payload in left:
        if (vib_id, payload.name) not in names:
            name = _numbered(vib_id, payload, taken)
            names[vib_id, payload.name] = name
            taken.add(name)
    return names


def _usable(form: re.Pattern[str], name: str) -> bool:
    """``---`` separates modules in boot.cfg."""
    return form.fullmatch(name) is not None and "---" not in name


def _payloads(resolved: ResolvedProfile) -> Iterator[tuple[str, Payload]]:
    for vib_id in sorted(resolved.packages):
        for payload in resolved.packages[vib_id].payloads:
            yield vib_id, payload


def _numbered(vib_id: str, payload: Payload, taken: set[str]) -> str:
    """The first free of ``stem.v00`` to ``stem.vff``."""
    stem = _ODD.sub("_", ascii_lower(payload.name)[:8]) or "_"
    letter = _ODD.sub("_", ascii_lower(payload.type)[:1]) or "x"
    for number in range(_MOST):
        name = f"{stem}.{letter}{number:02x}"
        if name not in taken:
            return name
    raise ProfileError(
        f"VIB {vib_id}, payload {payload.name!r}: boot media have room for {_MOST} files called {stem}.{letter}…, "
        "and all are taken; leave some of these VIBs out"
    )
