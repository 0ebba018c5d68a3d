"""The token on the kernel line: proof that a caller got its configuration from us, at the address it calls from.

A token is ``<attempt>.<mac>``: the attempt's id and an HMAC-SHA256 over the attempt and the address that fetched
the configuration, cut to 130 bits in base32. It is computed, not stored, so a configuration that is fetched
twice (mboot does) carries the same one, and a restarted service knows it again. Whoever else fetches the same
configuration gets a token over another address, which never matches. Expiry and "the attempt has moved on" are
the caller's to check; they need a clock and the database.
"""

import base64
import hashlib
import hmac
import re

__all__ = ["attempt_of", "mint", "verify"]

_LENGTH = 26  # base32 characters: 130 bits
_FORM = re.compile(rf"([a-z0-9]{{4,16}})\.([a-z2-7]{{{_LENGTH}}})")


def mint(secret: bytes, attempt: str, address: str) -> str:
    """The token of this attempt for a configuration that ``address`` fetched."""
    digest = hmac.new(secret, f"midwife token 1|{attempt}|{address}".encode(), hashlib.sha256).digest()
    return f"{attempt}.{base64.b32encode(digest).decode().lower()[:_LENGTH]}"


def attempt_of(token: str) -> str:
    """The attempt that the token names, "" if it does not look like a token. Proves nothing."""
    match = _FORM.fullmatch(token)
    return match[1] if match else ""


def verify(secret: bytes, token: str, attempt: str, address: str) -> bool:
    """Whether ``mint`` made this token for this attempt and address; in constant time. Total: any text."""
    if not _FORM.fullmatch(token):  # also keeps out what cannot be encoded
        return False
    return hmac.compare_digest(mint(secret, attempt, address).encode(), token.encode())
