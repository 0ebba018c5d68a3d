"""What the depot library writes down: ``depot.json``, and ``content-N.jsonl`` with one record a line.

``depot.json`` is replaced in one step and names the content file that counts. Content files only grow: a later
record of a VIB overrides an earlier one, and a last line without its end (a crash while it was written) is none.
Both have mode 0600. A newer version's keys are passed over. Knows JSON and bytes, not what the XML in them says.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from midwife.images.disk import replacing, write_all
from midwife.images.errors import FormatError, ImageError
from midwife.images.objects.package import SoftwarePlatform

__all__ = [
    "CONTENT",
    "MANIFEST",
    "OWNER",
    "DepotRecord",
    "Kind",
    "Origin",
    "StoredPayload",
    "VibRecord",
    "append_line",
    "content_lines",
    "content_number",
    "read_manifest",
    "write_manifest",
    "xml_line",
    "xml_of",
]

Kind = Literal["bundle", "online", "vibs", "iso", "imgdb"]

MANIFEST = "depot.json"
OWNER = "give the command as root, or as the user who added the depot"
CONTENT = "content-1.jsonl"
_CONTENT = re.compile(r"content-(\d{1,9})\.jsonl")
_SHA256 = re.compile(r"[0-9a-f]{64}|")
_HEAD = re.compile(rb'\{"kind":"([a-z]{1,20})"(?:,"id":("(?:[^"\\]|\\.)*"))?')
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """``sha256`` names the blob; "" if the source did not have this payload."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a VIB of an online depot is, and what the depot says of the file."""

    url: str
    """Secrets and all."""
    size: int | None = None
    """Bytes of the .vib file."""
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class VibRecord:
    """A VIB in its parts. ``here``: False for one of an online depot that was not downloaded yet."""

    id: str
    descriptor: bytes
    signature: bytes = b""
    headers: tuple[bytes, ...] = ()
    exact: bool = True
    here: bool = True
    payloads: tuple[StoredPayload, ...] = ()
    platforms: tuple[SoftwarePlatform, ...] = ()
    """What only the depot says (7.0 and later). All else is what the VIB itself says, which can be signed."""
    origin: Origin | None = None

    def line(self) -> bytes:
        """As a line of the content file, in ASCII whatever the bytes are."""
        data = {
            "kind": "vib",
            "id": self.id,
            "here": self.here,
            "exact": self.exact,
            "descriptor": _text(self.descriptor),
            "platforms": [asdict(platform) for platform in self.platforms],
            "signature": _text(self.signature),
            "headers": [_text(header) for header in self.headers],
            "payloads": [asdict(payload) for payload in self.payloads],
            "origin": None if self.origin is None else asdict(self.origin),
        }
        return _line(data)

    @classmethod
    def parse(cls, line: bytes) -> "VibRecord":
        """Raises FormatError."""
        try:
            data = json.loads(line)
            origin = data.get("origin")
            return cls(
                id=_str(data["id"]),
                descriptor=_bytes(data["descriptor"]),
                platforms=tuple(_platform(one) for one in data["platforms"]),
                signature=_bytes(data["signature"]),
                headers=tuple(_bytes(header) for header in data["headers"]),
                exact=bool(data["exact"]),
                here=bool(data["here"]),
                payloads=tuple(_payload(one) for one in data["payloads"]),
                origin=None if origin is None else _origin(origin),
            )
        except _UNREADABLE:
            raise FormatError("a record is damaged") from None


@dataclass(frozen=True, slots=True)
class DepotRecord:
    """``depot.json``."""

    name: str
    kind: Kind
    source: str
    """Path or address as it was given; an address without the secrets in it."""
    added: str
    """UTC, ISO 8601; of the last refresh or replacement."""
    content: str = CONTENT
    sha256: str = ""
    """Of the source, if that is one file."""
    vibs: int = 0
    profiles: int = 0
    bulletins: int = 0
    size: int = 0
    """Bytes of all payloads, downloaded or not."""
    warnings: tuple[str, ...] = ()
    url: str = ""
    """Online depots: the address as it was given, secrets and all."""


