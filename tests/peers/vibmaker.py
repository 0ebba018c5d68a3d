"""A writer of VIBs for the tests that shares no code with midwife, so that no mistake hides in both.

Plain struct, gzip, hashlib and string formatting, by the facts of the ar container, the descriptor and vmtar.
It can also write what no vendor would: ``edit`` changes the descriptor, ``swap`` the payload after its sums.
"""

import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

import zstandard

from tests.peers.pki import LEVELS, Pki

__all__ = ["MadePayload", "MadeVib", "ar", "make_payload", "make_vib", "tar", "vib", "vmtar"]

Tree = Mapping[str, bytes | str]
"""Path without leading slash to contents; a str is the target of a symbolic link; sticky files by ``sticky``."""


@dataclass(frozen=True)
class MadePayload:
    """A payload as stored, and its unpacked bytes if it is packed."""

    name: str
    type: str
    data: bytes = field(repr=False)
    unpacked: bytes | None = field(default=None, repr=False)
    boot_order: int | None = None
    vfat_name: str | None = None
    files: tuple[str, ...] = ()
    once: bytes | None = field(default=None, repr=False)
    """After removing one gzip layer (vzstd)."""

    def xml(self, *, sizes: bool, old: bool) -> str:
        """The element. ``sizes``: with uncompressed-size; ``old``: sha-256 and sha-1 gunzip only."""
        sums = [("sha-256", "", self.data)]
        if self.unpacked is not None:
            sums.append(("sha-1", "gunzip", self.unpacked))
            sums += [] if old else [("sha-256", "gunzip", self.unpacked)]
        if self.once is not None:
            sums.append(("sha-256-gunzip1", "", self.once))
        if self.name == "b":
            sums.append(("sha-256", "txt-mle", b"measured launch, which nobody can compute here"))
        text = f'<payload name="{self.name}" type="{self.type}" size="{len(self.data)}"'
        text += "" if self.boot_order is None else f' boot-order="{self.boot_order}"'
        text += "" if self.vfat_name is None else f' vfat-name="{self.vfat_name}"'
        if sizes and self.unpacked is not None:
            text += f' uncompressed-size="{len(self.unpacked)}"'
        text += ">"
        for kind, process, data in sums:
            value = hashlib.new(kind.split("-gunzip")[0].replace("-", ""), data).hexdigest()
            how = f' verify-process="{process}"' if process else ""
            text += f'<checksum checksum-type="{kind}"{how}>{value}</checksum>'
        return text + "</payload>"


@dataclass(frozen=True)
class MadeVib:
    """A VIB and what went into it."""

    vendor: str
    type: str
    name: str
    version: str
    acceptance: str
    descriptor: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    payloads: tuple[MadePayload, ...] = field(repr=False)
    data: bytes = field(repr=False)
    """The .vib file."""
    overlay: bool = False
    dpu: bool = False
    """For DPUs only: hosts do not load it."""

    @property
    def id(self) -> str:
        """vendor_type_name_version."""
        return f"{self.vendor}_{self.type}_{self.name}_{self.version}"

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def depot_path(self) -> str:
        """Where VMware's depots keep it."""
        return f"vib20/{self.name}/{self.id}.vib"

    def metadata_xml(self, relative_path: str | None = None) -> bytes:
        """The descriptor as depots have it: with place, size and sum of the file."""
        extra = f"<relative-path>{escape(relative_path or self.depot_path)}</relative-path>"
        extra += f"<packed-size>{len(self.data)}</packed-size>"
        extra += f'<checksum checksum-type="sha-256">{self.sha256}</checksum>'
        return self.descriptor.replace(b"<payloads>", extra.encode() + b"<payloads>", 1)


