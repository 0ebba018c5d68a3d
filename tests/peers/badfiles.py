"""Files that nobody should send: each with the words that the refusal must have.

One function for each item of "bad input"; they get a folder and give the path to import. Shares no code with
midwife.
"""

import gzip
import io
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.peers.depotmaker import Content, installer_files, write_bundle, write_installer_iso
from tests.peers.esxiso import write_iso
from tests.peers.vibmaker import MadeVib, ar, make_payload, vib

__all__ = ["REFUSED", "small", "small_bundle"]

LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x ['
    b'<!ENTITY a0 "ha">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10))
    + b"]>"
)
OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a9 SYSTEM "file:///etc/passwd">]>'
DEEP = 60_000
Members = dict[str, bytes]


def driver(name: str = "lab-net", **how: object) -> MadeVib:
    """A small VIB of ours."""
    payloads = [make_payload("labnet", {"opt/lab/net": b"driver" * 50})]
    return vib(name, "1.0-1", **({"vendor": "Lab", "payloads": payloads} | how))  # type: ignore[arg-type]


def small(*vibs: MadeVib) -> Content:
    """A depot of these VIBs (one by default), with a profile of all."""
    vibs = vibs or (driver(),)
    return Content("8.0.3", "8.0.3-0.0.1", {"lab": tuple(one.id for one in vibs)}, vibs)


def small_bundle(path: Path, *vibs: MadeVib, **how: object) -> Path:
    """Its offline bundle; the same options as ``write_bundle``."""
    return write_bundle(path, small(*vibs), **how)  # type: ignore[arg-type]


def _edited(pattern: bytes, by: bytes) -> MadeVib:
    def edit(descriptor: bytes) -> bytes:
        edited, count = re.subn(pattern, lambda _: by, descriptor, count=1)
        assert count, pattern
        return edited

    return driver(edit=edit)


