"""Auto Deploy's patterns: ``vendor=Dell Inc.,HPE``, ``ipv4=192.0.2.10-192.0.2.20``, ``oemstring==a,b``.

The grammar is that of the help of New-DeployRule: ``attr=v1,v2`` matches any of the values, ``attr==value``
one value that may contain commas, and only ipv4 knows ranges. No wildcards, no negation. The help is silent
about upper and lower case; vendors are not consistent in their SMBIOS strings, so case and surrounding blanks
do not count here. Texts only: this module knows nothing of hosts, facts or the site.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from midwife.wire.identity import InvalidIdentity, clean_serial, parse_mac, parse_uuid, swap_uuid

__all__ = ["ATTRIBUTES", "Outcome", "Pattern", "PatternError", "Verdict", "implies", "judge", "parse_pattern"]

ATTRIBUTES = (
    "asset",
    "domain",
    "family",
    "hostname",
    "ipv4",
    "ipv6",
    "mac",
    "model",
    "oemstring",
    "serial",
    "uuid",
    "vendor",
)
"""What a pattern can ask for: Auto Deploy's ten, the BIOS UUID and the SMBIOS family."""


class PatternError(ValueError):
    """The text is not a pattern; the message says which part of it and how to write it."""


class Outcome(StrEnum):
    """What a pattern or a rule says of one machine."""

    MATCH = "match"
    NO_MATCH = "no match"
    UNKNOWN = "unknown"
    """The machine has not told the fact (yet)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with the sentence that explains it."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """One parsed pattern. ``values`` are canonical; a range of IPv4 addresses is a pair, inclusive."""

    text: str
    attribute: str
    values: tuple["str | AddressRange", ...]


@dataclass(frozen=True, slots=True)
class AddressRange:
    """IPv4 addresses from ``first`` to ``last``, both included."""

    first: ipaddress.IPv4Address
    last: ipaddress.IPv4Address

    def holds(self, text: str) -> bool:
        """Whether the address lies in the range; False for anything that is no IPv4 address."""
        try:
            return self.first <= ipaddress.IPv4Address(text) <= self.last
        except ValueError:
            return False


def parse_pattern(text: str) -> Pattern:
    """Raises PatternError."""
    name, equals, rest = text.partition("=")
    attribute = name.strip().lower()
    if not equals:
        raise PatternError(
            f"{text!r} is not a pattern; write attribute=value, for example mac=52:54:00:12:34:56"
        )
    if attribute not in ATTRIBUTES:
        raise PatternError(f"{name.strip()!r} is not an attribute; there are {', '.join(ATTRIBUTES)}")
    exact = rest.startswith("=")
    texts = [rest[1:]] if exact else rest.split(",")
    values: list[str | AddressRange] = []
    for value in (part.strip() for part in texts):
        if not value:
            raise PatternError(f"{text!r} has an empty value; it would match nothing, take it out")
        values.append(_value(attribute, value, ranges=not exact))
    return Pattern(text, attribute, tuple(values))


def judge(pattern: Pattern, attributes: Mapping[str, tuple[str, ...]]) -> Verdict:
    """What the pattern says of a machine with these attributes (as ``Facts.attributes`` gives them).

    An attribute with several values (MAC addresses, OEM strings) matches if any of them does.
    """
    known = tuple(value for value in attributes.get(pattern.attribute, ()) if value.strip())
    shown = ", ".join(known)
    if not known:
        return Verdict(
            Outcome.UNKNOWN, f"its {pattern.attribute} is not known, {pattern.text} cannot be tested"
        )
    if any(_equal(pattern.attribute, wanted, value) for wanted in pattern.values for value in known):
        return Verdict(Outcome.MATCH, f"its {pattern.attribute} {shown} matches {pattern.text}")
    return Verdict(Outcome.NO_MATCH, f"its {pattern.attribute} is {shown}, not {_wanted(pattern)}")


def implies(narrow: Pattern, wide: Pattern) -> bool:
    """Whether every machine that matches ``narrow`` matches ``wide`` for certain."""
    return narrow.attribute == wide.attribute and all(
        any(_covers(other, value) for other in wide.values) for value in narrow.values
    )


def _value(attribute: str, value: str, *, ranges: bool) -> str | AddressRange:
    if attribute == "ipv4":
        return _ipv4(value) if ranges else str(_ipv4_address(value, value))
    try:
        if attribute == "ipv6":
            return str(ipaddress.IPv6Address(value))
        if attribute == "mac":
            return parse_mac(value)
        if attribute == "uuid":
            return parse_uuid(value) or _refuse_dummy(value)
    except InvalidIdentity as error:
        raise PatternError(str(error)) from None
    except ipaddress.AddressValueError:
        raise PatternError(f"{value!r} is not an IPv6 address") from None
    if attribute in ("serial", "asset") and not clean_serial(value):
        _refuse_dummy(value)
    return value.casefold()


def _refuse_dummy(value: str) -> str:
    raise PatternError(f"{value!r} is what vendors leave in place of a real value; it identifies no machine")


def _ipv4(value: str) -> str | AddressRange:
    first, dash, last = value.partition("-")
    start = _ipv4_address(first.strip(), value)
    if not dash:
        return str(start)
    end = _ipv4_address(last.strip(), value)
    if end < start:
        raise PatternError(f"the range {value} runs backwards; write {end}-{start}")
    return AddressRange(start, end)


def _ipv4_address(text: str, value: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ipaddress.AddressValueError:
        advice = "it is IPv6, use ipv6=" if ":" in text else "write ipv4=192.0.2.10 or 192.0.2.10-192.0.2.20"
        raise PatternError(f"{value!r} is not an IPv4 address or range; {advice}") from None


def _equal(attribute: str, wanted: str | AddressRange, value: str) -> bool:
    if isinstance(wanted, AddressRange):
        return wanted.holds(value)
    plain = value.strip().casefold()
    if attribute == "uuid":
        # Firmware and tools disagree on the byte order (identity.swap_uuid), and so do people who copy.
        return plain in (wanted, swap_uuid(wanted))
    if attribute == "ipv6":
        try:
            return ipaddress.IPv6Address(plain) == ipaddress.IPv6Address(wanted)
        except ipaddress.AddressValueError:
            return False
    return plain == wanted


def _covers(wide: str | AddressRange, narrow: str | AddressRange) -> bool:
    if isinstance(wide, AddressRange):
        if isinstance(narrow, AddressRange):
            return wide.first <= narrow.first and narrow.last <= wide.last
        return wide.holds(narrow)
    if isinstance(narrow, AddressRange):
        return narrow.first == narrow.last and str(narrow.first) == wide
    return wide == narrow


def _wanted(pattern: Pattern) -> str:
    rest = pattern.text.partition("=")[2]
    return " or ".join(part.strip() for part in rest.split(",")) if rest[:1] != "=" else rest[1:].strip()
