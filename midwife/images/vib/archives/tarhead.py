"""The 512-byte header that tar and vmtar have in common, and ``TarEntry``, what it says.

Where the data are differs: tar has them after the header, vmtar at an offset of its own (vmtar.py, tar.py).
Source: POSIX ustar, GNU tar's additions, and the vmtar headers of real VIBs.
"""

import re
from dataclasses import dataclass

from midwife.images.errors import FormatError

__all__ = [
    "BLOCK_SIZE",
    "DIRECTORY",
    "FILE",
    "HARD_LINK",
    "SHARED",
    "SYMLINK",
    "TarEntry",
    "parse_header",
    "text",
]

BLOCK_SIZE = 512
FILE, HARD_LINK, SYMLINK, DIRECTORY, SHARED = "0", "1", "2", "5", "7"
"""Kinds of entries; ``SHARED`` are vmtar's programs and modules, files like others."""

_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_HIGHEST = 1 << 33  # eleven octal digits, the most that a plain header can say


@dataclass(frozen=True, slots=True)
class TarEntry:
    """An entry of an archive. Names may be hostile: whoever writes them to a disk must check them."""

    name: str
    """As stored, without the slash at the end of directories; odd bytes as surrogates."""
    kind: str = FILE
    size: int = 0
    """Bytes of content; 0 for whatever is no file."""
    mode: int = 0o644
    """Permission bits, the sticky one (a file that the host may change) and its like among them."""
    link: str = ""
    """What a link points to."""
    mtime: int = 0
    """Seconds since 1970."""
    uid: int = 0
    gid: int = 0
    uname: str = ""
    gname: str = ""
    offset: int = 0
    """vmtar: where the content starts."""
    code: tuple[int, int, int] = (0, 0, 0)
    """vmtar: offset and size of program text, number of fix-up pages; only ESXi's loader needs them."""

    @property
    def is_file(self) -> bool:
        """Whether it has content."""
        return self.kind in (FILE, SHARED)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.kind == DIRECTORY


def parse_header(block: bytes, what: str) -> TarEntry:
    """From 512 bytes, the checksum checked; ``offset`` and ``code`` are the caller's. Raises FormatError."""
    if not _sum_is_right(block):
        raise FormatError(f"{what}: no archive header where one should be: its checksum is wrong")
    kind = block[156:157].decode("latin-1")
    name, prefix = text(block[:100]), text(block[345:496])
    if prefix and block[257:263] != b"ustar ":  # old GNU headers have other things there
        name = f"{prefix}/{name}"
    where = f"{what}: {name[:200]!r}"
    if kind == "\0":
        kind = FILE
    if kind == FILE and name.endswith("/"):
        kind = DIRECTORY  # before 1988 there was no other way to say it
    size = _number(block[124:136], f"{where}: size")
    if size >= _HIGHEST:
        raise FormatError(f"{where}: a size of {size:,} bytes is absurd")
    return TarEntry(
        name=name if kind in "KLxg" else name.rstrip("/"),
        kind=kind,
        size=size if kind not in (HARD_LINK, SYMLINK, DIRECTORY, "3", "4", "6") else 0,
        mode=_number(block[100:108], f"{where}: mode") & 0o7777,
        link=text(block[157:257]),
        mtime=min(_number(block[136:148], f"{where}: time"), _HIGHEST),
        uid=_number(block[108:116], f"{where}: owner"),
        gid=_number(block[116:124], f"{where}: group"),
        uname=text(block[265:297]),
        gname=text(block[297:329]),
    )


def text(field: bytes) -> str:
    """A text field up to its NUL; bytes that are no UTF-8 become surrogates, which ``os.fsencode`` undoes."""
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _sum_is_right(block: bytes) -> bool:
    try:
        told = _number(block[148:156], "")
    except FormatError:
        return False
    blanked = block[:148] + b" " * 8 + block[156:]
    # VMware's tools add signed characters, POSIX unsigned ones.
    return told in (sum(blanked), sum(memoryview(blanked).cast("b")))


def _number(field: bytes, what: str) -> int:
    """Octal; or GNU's binary form, for owners beyond seven digits. Raises FormatError."""
    if field[0] & 0x80:
        return 0 if field[0] == 0xFF else int.from_bytes(field[1:], "big")  # 0xff: a negative time
    match = _OCTAL.fullmatch(field)
    if not match:
        raise FormatError(f"{what} {field!r} is not an octal number")
    return int(match[1] or b"0", 8)
