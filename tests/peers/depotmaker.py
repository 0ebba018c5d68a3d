"""Writers of offline bundles, image databases and installer ISOs that share no code with midwife.

By the layouts of real depots and ISOs (facts on depots, 8.3 names and module order), and by the odd ones that
people have: a zip in a zip, metadata at the root under another name, names with a leading slash.
"""

import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote
from xml.sax.saxutils import escape

from tests.peers.esxiso import boot_cfg, write_iso
from tests.peers.vibmaker import MadePayload, MadeVib

__all__ = [
    "Content",
    "bulletin_xml",
    "imgdb_tgz",
    "installer_files",
    "media_names",
    "module_order",
    "profile_xml",
    "write_bundle",
    "write_installer_iso",
]

Layout = Literal["vmware", "v-front"]
LOADERS = ("boot_com32_bios", "boot_iso_bios", "boot_loader_efi", "eltorito_image_efi")
_LOADED = ("vgz", "tgz", "vzstd", "installer_vgz")


@dataclass(frozen=True)
class Content:
    """A depot: the VIBs of its profiles, others beside them, bulletins."""

    kind: str
    """``8.0.3``"""
    build: str
    """Version of esx-base."""
    profiles: Mapping[str, tuple[str, ...]]
    """Name to VIB ids; the first is the standard one."""
    vibs: tuple[MadeVib, ...] = field(repr=False)
    """Of the profiles."""
    extras: tuple[MadeVib, ...] = field(default=(), repr=False)
    """In the depot, in no profile."""
    vendor: str = "VMware, Inc."
    acceptance: str = "partner"

    @property
    def profile_name(self) -> str:
        """The standard one."""
        return next(iter(self.profiles))

    @property
    def everything(self) -> dict[str, MadeVib]:
        """All VIBs by id, sorted."""
        return {vib.id: vib for vib in sorted((*self.vibs, *self.extras), key=lambda one: one.id)}

    @property
    def standard(self) -> tuple[MadeVib, ...]:
        """The VIBs of the standard profile, sorted by id."""
        everything = self.everything
        return tuple(everything[one] for one in sorted(self.profiles[self.profile_name]))

    def vib(self, name: str) -> MadeVib:
        """By name: the one of the profiles, else an extra."""
        return next(one for one in (*self.vibs, *self.extras) if one.name == name)

    @property
    def has_components(self) -> bool:
        """Whether its bulletins are components: 7.0 and later."""
        return int(self.kind.split(".")[0]) >= 7


def write_bundle(
    path: Path,
    content: Content,
    *,
    layout: Layout = "vmware",
    nested: Literal["", "stored", "deflated"] = "",
    leading_slash: bool = False,
    deflate_vibs: bool = False,
    change_vib: Callable[[str, bytes], bytes] = lambda _, data: data,
    change_metadata: Callable[[dict[str, bytes]], None] = lambda _: None,
    change: Callable[[dict[str, bytes]], None] = lambda _: None,
) -> Path:
    """An offline bundle. The ``change`` functions see members by name before they are packed.

    ``change_metadata`` those of metadata.zip, ``change`` those of the bundle, ``change_vib`` each .vib by id.
    """
    vibs = content.everything
    flat = layout == "v-front"
    places = {one.id: f"{one.id}.vib" if flat else one.depot_path for one in vibs.values()}
    metadata_name = f"Lab-{content.kind}-depot-metadata.zip" if flat else "metadata.zip"
    inner = metadata_members(content, places)
    change_metadata(inner)
    members = {
        "index.xml": _index(),
        "vendor-index.xml": _vendor_index(content.kind, metadata_name),
        metadata_name: _zip(inner),
    }
    members |= {places[one.id]: change_vib(one.id, one.data) for one in vibs.values()}
    change(members)
    if leading_slash:
        members = {"/" + name: data for name, data in members.items()}
    if not nested:
        _write_zip(path, members, deflate_vibs)
        return path
    out = io.BytesIO()
    _write_zip(out, members, deflate_vibs)
    with zipfile.ZipFile(path, "w") as outer:
        kind = zipfile.ZIP_STORED if nested == "stored" else zipfile.ZIP_DEFLATED
        outer.writestr(zipfile.ZipInfo(path.stem + "-inner.zip"), out.getvalue(), kind)
    return path


def metadata_members(content: Content, places: Mapping[str, str]) -> dict[str, bytes]:
    """What metadata.zip holds; the numbers in the names mean nothing, some are negative."""
    vibs = content.everything
    members = {"vmware.xml": b"<metadataResponse><version>3.0</version></metadataResponse>"}
    members["vendor-index.xml"] = _vendor_index(content.kind, "metadata.zip")
    members["notifications.xml"] = b"<notifications/>"
    for one in vibs.values():
        number = int(one.sha256[:14], 16) - (1 << 55)
        members[f"vibs/{one.name}-{number}.xml"] = one.metadata_xml(places[one.id])
    for name, ids in content.profiles.items():
        members[f"profiles/{name}"] = profile_xml(content, name, ids)
    for number, (bulletin, data) in enumerate(bulletin_xmls(content).items()):
        members[f"bulletins/{bulletin}-{number}.xml"] = data
    return members


