"""The callback message: one line ``MIDWIFE/1 key=value …`` from a booted host, one line back.

Our own format, described byte by byte in docs/reference/callback.md; the percent encoding is that of RFC 3986
section 2.1, host key fingerprints are those of OpenSSH (RFC 4253 section 6.6 blobs under SHA-256). Pure: no
sockets, no clock. Nothing here says whether a token is good or what a host gets.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field, fields
from enum import StrEnum

__all__ = [
    "MAX_SIZE",
    "CallbackError",
    "CallbackMessage",
    "HostKey",
    "Phase",
    "Reply",
    "Verdict",
    "encode_message",
    "encode_reply",
    "parse_message",
    "parse_reply",
]

MAX_SIZE = 8192
"""Longest line in bytes, line end included: five RSA-4096 host keys and everything else fit in half of it."""

_VERSION = "MIDWIFE/1"
_KEY = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # would let a host write into an operator's terminal
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_KEY_TYPE = re.compile(r"[a-z][a-z0-9@.-]{2,63}")
# RFC 3986 unreserved, and what MAC addresses, lists, base64 and fingerprints are made of.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:,/+@=")


class CallbackError(ValueError):
    """The bytes are no callback line. ``reason`` says what is wrong and names the key, never a value, because
    values are secrets (token) or hostile."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Phase(StrEnum):
    """What the host is doing as it calls."""

    BOOTED = "booted"
    """The system is up (the default)."""
    PRE = "pre"
    """The installer's %pre."""
    POST = "post"
    """The installer's %post, work still to do."""
    INSTALLED = "installed"
    """The installation is complete."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """An SSH host key, or only its fingerprint."""

    fingerprint: str
    """``SHA256:`` and 43 characters of base64, as ``ssh-keygen -l`` prints it."""
    type: str = ""
    """``ssh-ed25519`` …, "" if the host sent a fingerprint."""
    key: str = ""
    """The public key in base64 as in a .pub file, "" if the host sent a fingerprint."""

    @classmethod
    def parse(cls, text: str) -> "HostKey":
        """From ``SHA256:…`` or ``ssh-ed25519:AAAA…``. Raises CallbackError."""
        if _FINGERPRINT.fullmatch(text):
            return cls(text)
        kind, _, encoded = text.partition(":")
        try:
            blob = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            blob = b""
        # RFC 4253 section 6.6: the blob starts with the key type as a counted string. Checking it catches a
        # fingerprint or a private key that was pasted in place of the public key.
        name = kind.encode()
        if not _KEY_TYPE.fullmatch(kind) or not blob.startswith(len(name).to_bytes(4, "big") + name):
            raise CallbackError(
                "hostkeys: each is SHA256:… or type:base64 of a public key, as in its .pub file"
            )
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        return cls(f"SHA256:{digest}", kind, encoded)

    def __str__(self) -> str:
        return f"{self.type}:{self.key}" if self.key else self.fingerprint


@dataclass(frozen=True, slots=True)
class CallbackMessage:
    """What a host said of itself; "" and () mean: not said. Values are as sent, not yet judged or cleaned."""

    token: str = field(default="", repr=False)
    """From the boot command line (PBTOKEN=). A secret: not in ``repr``, not for logs."""
    phase: Phase = Phase.BOOTED
    uuid: str = ""
    serial: str = ""
    macs: tuple[str, ...] = ()
    """The first is the one it booted from, where the host knows."""
    version: str = ""
    hostkeys: tuple[HostKey, ...] = ()
    hostname: str = ""
    vendor: str = ""
    model: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    """Keys this version does not know, in order."""


class Verdict(StrEnum):
    """What the service says to a callback."""

    OK = "ok"
    """Heard; the host may stop calling."""
    LATER = "later"
    """Call again after ``seconds``."""
    REFUSED = "refused"
    """Heard and not accepted; a person has to look."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The service's answer."""

    verdict: Verdict
    attempt: str = ""
    """Id of the boot attempt."""
    state: str = ""
    """Its state after this callback."""
    seconds: int = 0
    """With LATER: how long to wait, 1 to 86400; 0 is sent as 30."""
    reason: str = ""


_TEXT_KEYS = frozenset({"token", "uuid", "serial", "version", "hostname", "vendor", "model"})
_KNOWN = _TEXT_KEYS | {"phase", "macs", "hostkeys"}
_REPLY_TEXT = ("attempt", "state", "reason")
_DEFAULT_LATER = 30


