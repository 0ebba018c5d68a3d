"""The values of a pattern: an exact text, a range of addresses, or a text with wildcards.

Each knows which facts it holds for, and whether it covers another one for certain. Ranges of IPv4 addresses
are Auto Deploy's; networks, ranges of IPv6 addresses and wildcards are midwife's.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from midwife.wire.identity import swap_uuid

__all__ = ["AddressRange", "Glob", "Value", "canonical", "covers", "holds"]


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses of one family from ``first`` to ``last``, both included, as numbers."""

    first: int
    last: int
    family: int
    """4 or 6."""

    @classmethod
    def single(cls, text: str) -> "AddressRange":
        """The range that is one address. Raises ValueError."""
        address = ipaddress.ip_address(text)
        return cls(int(address), int(address), address.version)

    def number(self, text: str) -> int | None:
        """An address of the range's family as a number; None for anything else."""
        return _number(text, self.family)

    def holds(self, text: str) -> bool:
        """Whether the address lies in the range; False for anything that is no address of the family."""
        number = self.number(text)
        return number is not None and self.first <= number <= self.last


@dataclass(frozen=True, slots=True)
class Glob:
    """Text in which ``*`` stands for any characters and ``?`` for one; folded to lower case."""

    text: str

    def holds(self, text: str) -> bool:
        """Whether the whole text fits."""
        return _expression(self.text).fullmatch(text) is not None


Value = str | AddressRange | Glob
"""A plain ``str`` is exact, in the canonical form of its attribute."""


def canonical(kind: str, value: str) -> str:
    """A fact as it is compared: blanks and case do not count, addresses are written in one way."""
    plain = value.strip().casefold()
    if kind == "ipv6":
        try:
            return str(ipaddress.IPv6Address(plain))
        except ValueError:
            return plain
    return plain


def holds(kind: str, wanted: Value, fact: str) -> bool:
    """Whether a fact (canonical) is what is wanted."""
    if isinstance(wanted, str):
        # Firmware and tools disagree on a UUID's byte order (identity.swap_uuid), and so do people who copy.
        return fact == wanted or (kind == "uuid" and fact == swap_uuid(wanted))
    return wanted.holds(fact)


def covers(wide: Value, narrow: Value) -> bool:
    """Whether everything that ``narrow`` holds for, ``wide`` holds for too. Never wrongly yes."""
    if isinstance(narrow, str):
        return wide == narrow if isinstance(wide, str) else wide.holds(narrow)
    if isinstance(narrow, AddressRange):
        if isinstance(wide, AddressRange):
            return wide.family == narrow.family and wide.first <= narrow.first and narrow.last <= wide.last
        return narrow.first == narrow.last and _address(narrow) == wide
    if not isinstance(wide, Glob):
        return False
    # "dell*" covers "dell inc*": what follows the literal beginning cannot matter.
    prefix = wide.text.removesuffix("*")
    literal = re.split(r"[*?]", narrow.text, maxsplit=1)[0]
    return wide == narrow or (
        wide.text.endswith("*") and not set("*?") & set(prefix) and literal.startswith(prefix)
    )


@lru_cache(maxsize=4096)  # one fact is held against many ranges
def _number(text: str, family: int) -> int | None:
    try:
        return int(ipaddress.IPv4Address(text) if family == 4 else ipaddress.IPv6Address(text))
    except ValueError:
        return None


def _address(one: AddressRange) -> str:
    return str(ipaddress.IPv4Address(one.first) if one.family == 4 else ipaddress.IPv6Address(one.first))


@lru_cache(maxsize=4096)
def _expression(text: str) -> re.Pattern[str]:
    # Runs of stars are one star, or the expression would take exponential time to fail.
    parts = re.sub(r"\*+", "*", text)
    return re.compile("".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in parts), re.DOTALL)
