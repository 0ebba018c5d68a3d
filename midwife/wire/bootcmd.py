"""The kernel command line: finding ``PBHOST=`` and ``PBTOKEN=`` in it, writing them, and its length limits.

Boot command lines reach us raw (``/proc/cmdline``), wrapped by a tool (``vsish``) or quoted in a log line, so
the text is read word by word and anything around the words is accepted. ``boot/pbconnect`` implements the
same rules in shell. This module knows no files and no sockets.
"""

import ipaddress
import re
from dataclasses import dataclass

__all__ = [
    "ESXI",
    "LINUX",
    "PXELINUX",
    "BootCommandError",
    "Endpoint",
    "Limit",
    "check_length",
    "find_pbhost",
    "find_token",
    "find_word",
    "kernel_words",
]

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_FORMS = "192.0.2.1:3500, a-name:3500 or [2001:db8::1]:3500"
# What may cling to a word: log lines quote the whole line ("Executing 'b.b00 PBHOST=192.0.2.1:3500'"). A
# closing bracket is not among them, it belongs to [IPv6].
_WRAPPING = "\"'`,;<>(){}"


class BootCommandError(ValueError):
    """The command line cannot be written as asked; the message says which word is wrong or too long."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a kernel command line may be, in bytes, and for whom."""

    who: str
    size: int


ESXI = Limit("ESXi", 1024)
"""No current limit is documented. The ESX 4 installer warned at 256 bytes; the loader of ESXi 9 was seen to
hand over 1300 bytes unharmed, the kernel behind it was not measured. 1024 leaves room for what mboot itself
adds: the kernel's path before, BOOTIF=01-… behind."""
LINUX = Limit("Linux on x86", 2047)
"""COMMAND_LINE_SIZE is 2048 with the closing NUL (arch/x86/include/asm/setup.h); the kernel silently cuts off
the rest."""
PXELINUX = Limit("PXELINUX", 2047)
"""The longest APPEND line of syslinux 4 and later on kernels that allow it; silently cut off beyond."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a host is to call: an address or a name, and a port."""

    host: str
    """An IPv4 or IPv6 address without brackets, or a host name."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """From ``192.0.2.1:3500``, ``midwife.example:3500`` or ``[2001:db8::1]:3500``.

        Raises BootCommandError.
        """
        host, _, port = text.rpartition(":")
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise BootCommandError(f"{text!r} has no port; write {_FORMS}")
        bracketed = host.startswith("[") and host.endswith("]")
        address = host[1:-1] if bracketed else host
        try:
            good = (ipaddress.ip_address(address).version == 6) == bracketed
        except ValueError:
            # All digits and dots is a mistyped address, not a name: 192.0.2.256 must not go to a resolver.
            good = bool(_NAME.fullmatch(host)) and not re.fullmatch(r"[0-9.]+", host)
        if not good:
            raise BootCommandError(f"{text!r} names no host to call; write {_FORMS}")
        return cls(address, int(port))


def _values(text: str, key: str) -> list[str]:
    values = []
    for word in text.split():
        plain = word.strip(_WRAPPING)
        if plain.startswith(key + "="):
            values.append(plain[len(key) + 1 :].strip(_WRAPPING))
    return values


def find_word(text: str, key: str) -> str:
    """The value of the last ``key=value`` word (kernels let the last one win), "" if there is none."""
    return next(reversed(_values(text, key)), "")


def find_pbhost(text: str) -> Endpoint | None:
    """The last ``PBHOST=`` that names an endpoint; None if there is none. Malformed ones are passed over."""
    for value in reversed(_values(text, "PBHOST")):
        try:
            return Endpoint.parse(value)
        except BootCommandError:
            continue
    return None


def find_token(text: str) -> str:
    """The last well-formed ``PBTOKEN=``, "" if there is none."""
    return next((v for v in reversed(_values(text, "PBTOKEN")) if _TOKEN.fullmatch(v)), "")


def kernel_words(pbhost: Endpoint, token: str = "") -> str:
    """``PBHOST=192.0.2.1:3500 PBTOKEN=…`` for the kernel line; no PBTOKEN where the token is "".

    Raises BootCommandError for a token with characters that a boot loader or a shell would take apart.
    """
    words = f"PBHOST={Endpoint.parse(str(pbhost))}"
    if not token:
        return words
    if not _TOKEN.fullmatch(token):
        raise BootCommandError(
            "a token is 1 to 128 letters, digits and . _ ~ - (its value is not shown here)"
        )
    return f"{words} PBTOKEN={token}"


def check_length(line: str, limit: Limit = ESXI) -> None:
    """Raises BootCommandError for a line over the limit; names the longest words, never their values."""
    size = len(line.encode())
    if size <= limit.size:
        return
    longest = sorted(line.split(), key=len, reverse=True)[:3]
    names = ", ".join(f"{word.partition('=')[0][:40]} ({len(word)})" for word in longest)
    raise BootCommandError(
        f"the kernel command line has {size} bytes, {limit.who} takes {limit.size};"
        f" the longest words: {names}. Shorten or drop some options of the image or the host"
    )