def vmtar(files: Tree, *, sticky: Iterable[str] = (), align: int = 4096) -> bytes:
    """All headers first, then the data at the offsets they name; parent directories are added."""
    headers = bytearray()
    entries = _with_parents(files)
    slots = sum(3 if len(name) > 100 else 1 for name, _ in entries) + 1
    offset = -(-slots * 512 // align) * align
    body = bytearray()
    for name, content in entries:
        if len(name) > 100:
            long = name.encode() + b"\0"
            headers += _visor_header("././@LongLink", 0, len(long), b"L", "", 0) + long.ljust(512, b"\0")
            headers += _visor_header(name[:100], *_visor_fields(content, name in sticky, offset + len(body)))
        else:
            headers += _visor_header(name, *_visor_fields(content, name in sticky, offset + len(body)))
        if isinstance(content, bytes):
            body += content + bytes(-len(content) % align)
    return bytes(headers).ljust(offset, b"\0") + bytes(body)


def tar(files: Tree, *, sticky: Iterable[str] = ()) -> bytes:
    """The old GNU format, owner root, no time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in _with_parents(files):
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.mode, info.size = 0o1644 if name in sticky else 0o644, len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def make_payload(
    name: str,
    content: Tree | bytes,
    type: str = "vgz",
    *,
    boot_order: int | None = None,
    vfat_name: str | None = None,
    trailer: bytes = b"",
    level: int = 6,
    sticky: Iterable[str] = (),
) -> MadePayload:
    """A tree becomes vmtar (vgz, installer_vgz, vzstd) or tar (tgz); bytes stay, packed for ``boot``.

    ``trailer`` follows the gzip stream, as the signature of a boot payload does.
    """
    files: tuple[str, ...] = ()
    inner = content if isinstance(content, bytes) else b""
    if not isinstance(content, bytes):
        inner = tar(content, sticky=sticky) if type == "tgz" else vmtar(content, sticky=sticky)
        files = tuple(content)
    once = None
    if type in ("vgz", "tgz", "boot", "installer_vgz"):
        data = gzip.compress(inner, level, mtime=0) + trailer
    elif type == "vzstd":
        packer = zstandard.ZstdCompressor(level=3, write_content_size=False).compressobj()
        once = packer.compress(inner) + packer.flush()
        data = gzip.compress(once, 0, mtime=0)
    else:
        return MadePayload(name, type, inner, None, boot_order, vfat_name)
    return MadePayload(name, type, data, inner, boot_order, vfat_name, files, once)


def vib(
    name: str,
    version: str,
    *,
    vendor: str = "VMware",
    type: str = "bootbank",
    payloads: Iterable[MadePayload] = (),
    files: Iterable[str] | None = None,
    depends: Iterable[str] = (),
    conflicts: Iterable[str] = (),
    replaces: Iterable[str] = (),
    provides: Iterable[str] = (),
    acceptance: str = "certified",
    sign: Pki | None = None,
    overlay: bool = False,
    tags: Iterable[str] = (),
    urls: Iterable[tuple[str, str]] = (),
    summary: str = "",
    description: str = "",
    release_date: str = "2024-06-12T09:15:07.000001+00:00",
    maintenance_mode: str = "<maintenance-mode>false</maintenance-mode>",
    hwplatforms: Iterable[str] = (),
    platforms: Iterable[str] = (),
    product: str = "embeddedEsx",
    live: bool = False,
    stateless_ready: bool = True,
    ar_mode: bytes = b"0",
    gnu_names: bool = False,
    sizes: bool = False,
    old_sums: bool = False,
    edit: Callable[[bytes], bytes] | None = None,
    swap: Callable[[str, bytes], bytes] | None = None,
) -> MadeVib:
    """Constraints are written ``esx-base >= 8.0.0``, provides ``vmkapi_2_11_0_0`` or ``esx-version = 8.0.3``.

    ``files`` defaults to what is in the payloads; ``edit`` changes the descriptor before it is signed; ``swap``
    gets each payload's name and bytes and gives the bytes that are stored instead.
    """
    payloads = tuple(payloads)
    listed = [path for payload in payloads for path in payload.files] if files is None else list(files)
    text = (
        f'<vib version="5.0"><type>{type}</type><name>{escape(name)}</name><version>{escape(version)}</version>'
        f"<vendor>{escape(vendor)}</vendor><summary>{escape(summary or name)}</summary>"
        f"<description>{escape(description or f'What {name} does.')}</description>"
        f"<release-date>{release_date}</release-date>"
        f"<urls>{''.join(f'<url key={quoteattr(key)}>{escape(url)}</url>' for key, url in urls)}</urls>"
        f"<relationships><depends>{_relations(depends)}</depends><conflicts>{_relations(conflicts)}</conflicts>"
        f"<replaces>{_relations(replaces)}</replaces><provides>{_provides(provides)}</provides>"
        "<compatibleWith></compatibleWith></relationships>"
        f"<software-tags>{_each('tag', tags)}</software-tags>"
        f"<system-requires>{maintenance_mode}"
        f"{''.join(f'<hwplatform vendor={quoteattr(one)}/>' for one in hwplatforms)}"
        + "".join(
            f'<softwarePlatform version="{one}" locale="" productLineID="{product}"/>' for one in platforms
        )
        + f"</system-requires><file-list>{_each('file', listed)}</file-list>"
        f"<acceptance-level>{acceptance}</acceptance-level>"
        f"<live-install-allowed>{_bool(live)}</live-install-allowed>"
        f"<live-remove-allowed>{_bool(live)}</live-remove-allowed><cimom-restart>false</cimom-restart>"
        f"<stateless-ready>{_bool(stateless_ready)}</stateless-ready><overlay>{_bool(overlay)}</overlay>"
        f"<payloads>{''.join(one.xml(sizes=sizes, old=old_sums) for one in payloads)}</payloads></vib>"
    )
    descriptor = text.encode()
    if edit:
        descriptor = edit(descriptor)
    signature = sign.sign(descriptor, acceptance) if sign and acceptance in LEVELS else b""
    members = [("descriptor.xml", descriptor), ("sig.pkcs7", signature)]
    members += [(one.name, swap(one.name, one.data) if swap else one.data) for one in payloads]
    data = ar(members, mode=ar_mode, gnu_names=gnu_names)
    return MadeVib(
        vendor,
        type,
        name,
        version,
        acceptance,
        descriptor,
        signature,
        payloads,
        data,
        overlay,
        product == "esxio",
    )


def make_vib(name: str, version: str, **how: object) -> bytes:
    """The bytes of a .vib file; the same arguments as ``vib``."""
    return vib(name, version, **how).data  # type: ignore[arg-type]


def ar(members: Iterable[tuple[str, bytes]], *, mode: bytes = b"0", gnu_names: bool = False) -> bytes:
    """An ar archive; sizes are true, an odd one is followed by a newline."""
    parts = [b"!<arch>\n"]
    for name, data in members:
        field_ = (name + "/" if gnu_names else name).encode().ljust(16)
        parts.append(
            struct.pack("16s12s6s6s8s10s2s", field_, *_blank(b"0", b"0", b"0", mode, len(data)), b"`\n")
        )
        parts += [data, b"\n" * (len(data) % 2)]
    return b"".join(parts)


def _blank(mtime: bytes, uid: bytes, gid: bytes, mode: bytes, size: int) -> tuple[bytes, ...]:
    return mtime.ljust(12), uid.ljust(6), gid.ljust(6), mode.ljust(8), str(size).encode().ljust(10)


def _with_parents(files: Tree) -> list[tuple[str, bytes | str | None]]:
    entries: dict[str, bytes | str | None] = {}
    for name, content in files.items():
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            entries.setdefault("/".join(parts[:depth]) + "/", None)
        entries[name] = content
    return list(entries.items())


def _visor_fields(content: bytes | str | None, sticky: bool, offset: int) -> tuple[int, int, bytes, str, int]:
    if content is None:
        return 0o755, 0, b"5", "", 0
    if isinstance(content, str):
        return 0o777, 0, b"2", content, 0
    return 0o1644 if sticky else 0o644, len(content), b"0", "", offset


def _visor_header(name: str, mode: int, size: int, kind: bytes, target: str, offset: int) -> bytes:
    header = struct.pack(
        "<100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s151sIIII",
        name.encode(),
        b"%07o\0" % mode,
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % size,
        b"%011o\0" % 0,
        b" " * 8,
        kind,
        target.encode(),
        b"visor ",
        b" \0",
        b"root",
        b"root",
        bytes(8),
        bytes(8),
        b"",
        offset,
        0,
        0,
        0,
    )
    signed = sum(byte - 256 if byte > 127 else byte for byte in header)
    return header[:148] + b"%06o\0 " % signed + header[156:]


def _relations(texts: Iterable[str]) -> str:
    out = ""
    for text in texts:
        name, *rest = text.split()
        out += f"<constraint name={quoteattr(name)}"
        out += f" relation={quoteattr(rest[0])} version={quoteattr(rest[1])}/>" if rest else "/>"
    return out


def _provides(texts: Iterable[str]) -> str:
    split = [text.split(" = ") for text in texts]
    return "".join(
        f"<provide name={quoteattr(name)}" + (f" version={quoteattr(rest[0])}/>" if rest else "/>")
        for name, *rest in split
    )


def _each(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _bool(value: bool) -> str:
    return "true" if value else "false"
