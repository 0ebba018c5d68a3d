"""Pinned SSH host keys: fingerprints as OpenSSH prints them (``SHA256:`` and base64 without padding), told by
the host in its authenticated callback. There is no trust on first use.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from midwife.customize.errors import HostKeyError

__all__ = ["FAMILIES", "Pin", "Pins", "fingerprint"]

FAMILIES: tuple[tuple[str, ...], ...] = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
"""Signature algorithms by kind of key, preferred first. A server has at most one key of each kind in use, but
sshd's default is three kinds and the callback may tell of one of them only."""


def fingerprint(key: bytes) -> str:
    """``SHA256:…`` of a public key in SSH wire form."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Pin:
    """One allowed host key; ``family`` is "" where only the fingerprint is known."""

    fingerprint: str
    family: str = ""

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """From ``SHA256:…``, ``ssh-ed25519 SHA256:…``, ``ssh-ed25519:AAAA…`` or ``ssh-ed25519 AAAA…``.

        Raises ValueError: a pin that cannot be understood must not become no pin.
        """
        words = text.split()
        name, _, rest = text.strip().partition(":")
        if len(words) >= 2:
            name, rest = words[0], words[1]
        elif name == "SHA256":
            name, rest = "", text.strip()
        if rest.startswith("SHA256:"):
            _decode(rest[7:], text, 32)
            return cls(rest.rstrip("="), name)
        if not rest.startswith("AAAA"):
            raise ValueError(f"{text[:80]!r} is not a host key; it is SHA256:… or ssh-ed25519:AAAA…")
        return cls(fingerprint(_decode(rest, text)), name)


def _decode(text: str, whole: str, size: int = 0) -> bytes:
    try:
        data = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or (size and len(data) != size):
        raise ValueError(f"{whole[:80]!r} is not a host key: bad base64")
    return data


@dataclass(frozen=True, slots=True)
class Pins:
    """The allowed host keys of one host."""

    pins: tuple[Pin, ...]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Pins":
        """Raises ValueError."""
        return cls(tuple(dict.fromkeys(Pin.parse(text) for text in texts)))

    def families(self) -> list[tuple[str, ...]]:
        """The kinds of key worth asking the server for, in order; all, if a pin does not say its kind."""
        named = {pin.family for pin in self.pins}
        if not named or "" in named:
            return list(FAMILIES)
        # An RSA key is "ssh-rsa" in key files whatever signature is negotiated (RFC 8332 section 3).
        algorithms = named | ({"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in named else set())
        return [kept for family in FAMILIES if (kept := tuple(a for a in family if a in algorithms))]

    def allow(self, seen: str) -> bool:
        """Whether a fingerprint is one of them."""
        return any(pin.fingerprint == seen for pin in self.pins)

    def refusal(self, where: str, seen: Iterable[str]) -> HostKeyError:
        """The error for a host that showed other keys."""
        pinned = "\n".join(f"  {pin.family or 'any kind'} {pin.fingerprint}" for pin in self.pins)
        shown = "\n".join(f"  {text}" for text in seen)
        return HostKeyError(
            f"the host key of {where} is not one that the host's callback named; nothing was sent to it.\n"
            f"pinned:\n{pinned or '  nothing: the callback named no host key'}\n"
            f"seen:\n{shown or '  no key of a pinned kind'}\n"
            "possible reasons: the host was booted again since (a stateless host makes new keys at each "
            "boot; its next callback starts a new run); the address now belongs to another machine (DHCP); "
            "something between midwife and the host answers in its place."
        )
