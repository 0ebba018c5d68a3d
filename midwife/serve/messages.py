"""What the data plane, the command line and the control process say to each other over their Unix socket.

One JSON object a line, both ways. The data plane asks (``Ask``) what a name stands for and gets ``Found``,
``Content`` or ``Refused`` back with the same id; it tells what it served (``Report``) without waiting. The
control process may say ``Flush`` at any time: forget every cached answer (an image or the site changed).

Names carry the boot attempt they belong to: ``a/<attempt>/<rest>``. ``split_attempt`` takes it off, so that a
plain image file is asked for once, cached by its ``<rest>``, and still counted for the right host, whatever
address the request came from.
"""

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "Ask",
    "Content",
    "Flush",
    "Found",
    "Message",
    "Outcome",
    "Push",
    "Pushed",
    "Refused",
    "Report",
    "decode",
    "encode",
    "split_attempt",
]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is this name, for this client?"""

    id: int
    proto: str
    """"tftp" or "http"."""
    name: str
    """As the client wrote it, without query string; percent-decoded for HTTP."""
    client: str
    """The client's address, without port."""
    local: str = ""
    """The address the client asked."""
    query: dict[str, str] = field(default_factory=dict)
    agent: str = ""
    """HTTP User-Agent, which tells UEFI firmware, mboot and iPXE apart."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file on disk. ``cache``: the answer holds for every client and attempt until ``Flush``."""

    id: int
    path: str
    size: int
    attempt: str = ""
    cache: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """A rendered answer."""

    id: int
    body: bytes
    attempt: str = ""
    type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Refused:
    """No. ``reason`` is for the log and, in short, for the client."""

    id: int
    reason: str
    status: int = 404
    """HTTP status; TFTP maps 404 to error 1 (file not found), 403 to 2 (access violation), others to 0."""


@dataclass(frozen=True, slots=True)
class Report:
    """Something happened while serving."""

    kind: str
    """started, progress, served, probe (asked for the size only), aborted, timeout, refused, malformed."""
    proto: str
    client: str
    name: str = ""
    attempt: str = ""
    sent: int = 0
    """Bytes of the file that reached the client (acknowledged, for TFTP)."""
    size: int = 0
    """Bytes of the whole file."""
    seconds: float = 0.0
    detail: str = ""
    """Negotiated options, the client's error text, the reason of a refusal."""


@dataclass(frozen=True, slots=True)
class Push:
    """A person asks (``midwife push``): customize this host now, it is up. Only our own user can ask."""

    id: int
    host: str
    address: str = ""
    """Where it is; "": where its file or its last boot says."""
    keys: list[str] = field(default_factory=list)
    """Its SSH host keys as the person vouches for them; none: those of its last authenticated callback."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What came of it; ``text`` is for the person."""

    id: int
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Cached answers are no longer true."""


Message = Ask | Found | Content | Refused | Report | Push | Pushed | Flush
Outcome = Found | Content | Refused

_KINDS: dict[str, type[Message]] = {
    "ask": Ask,
    "found": Found,
    "content": Content,
    "refused": Refused,
    "report": Report,
    "push": Push,
    "pushed": Pushed,
    "flush": Flush,
}
_NAMES = {cls: name for name, cls in _KINDS.items()}


def encode(message: Message) -> bytes:
    """One line, newline included."""
    data: dict[str, Any] = asdict(message)
    if isinstance(message, Content):
        data["body"] = base64.b64encode(message.body).decode()
    return json.dumps({"op": _NAMES[type(message)], **data}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The inverse of ``encode``. Raises ValueError for anything else (both ends are ours: it is a bug)."""
    try:
        data = json.loads(line)
        cls = _KINDS[data.pop("op")]
        if cls is Content:
            data["body"] = base64.b64decode(data["body"])
        return cls(**data)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        # Not the line itself: a rendered answer may hold a secret.
        raise ValueError(f"{len(line)} bytes that are no message ({type(error).__name__})") from None


def split_attempt(name: str) -> tuple[str, str]:
    """``("k3v9", "8.0U3/b.b00")`` from ``a/k3v9/8.0U3/b.b00``; ``("", name)`` where there is no attempt.

    Leading slashes are dropped first: boot loaders ask both ``esx/b.b00`` and ``/esx/b.b00``.
    """
    plain = name.lstrip("/")
    parts = plain.split("/", 2)
    if len(parts) == 3 and parts[0] == "a" and parts[1]:
        return parts[1], parts[2]
    return "", plain
