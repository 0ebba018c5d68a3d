"""The boot module: a small archive that puts pbconnect, its start script and the service's key into a host.

Two formats of one tree: for ESXi an old-GNU tar (magic ``ustar  \\0``), gzipped, one more entry of
``modules=``; for Linux a ``newc`` cpio archive (kernel: driver-api/early-userspace/buffer-format), gzipped,
one more initrd. Same input, same bytes. It knows no site and no network.
"""

import base64
import binascii
import gzip
import io
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from midwife.resources import boot_dir

__all__ = ["BootModuleError", "boot_module", "build_cpio", "build_tgz"]

_MAX_NAME = 99
"""What fits a tar name field: ESXi was never seen to read GNU's entries for longer names."""


class BootModuleError(ValueError):
    """The module cannot be built; the message names the file or says what is wrong with the key."""


def _entries(
    files: Mapping[str, bytes], executable: Collection[str]
) -> Iterator[tuple[str, bytes | None, int]]:
    """(name, content, mode) in archive order: every directory (content None) before what is in it."""
    missing = set(executable) - files.keys()
    if missing:
        raise BootModuleError(f"{min(missing)}: to be executable, but not among the files")
    seen: set[str] = set()
    for name in sorted(files):
        parts = name.split("/")
        if not re.fullmatch(r"[\x21-\x7e]+", name) or any(part in ("", ".", "..") for part in parts):
            raise BootModuleError(f"{name!r}: a path is relative, without . and .., in printable ASCII")
        if len(name) > _MAX_NAME:
            raise BootModuleError(f"{name!r}: longer than {_MAX_NAME} bytes")
        for depth in range(1, len(parts)):
            directory = "/".join(parts[:depth])
            if directory in files:
                raise BootModuleError(f"{directory!r}: both a file and the directory of {name!r}")
            if directory not in seen:
                seen.add(directory)
                yield directory, None, 0o755
        yield name, files[name], 0o755 if name in executable else 0o644


def _gzip(data: bytes) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(data)
    return packed.getvalue()


def build_tgz(files: Mapping[str, bytes], executable: Collection[str] = ()) -> bytes:
    """A boot module for ESXi: gzipped old-GNU tar, all of it root's, parent directories before their files.

    Directories and the files in ``executable`` have mode 0755, other files 0644. Raises BootModuleError.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content, mode in _entries(files, executable):
            member = tarfile.TarInfo(name)  # uid, gid and mtime are 0; tarfile ends directories with a slash
            member.mode = mode
            if content is None:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return _gzip(packed.getvalue())


def build_cpio(files: Mapping[str, bytes], executable: Collection[str] = ()) -> bytes:
    """An initrd for Linux with the same tree: gzipped ``newc`` cpio. Raises BootModuleError.

    Linux unpacks several initrds one over the other, so this one can follow the image's own.
    """
    archive = bytearray()
    for number, (name, content, mode) in enumerate(_entries(files, executable), 1):
        kind = 0o040000 if content is None else 0o100000
        _append_newc(archive, number, name, kind | mode, content or b"", links=2 if content is None else 1)
    _append_newc(archive, 0, "TRAILER!!!", 0, b"", links=1)
    archive += b"\0" * (-len(archive) % 512)
    return _gzip(bytes(archive))


def _append_newc(archive: bytearray, inode: int, name: str, mode: int, content: bytes, *, links: int) -> None:
    # inode, mode, uid, gid, nlink, mtime, size, device (two numbers), rdev (two), name size, checksum
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    archive += b"070701" + "".join(f"{number:08X}" for number in numbers).encode() + name.encode() + b"\0"
    archive += b"\0" * (-len(archive) % 4)
    archive += content
    archive += b"\0" * (-len(archive) % 4)


def _public_key(text: str) -> str:
    """One line of an OpenSSH .pub file, checked. The text is never repeated: it might be the private key."""
    line = text.strip()
    kind, _, rest = line.partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    # RFC 4253 section 6.6: the key's type is repeated inside, as a counted string.
    if not kind or not re.fullmatch(r"[\x20-\x7e]+", line) or not blob.startswith(_counted(kind)):
        raise BootModuleError(
            "the service's public key is not one line of an OpenSSH .pub file (ssh-ed25519 AAAA… comment)"
        )
    return line


def _counted(text: str) -> bytes:
    data = text.encode(errors="replace")
    return len(data).to_bytes(4, "big") + data


def boot_module(public_key: str, kind: Literal["esxi", "linux"]) -> bytes:
    """The module for a host: ``opt/midwife/pbconnect``, ``opt/midwife/authorized_key``, the start script.

    ``public_key`` is a line of an OpenSSH .pub file. Raises BootModuleError; OSError if midwife's own files
    cannot be read.
    """
    boot = boot_dir()
    programs = {
        "opt/midwife/pbconnect": (boot / "pbconnect").read_bytes(),
        "etc/rc.local.d/zz-midwife.sh": (boot / "module/etc/rc.local.d/zz-midwife.sh").read_bytes(),
    }
    files = {**programs, "opt/midwife/authorized_key": _public_key(public_key).encode() + b"\n"}
    build = build_tgz if kind == "esxi" else build_cpio
    return build(files, executable=programs.keys())