def bulletin_xmls(content: Content) -> dict[str, bytes]:
    """One for ESXi itself and, from 7.0 on, a component for each other VIB of a profile."""
    if not content.has_components:
        bulletin = f"ESXi{content.kind.replace('.', '')}-GA"
        return {bulletin: bulletin_xml(bulletin, content.kind, [one.id for one in content.vibs])}
    out = {}
    own = [one for one in content.vibs if one.vendor == "VMware"]
    groups: list[tuple[str, str, list[MadeVib]]] = [("ESXi", content.build, own)]
    groups += [(one.name, one.version, [one]) for one in content.vibs if one not in own]
    for name, version, members in groups:
        ids = [one.id for one in members]
        out[f"{name}_{version}"] = bulletin_xml(f"{name}_{version}", content.kind, ids, (name, version))
    return out


def bulletin_xml(
    id_: str, kind: str, vib_ids: Iterable[str], component: tuple[str, str] | None = None
) -> bytes:
    """A bulletin; a component if its name and version are given."""
    spec = ""
    if component:
        spec = f'<componentNameSpec name="{component[0]}" uiString="{component[0]} for ESXi"/>'
        spec += f'<componentVersionSpec version="{component[1]}" uiString="{component[1]}"/>'
    vibs = "".join(f"<vib><vibID>{one}</vibID></vib>" for one in vib_ids)
    return (
        f"<bulletin><id>{id_}</id><vendor>VMware, Inc.</vendor><summary>{id_}</summary>"
        "<severity>general</severity><category>Enhancement</category><urgency>Important</urgency><releaseType>extension</releaseType>"
        f"<description>{id_}</description><kbUrl>http://example.com/kb</kbUrl><contact>nobody@example.com</contact>"
        f"{spec}<releaseDate>2024-06-12T00:00:00+00:00</releaseDate><platforms>"
        f'<softwarePlatform version="{kind.split(".")[0]}.*" locale="" productLineID="embeddedEsx"/></platforms>'
        f"<vibList>{vibs}</vibList></bulletin>"
    ).encode()


def profile_xml(
    content: Content, name: str, ids: Iterable[str], names: Mapping[tuple[str, str], str] | None = None
) -> bytes:
    """``names`` (VIB id, payload: file name): the form of image databases."""
    guid = hashlib.md5(name.encode()).hexdigest()
    entries = ""
    for one in sorted(ids):
        payloads = ""
        if names is not None:
            given = [(payload, file) for (vib_id, payload), file in names.items() if vib_id == one]
            payloads = "".join(f'<payload payload-name="{n}">{file}</payload>' for n, file in given)
            payloads = f"<payloads>{payloads}</payloads>"
        entries += f"<vib><vib-id>{one}</vib-id>{payloads}</vib>"
    return (
        f"<imageprofile><name>{escape(name)}</name><creator>{content.vendor}</creator><profileID>{guid}</profileID>"
        "<creationtime>2024-06-12T09:20:00.116999+00:00</creationtime>"
        "<modifiedtime>2024-06-12T09:20:00.116999+00:00</modifiedtime><serialno>0</serialno>"
        f"<description>{escape(name)}: a look-alike</description><readonly>true</readonly>"
        f"<viblist>{entries}</viblist><acceptancelevel>{content.acceptance}</acceptancelevel></imageprofile>"
    ).encode()


def media_names(vibs: Iterable[MadeVib]) -> dict[tuple[str, str], str]:
    """(VIB id, payload name) to the 8.3 name on boot media; VIBs for DPUs take what is left."""
    vibs = sorted(vibs, key=lambda one: (one.dpu, one.id))
    ordered = [(one.id, payload) for one in vibs for payload in one.payloads]
    names: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    for vib_id, payload in ordered:
        wanted = (payload.vfat_name or "").lower()
        if wanted and wanted not in taken:
            names[vib_id, payload.name] = wanted
            taken.add(wanted)
    for vib_id, payload in ordered:
        if (vib_id, payload.name) not in names:
            stem = payload.name[:8].replace("-", "_").lower()
            numbers = (f"{stem}.{payload.type[0]}{number:02x}" for number in range(256))
            names[vib_id, payload.name] = free = next(name for name in numbers if name not in taken)
            taken.add(free)
    return {(vib_id, payload.name): names[vib_id, payload.name] for vib_id, payload in ordered}


