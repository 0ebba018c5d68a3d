"""Addresses of online depots: which are allowed, and how they are shown without the secrets in them.

Broadcom's download addresses carry a personal token as a part of the path; others carry a password or a signed
query. Text only; opens no connection. Where a reference leads to is in ``midwife.images.depot.formats.index``.
"""

import re
from urllib.parse import quote, urlsplit, urlunsplit

from midwife.images.errors import ImageError

__all__ = ["MASK", "check_url", "exact_url", "is_url", "shown_url"]

MASK = "***"
_SCHEMES = ("http", "https")
_LONGEST = 4096
_TOKEN = re.compile(r"[A-Za-z0-9_~=%-]{20,}")
"""A part of a path that is a token: long and without a dot. Names of files and of VIBs have dots."""
_RESERVED = ":/?#[]@!$&'()*+,;=%~"


def is_url(text: str) -> bool:
    """Whether it is meant as an address rather than as a path: ``http:``, ``https:``, ``ftp:``, in any case."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def check_url(url: str) -> str:
    """The address itself. Raises ImageError if it is not http or https, names no host, or is absurd."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ImageError(f"{url[:80]!r} is not an address: {error}") from None
    if parts.scheme.lower() not in _SCHEMES:
        raise ImageError(f"{shown_url(url)} cannot be fetched: an online depot is at http:// or https://")
    if not host or port == 0 or len(url) > _LONGEST or any(c <= " " or c == "\x7f" for c in url):
        raise ImageError(f"{shown_url(url)!r} is not an address: http:// or https://, a host, a path")
    return url


def exact_url(url: str) -> str:
    """With everything quoted that HTTP cannot carry, and what was quoted already left as it is."""
    return quote(url, safe=_RESERVED)


def shown_url(url: str) -> str:
    """For people, logs and JSON: without user name, password, query, and whatever looks like a token."""
    try:
        parts = urlsplit(url)
        netloc = parts.netloc
    except ValueError:
        return MASK
    if "@" in netloc:
        netloc = f"{MASK}@{netloc.rpartition('@')[2]}"
    path = "/".join(MASK if _secret(part) else part for part in parts.path.split("/"))
    return urlunsplit((parts.scheme, netloc, path, MASK if parts.query else "", ""))


def _secret(part: str) -> bool:
    letters = any(c.isalpha() for c in part)
    return bool(_TOKEN.fullmatch(part)) and letters and any(c.isdigit() for c in part)