def _loose(made: MadeVib | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "x.vib"
        path.write_bytes(made if isinstance(made, bytes) else made.data)
        return path

    return write


def _bundle(*vibs: MadeVib, **how: object) -> Callable[[Path], Path]:
    return lambda folder: small_bundle(folder / "x.zip", *vibs, **how)


def _member(name: str, data: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[next(one for one in members if re.search(name, one))] = data

    return change


def _every(name: str, do: Callable[[bytes], bytes]) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        for one in [one for one in members if re.search(name, one)]:
            members[one] = do(members[one])

    return change


def _flip(data: bytes) -> bytes:
    """One bit near the end: in a payload."""
    return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]


def _zip_of(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _zip_in_zip(folder: Path) -> Path:
    data = small_bundle(folder / "inner.zip").read_bytes()
    for depth in range(30):
        data = _zip_of({f"{depth}.zip": data})
    (folder / "x.zip").write_bytes(data)
    return folder / "x.zip"


def _lying_zip(folder: Path) -> Path:
    """The central directory says that index.xml has 10 bytes."""
    path = small_bundle(folder / "x.zip")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"index.xml", 0, data.rindex(b"vendor-index.xml"))
    assert data[at - 46 : at - 42] == b"PK\1\2"
    struct.pack_into("<I", data, at - 46 + 24, 10)
    path.write_bytes(data)
    return path


def _crc(folder: Path) -> Path:
    path = small_bundle(folder / "x.zip")
    data = bytearray(path.read_bytes())
    at = data.index(b"lab-net_1.0-1.vib") + 17
    data[at + len(small().vibs[0].data) - 40] ^= 1
    path.write_bytes(data)
    return path


def _cut(part: float) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = small_bundle(folder / "x.zip")
        os.truncate(path, int(path.stat().st_size * part))
        return path

    return write


def _encrypted(folder: Path) -> Path:
    path = small_bundle(folder / "x.zip")
    data = bytearray(path.read_bytes())
    for magic, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = data.index(magic)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(magic, at + 1)
    path.write_bytes(data)
    return path


def _iso(change: Callable[[Members], None]) -> Callable[[Path], Path]:
    """An installer ISO whose files are changed first."""

    def write(folder: Path) -> Path:
        base = driver(
            "esx-base",
            vendor="VMware",
            provides=["esx-version = 8.0.3"],
            payloads=[make_payload("b", b"\x7fELF", "boot", boot_order=10)],
        )
        files = installer_files(small(base, driver()))
        change(files)
        return write_iso(
            folder / "x.iso", {re.sub(r"-|^\.", "_", name): data for name, data in files.items()}
        )

    return write


def _imgdb(members: Mapping[str, bytes]) -> Callable[[Members], None]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return _member("^imgdb.tgz$", gzip.compress(out.getvalue()))


def _cut_iso(folder: Path) -> Path:
    path = write_installer_iso(folder / "x.iso", small())
    os.truncate(path, path.stat().st_size // 2)
    return path


def _bytes(data: bytes, name: str = "x.zip") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def _loop(folder: Path) -> Path:
    (folder / "vibs").mkdir()
    (folder / "vibs" / "again").symlink_to(folder / "vibs")
    return folder / "vibs"


_AR_SIZE = driver().data.replace(b"%-10d`\n" % len(driver().payloads[0].data), b"9999999999`\n")

REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (_bytes(b""), "empty|is no"),
    "noise": (_bytes(b"\x00\x01\x02" * 500), "is no|neither"),
    "a text": (_bytes(b"<html>404 Not Found</html>"), "web page"),
    "an empty zip": (_bytes(_zip_of({})), "index.xml|no depot|metadata"),
    "a zip of other things": (_bytes(_zip_of({"readme.txt": b"hello"})), "index.xml|no depot|metadata"),
    "zip in zip in zip": (_zip_in_zip, "index.xml|zip"),
    "bomb: index.xml": (
        _bundle(change=_member("^index.xml", bytes(40 << 20))),
        "index.xml.*(big|large|more|most)",
    ),
    "bomb: descriptor": (
        _bundle(change_metadata=_member("^vibs/", bytes(40 << 20))),
        "vibs/.*(big|large|more|most)|no VIB",
    ),
    "bomb: imgdb": (_iso(_every("^imgdb.tgz$", lambda _: gzip.compress(bytes(128 << 20), 1))), "imgdb"),
    "entities: index.xml": (
        _bundle(change=_every("^index.xml", lambda d: LAUGHS + b"<x>&a9;</x>")),
        "index.xml",
    ),
    "entities: descriptor of a VIB": (
        _loose(driver(edit=lambda d: LAUGHS + d.replace(b"<summary>", b"<summary>&a9;"))),
        "descriptor.xml",
    ),
    "entities: another file": (
        _loose(driver(edit=lambda d: OUTSIDE + d.replace(b"<summary>", b"<summary>&a9;"))),
        "descriptor.xml",
    ),
    "deep XML": (
        _loose(driver(edit=lambda d: d.replace(b"<urls>", b"<urls>" + b"<a>" * DEEP + b"</a>" * DEEP))),
        "descriptor.xml",
    ),
    "NUL in XML": (_loose(driver(edit=lambda d: d.replace(b"<summary>", b"<summary>\0"))), "descriptor.xml"),
    "traversal: name of the VIB": (_loose(_edited(b"<name>lab-net", b"<name>../../lab-net")), "name|id"),
    "traversal: version": (_loose(_edited(b"<version>1.0-1", b"<version>1.0/../../x")), "id|version"),
    "traversal: payload": (
        _loose(driver(payloads=[make_payload("../../x", {"opt/x": b"1"})])),
        "payload|member|other directory|another directory",
    ),
    "traversal: imgdb": (_iso(_imgdb({"../../../tmp/evil": b"1"})), "imgdb"),
    "traversal: relative-path": (
        _bundle(
            change_metadata=_every(
                "^vibs/", lambda d: d.replace(b"<relative-path>", b"<relative-path>../../../")
            )
        ),
        r"vib|not in|has no",
    ),
    "absurd: size in ar": (_loose(_AR_SIZE), "x.vib"),
    "absurd: size of a payload": (
        _loose(_edited(rb'size="\d+"', b'size="%s"' % (b"9" * 6000))),
        "size|payload",
    ),
    "absurd: negative size": (_loose(_edited(rb'size="\d+"', b'size="-1"')), "size|payload"),
    "absurd: version": (_loose(_edited(b"<version>1.0-1", b"<version>" + b"9" * 6000)), "version|id"),
    "absurd: boot-order": (
        _loose(_edited(rb'size="', b'boot-order="%s" size="' % (b"9" * 6000))),
        "boot-order",
    ),
    "a zip that lies": (_lying_zip, "index.xml"),
    "a zip with a password": (_encrypted, "encrypted|password"),
    "cut: a tenth": (_cut(0.1), "zip"),
    "cut: half": (_cut(0.5), "zip"),
    "cut: nearly whole": (_cut(0.999), "zip"),
    "cut: VIB in a bundle": (_bundle(change_vib=lambda _, data: data[:-60]), "lab-net"),
    "cut: VIB": (_loose(driver().data[:-60]), "x.vib"),
    "cut: VIB, in a header": (_loose(driver().data[:50]), "x.vib"),
    "cut: ISO": (_cut_iso, "x.iso"),
    "sum: payload in a bundle": (_bundle(change_vib=lambda _, data: _flip(data)), "lab-net.*(sha|sum)"),
    "sum: payload of a VIB": (_loose(_flip(driver().data)), "labnet.*(sha|sum)|(sha|sum).*labnet"),
    "sum: zip": (_crc, "lab-net"),
    "sum: payload on an ISO": (_iso(_every("^labnet.v00$", _flip)), "labnet"),
    "another VIB under the name": (_bundle(change_vib=lambda _, data: driver("other").data), "other"),
    "two payloads of a name": (
        _loose(driver(payloads=[make_payload("x", {"opt/x": b"1"}), make_payload("x", {"opt/y": b"2"})])),
        "payload",
    ),
    "two members of a name": (_loose(ar([("descriptor.xml", driver().descriptor)] * 2)), "x.vib"),
    "a package of ESX 4": (_loose(ar([("debian-binary", b"2.0\n"), ("control.tar.gz", b"")])), "ESX 4"),
    "no descriptor": (_loose(ar([("sig.pkcs7", b"")])), "descriptor.xml"),
    "not a descriptor": (
        _loose(ar([("descriptor.xml", b"<bulletin/>"), ("sig.pkcs7", b"")])),
        "descriptor.xml",
    ),
    "two dashes in a version": (_loose(_edited(b"<version>1.0-1", b"<version>1-2-3")), "version"),
    "relation without version": (
        _loose(_edited(b"<depends>", b'<depends><constraint name="x" relation="&gt;="/>')),
        "relation|version",
    ),
    "a folder without VIBs": (_loop, "no VIB|no .vib"),
    "a file that is not there": (lambda folder: folder / "missing.zip", "missing.zip"),
    "a pipe": (lambda folder: (os.mkfifo(folder / "pipe"), folder / "pipe")[1], "pipe"),
}
"""What it is: how to make it, and a pattern that the message must match."""