def module_order(vibs: Iterable[MadeVib]) -> list[tuple[str, MadePayload]]:
    """(VIB id, payload) as ESXi loads them, the kernel first."""
    vibs = sorted((one for one in vibs if not one.dpu), key=lambda one: one.id)
    ordered = [(one, payload) for one in vibs for payload in one.payloads]
    boot = [(one.id, payload) for one, payload in ordered if payload.type == "boot"]
    boot.sort(key=lambda pair: pair[1].boot_order or 0)
    early, rest, overlay = [], [], []
    for one, payload in ordered:
        if payload.type in _LOADED:
            late = overlay if one.overlay else rest
            (early if payload.boot_order == 100 and not one.overlay else late).append((one.id, payload))
    return boot + early[::-1] + rest + overlay


def imgdb_tgz(content: Content, vibs: Iterable[MadeVib] | None = None) -> bytes:
    """The image database of the standard profile; with .orig and .sig from ESXi 6.5 on."""
    vibs = tuple(content.standard if vibs is None else vibs)
    root = "var/db/esximg/"
    files: dict[str, bytes] = {}
    for one in vibs:
        name = f"{root}vibs/{one.name}-{int(one.sha256[:15], 16)}.xml"
        files[name] = one.descriptor
        if not content.kind.startswith(("5.", "6.0")):
            files[name + ".orig"] = one.descriptor
            files[name + ".sig"] = one.signature
    name = quote(content.profile_name, safe="")[:50]
    xml = profile_xml(content, content.profile_name, [one.id for one in vibs], media_names(vibs))
    files[f"{root}profiles/{name}{int(hashlib.sha256(xml).hexdigest()[:15], 16)}"] = xml
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for folder in ("var", "var/db", "var/db/esximg", root + "vibs", root + "profiles"):
            info = tarfile.TarInfo(folder.rstrip("/"))
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 6, mtime=0)


def installer_files(content: Content) -> dict[str, bytes]:
    """Stored name to bytes of the installer ISO of the standard profile."""
    names = media_names(content.standard)
    order = module_order(content.standard)
    files = {names[vib_id, payload.name]: payload.data for vib_id, payload in order}
    modules = [names[vib_id, payload.name] for vib_id, payload in order[1:]]
    files["imgdb.tgz"] = imgdb_tgz(content)
    modules.append("imgdb.tgz")
    if content.has_components:
        modules += ["basemisc.tgz", "imgpayld.tgz"]
        files |= {name: gzip.compress(bytes(1024), mtime=0) for name in modules[-2:]}
    for one in content.standard:
        for payload in one.payloads:
            place = names[one.id, payload.name] if one.dpu else _place(one, payload)
            if place:
                files[place] = payload.data
    config = boot_cfg(content.build, modules)
    files |= {"boot.cfg": config, "efi/boot/boot.cfg": config, "isolinux.cfg": ISOLINUX}
    files[".discinfo"] = f"Version: {content.build}\n".encode()
    files["upgrade/profile.xml"] = profile_xml(
        content, content.profile_name, [one.id for one in content.standard], names
    )
    return files


ISOLINUX = b"""DEFAULT menu.c32
MENU TITLE ESXi Boot Menu
NOHALT 1
PROMPT 0
TIMEOUT 80
LABEL install
  KERNEL mboot.c32
  APPEND -c boot.cfg
  MENU LABEL ESXi Installer
LABEL hddboot
  LOCALBOOT 0x80
  MENU LABEL ^Boot from local disk
"""


def write_installer_iso(path: Path, content: Content) -> Path:
    """As VMware's: plain ISO 9660, names in upper case, what ISO 9660 does not know as ``_``."""
    files = installer_files(content)
    return write_iso(path, {re.sub(r"-|^\.", "_", name): data for name, data in files.items()})


def _place(vib: MadeVib, payload: MadePayload) -> str | None:
    if payload.type == "boot_loader_efi":
        return f"efi/boot/{payload.name.lower()}"
    if payload.type in LOADERS:
        return payload.name
    if payload.type == "upgrade":
        return f"upgrade/{payload.name}"
    return f"vmware-{vib.name}-{payload.name}" if payload.type == "text" else None


def _index() -> bytes:
    return (
        b"<vendorList><vendor><name>VMware</name><code>VMX</code><indexfile>vendor-index.xml</indexfile>"
        b"<patchUrl></patchUrl><relativePath></relativePath><content><name>VMware ESX</name>"
        b"<type>http://www.vmware.com/depotmanagement/esx</type></content></vendor></vendorList>"
    )


def _vendor_index(kind: str, metadata: str) -> bytes:
    version = re.sub(r"\.\d+$", ".0", kind)
    return (
        f"<metaList><metadata><productId>embeddedEsx</productId><version>{version}</version><locale></locale>"
        f"<url>{metadata}</url><channelName>default</channelName></metadata></metaList>"
    ).encode()


def _zip(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    _write_zip(out, members, deflate_vibs=False)
    return out.getvalue()


def _write_zip(target: Path | io.BytesIO, members: Mapping[str, bytes], deflate_vibs: bool) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            stored = name.endswith((".vib", ".zip")) and not deflate_vibs
            kind = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, (2024, 6, 12, 9, 20, 0)), data, kind)