def _quote(text: str) -> str:
    return "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in text.encode())


def _unquote(key: str, raw: str) -> str:
    if "%" in _ESCAPE.sub("", raw):
        raise CallbackError(f"{key}: a % that no two hexadecimal digits follow; write a percent sign as %25")
    data = _ESCAPE.sub(lambda m: chr(int(m[0][1:], 16)), raw).encode("latin-1")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise CallbackError(f"{key}: the value is not UTF-8") from None
    if _CONTROL.search(text):
        raise CallbackError(f"{key}: the value has control characters")
    return text


def _split(data: bytes) -> list[str]:
    """The words behind the version; the checks that messages and replies have in common."""
    if len(data) > MAX_SIZE:
        raise CallbackError(f"longer than {MAX_SIZE} bytes")
    try:
        line = data.decode("ascii")
    except UnicodeDecodeError:
        raise CallbackError("bytes above 127; percent-encode them") from None
    line = line.removesuffix("\n").removesuffix("\r")
    if _CONTROL.search(line):
        raise CallbackError("more than one line, or control characters in it; percent-encode them")
    words = line.split(" ")
    if words[0] != _VERSION:
        if re.fullmatch(r"MIDWIFE/[0-9]{1,9}", words[0]):
            raise CallbackError(
                f"version {words[0][8:]} of the protocol; this service speaks version 1:"
                " use the pbconnect that comes with it"
            )
        raise CallbackError(f"the line does not start with {_VERSION}")
    return [word for word in words[1:] if word]


def _pairs(words: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for number, word in enumerate(words, 2):
        key, equals, raw = word.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise CallbackError(f"word {number} is not key=value with a lower-case key")
        if key in pairs:
            raise CallbackError(f"{key}: given twice")
        pairs[key] = _unquote(key, raw)
    return pairs


def _list(text: str) -> tuple[str, ...]:
    return tuple(item for item in text.split(",") if item)


def parse_message(data: bytes) -> CallbackMessage:
    """One line, its end optional (``\\n`` or ``\\r\\n``). Raises CallbackError."""
    pairs = _pairs(_split(data))
    phase = pairs.get("phase") or Phase.BOOTED
    if phase not in list(Phase):
        raise CallbackError(f"phase: not one of {', '.join(Phase)}")
    return CallbackMessage(
        phase=Phase(phase),
        macs=_list(pairs.get("macs", "")),
        hostkeys=tuple(HostKey.parse(text) for text in _list(pairs.get("hostkeys", ""))),
        extra=tuple((key, value) for key, value in pairs.items() if key not in _KNOWN),
        **{key: pairs[key] for key in _TEXT_KEYS & pairs.keys()},
    )


def encode_message(message: CallbackMessage) -> bytes:
    """The line with its end; keys that say nothing are left out.

    Raises CallbackError for values that no line can carry (control characters, too long).
    """
    words = [_VERSION]
    for item in fields(message):
        value = getattr(message, item.name)
        if not value or item.name == "extra":
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words.append(f"{item.name}={_quote(text)}")
    words += [f"{key}={_quote(value)}" for key, value in message.extra]
    line = (" ".join(words) + "\n").encode()
    parse_message(line)
    return line


def parse_reply(data: bytes) -> Reply:
    """One line. Keys of a newer service are ignored. Raises CallbackError."""
    words = _split(data)
    if not words or words[0] not in list(Verdict):
        raise CallbackError(f"the reply is not one of {', '.join(Verdict)}")
    pairs = _pairs(words[1:])
    seconds = pairs.get("seconds", "0")
    if not re.fullmatch(r"[0-9]{1,5}", seconds) or int(seconds) > 86400:
        raise CallbackError("seconds: not a number from 0 to 86400")
    texts = {key: pairs.get(key, "") for key in _REPLY_TEXT}
    return Reply(Verdict(words[0]), seconds=int(seconds), **texts)


def encode_reply(reply: Reply) -> bytes:
    """The line with its end. Total: control characters in a reason become blanks, a long reason is cut."""
    words = [_VERSION, reply.verdict.value]
    if reply.verdict is Verdict.LATER:
        words.append(f"seconds={min(max(reply.seconds or _DEFAULT_LATER, 1), 86400)}")
    for key in _REPLY_TEXT:
        text = _CONTROL.sub(" ", getattr(reply, key))[:400]
        if text:
            words.append(f"{key}={_quote(text)}")
    return (" ".join(words) + "\n").encode()