def write_manifest(directory: Path, record: DepotRecord) -> None:
    """Replace ``depot.json`` in one durable step. Raises OSError."""
    data = {key: value for key, value in asdict(record).items() if key != "name"}
    # Addresses of online depots may carry a password or a token: for nobody else's eyes.
    with replacing(directory / MANIFEST, 0o600) as out:
        out.write(json.dumps(data, indent=1).encode("utf-8", "surrogateescape") + b"\n")


def read_manifest(directory: Path) -> DepotRecord:
    """Raises ImageError if it is missing or was damaged."""
    path = directory / MANIFEST
    advice = f"remove the depot with `midwife depot remove {directory.name}` and add it again"
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
        if data["kind"] not in get_args(Kind) or not _CONTENT.fullmatch(data["content"]):
            raise ValueError(data["kind"])
        # The directory names the depot: a renamed or copied directory is a depot of its new name.
        return DepotRecord(
            name=directory.name,
            kind=data["kind"],
            source=_str(data["source"]),
            added=_str(data["added"]),
            content=data["content"],
            sha256=_str(data["sha256"]),
            vibs=int(data["vibs"]),
            profiles=int(data["profiles"]),
            bulletins=int(data["bulletins"]),
            size=int(data["size"]),
            warnings=tuple(_str(one) for one in data["warnings"]),
            url=_str(data["url"]),
        )
    except PermissionError as error:
        raise ImageError(f"depot {directory.name}: cannot read {path}: {error.strerror}; {OWNER}") from None
    except OSError as error:
        raise ImageError(f"depot {directory.name}: cannot read {path}: {error.strerror}; {advice}") from None
    except _UNREADABLE:
        raise ImageError(f"depot {directory.name}: {path} is damaged; {advice}") from None


def content_number(name: str) -> int:
    """The N of ``content-N.jsonl``, 0 for another file's name."""
    match = _CONTENT.fullmatch(name)
    return int(match[1]) if match else 0


def content_lines(path: Path, start: int = 0) -> Iterator[tuple[str, str, int, bytes]]:
    """Kind, id ("" for all but VIBs), offset and the line itself, of every whole line; reads one at a time.

    Raises FormatError for a line that is no record, and OSError.
    """
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            head = _HEAD.match(line)
            try:
                vib_id = json.loads(head[2]) if head and head[2] else ""
            except ValueError:
                head = None
            if head is None:
                raise FormatError(f"{path}: the record at byte {offset} is damaged")
            yield head[1].decode(), vib_id, offset, line
            offset += len(line)


def append_line(path: Path, line: bytes) -> None:
    """Add a record, durable when it returns; what a crash left of another goes first. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, _whole(fd))
        write_all(partial(os.write, fd), line)
        os.fsync(fd)
    finally:
        os.close(fd)


def xml_line(kind: Literal["profile", "bulletin"], xml: bytes) -> bytes:
    """A record of an image profile or a bulletin."""
    return _line({"kind": kind, "xml": _text(xml)})


def xml_of(line: bytes) -> bytes:
    """What is in one. Raises FormatError."""
    try:
        return _bytes(json.loads(line)["xml"])
    except _UNREADABLE:
        raise FormatError("a record is damaged") from None


def _whole(fd: int) -> int:
    """Bytes up to the end of the last whole line."""
    end = os.fstat(fd).st_size
    while end:
        start = max(0, end - 65536)
        block = os.pread(fd, end - start, start)
        at = block.rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"


def _text(data: bytes) -> str:
    """Any bytes survive: those that are no UTF-8 become lone surrogates, which JSON writes as escapes."""
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: Any) -> bytes:
    return _str(text).encode("utf-8", "surrogateescape")


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def _payload(data: Any) -> StoredPayload:
    found = StoredPayload(_str(data["name"]), int(data["size"]), _str(data["sha256"]))
    if not _SHA256.fullmatch(found.sha256):
        raise ValueError(found.sha256)
    return found


def _platform(data: Any) -> SoftwarePlatform:
    return SoftwarePlatform(_str(data["product"]), _str(data["version"]), _str(data["locale"]))


def _origin(data: Any) -> Origin:
    size, sha256 = data["size"], data["sha256"]
    return Origin(
        url=_str(data["url"]),
        size=None if size is None else int(size),
        sha256=None if sha256 is None else _str(sha256),
    )
