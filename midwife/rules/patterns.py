"""Patterns: ``vendor=Dell Inc.,HPE``, ``ipv4=192.0.2.10-192.0.2.20``, ``oemstring==a,b``, ``label.rack!=r7``.

Auto Deploy's grammar is that of the help of New-DeployRule: ``attr=v1,v2`` matches any of the values,
``attr==value`` one value that may contain commas, and ipv4 knows ranges. midwife adds networks (``ipv4=
192.0.2.0/24``), wildcards (``model=PowerEdge R6*``), ``!=`` and attributes of its own. The help is silent about
upper and lower case; vendors are not consistent in their SMBIOS strings, so case and surrounding blanks do not
count here. Texts only: this module knows nothing of hosts, facts or the site.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from midwife.rules.attributes import ATTRIBUTES, LABEL, Attribute, attribute
from midwife.rules.values import AddressRange, Glob, Value, canonical, covers, holds
from midwife.wire.identity import InvalidIdentity, clean_serial, parse_mac, parse_uuid

__all__ = [
    "Outcome",
    "Pattern",
    "PatternError",
    "Verdict",
    "implies",
    "is_unknown",
    "judge",
    "outcome",
    "parse_pattern",
]

_SEVERAL = frozenset({"mac", "oemstring"})
"""Attributes of which one machine has several values at once."""


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
    """One parsed pattern; ``values`` are canonical."""

    text: str
    asks: Attribute
    values: tuple[Value, ...]
    negated: bool = False
    """``!=``: matches if none of the values is there."""

    @property
    def attribute(self) -> str:
        """Name of what it asks for."""
        return self.asks.name

    @property
    def extension(self) -> bool:
        """Whether Auto Deploy would refuse it."""
        ours = any(
            isinstance(value, Glob)
            or (isinstance(value, AddressRange) and ("/" in self.text or value.family == 6))
            for value in self.values
        )
        return ours or self.negated or self.asks.extension


@lru_cache(maxsize=16384)
def parse_pattern(text: str) -> Pattern:
    """Raises PatternError."""
    name, equals, rest = text.partition("=")
    negated = name.endswith("!")
    wanted = name.removesuffix("!").strip().lower()
    if not equals:
        raise PatternError(
            f"{text!r} is not a pattern; write attribute=value, for example mac=52:54:00:12:34:56"
        )
    asks = attribute(wanted)
    if asks is None:
        known = ", ".join([*ATTRIBUTES, f"{LABEL}NAME"])
        raise PatternError(f"{wanted!r} is not an attribute; there are {known}")
    exact = rest.startswith("=")
    texts = [rest[1:]] if exact else rest.split(",")
    values: list[Value] = []
    for value in (part.strip() for part in texts):
        if not value:
            raise PatternError(f"{text!r} has an empty value; it would match nothing, take it out")
        values.append(_value(asks, value, exact=exact))
    return Pattern(text, asks, tuple(values), negated)


def judge(pattern: Pattern, attributes: Mapping[str, tuple[str, ...]]) -> Verdict:
    """What the pattern says of a machine with these attributes (as ``Facts.attributes`` gives them).

    An attribute with several values (MAC addresses, OEM strings) matches if any of them does. No unknown facts
    are a label that a host does not have (nobody else could tell it) and one that the machine was asked for and
    has no value of, which is there with ``()``.
    """
    name = pattern.attribute
    said = outcome(pattern, attributes)
    shown = ", ".join(value for value in attributes.get(name, ()) if value.strip())
    if said is Outcome.UNKNOWN:
        return Verdict(said, f"its {name} is not known, {pattern.text} cannot be tested")
    if said is Outcome.MATCH:
        return Verdict(said, f"{_its(name, shown)} matches {pattern.text}")
    if pattern.negated:
        return Verdict(said, f"its {name} is {shown}, which {pattern.text} excludes")
    if not shown:
        return Verdict(said, f"it has no {name}, {pattern.text} asks for one")
    return Verdict(said, f"its {name} is {shown}, not {_wanted(pattern)}")


def outcome(pattern: Pattern, attributes: Mapping[str, tuple[str, ...]]) -> Outcome:
    """What ``judge`` says, without the sentence."""
    kind = pattern.asks.kind
    facts = [canonical(kind, value) for value in attributes.get(pattern.asks.name, ()) if value.strip()]
    if not facts and is_unknown(pattern.asks.name, attributes):
        return Outcome.UNKNOWN
    for wanted in pattern.values:
        for fact in facts:
            if holds(kind, wanted, fact):
                return Outcome.NO_MATCH if pattern.negated else Outcome.MATCH
    return Outcome.MATCH if pattern.negated else Outcome.NO_MATCH


def is_unknown(name: str, attributes: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether an attribute without values may have some that were not told yet."""
    return not name.startswith(LABEL) and attributes.get(name) != ()


def _its(name: str, shown: str) -> str:
    return f"its {name} {shown}" if shown else f"its lack of {name}"


def implies(narrow: Pattern, wide: Pattern) -> bool:
    """Whether every machine that matches ``narrow`` matches ``wide``. Never wrongly yes."""
    if narrow.attribute != wide.attribute:
        return False
    if narrow.negated and wide.negated:  # whoever is none of many is none of a few
        return all(any(covers(other, value) for other in narrow.values) for value in wide.values)
    if narrow.negated:
        return False
    if wide.negated:  # whoever is a certain one is none of the others, if there is but one value
        plain = all(isinstance(value, str) for value in narrow.values)
        apart = not any(
            holds(wide.asks.kind, other, value)
            for other in wide.values
            for value in narrow.values
            if isinstance(value, str)
        )
        return plain and apart and narrow.attribute not in _SEVERAL
    return all(any(covers(other, value) for other in wide.values) for value in narrow.values)


def _value(asks: Attribute, value: str, *, exact: bool) -> Value:
    if asks.kind in ("ipv4", "ipv6"):
        return _addresses(asks, value, exact=exact)
    try:
        if asks.kind == "mac":
            return parse_mac(value)
        if asks.kind == "uuid":
            return parse_uuid(value) or _refuse_dummy(value)
    except InvalidIdentity as error:
        raise PatternError(str(error)) from None
    if not exact and set("*?") & set(value):
        return Glob(value.casefold())
    if asks.kind == "identity" and not clean_serial(value):
        _refuse_dummy(value)
    return value.casefold()


def _refuse_dummy(value: str) -> str:
    raise PatternError(f"{value!r} is what vendors leave in place of a real value; it identifies no machine")


def _addresses(asks: Attribute, value: str, *, exact: bool) -> Value:
    first, dash, last = value.partition("-")
    start = _address(asks, value if exact else first.strip().partition("/")[0], value)
    if exact or not (dash or "/" in value):
        return str(start)
    if not dash:
        return _network(asks, value)
    end = _address(asks, last.strip(), value)
    if int(end) < int(start):
        raise PatternError(f"the range {value} runs backwards; write {end}-{start}")
    return AddressRange(int(start), int(end), start.version)


def _network(asks: Attribute, value: str) -> AddressRange:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise PatternError(f"{value!r} is not a network; write {asks.name}=192.0.2.0/24") from None
    if str(network) != value and network.network_address != ipaddress.ip_address(value.partition("/")[0]):
        raise PatternError(f"{value!r} has bits beyond the length of its network; write {network}")
    return AddressRange(int(network.network_address), int(network.broadcast_address), network.version)


def _address(asks: Attribute, text: str, value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.IPv4Address(text) if asks.kind == "ipv4" else ipaddress.IPv6Address(text)
    except ipaddress.AddressValueError:
        pass
    if asks.kind == "ipv6":
        raise PatternError(f"{value!r} is not an IPv6 address, range or network")
    advice = "it is IPv6, use ipv6=" if ":" in text else "write ipv4=192.0.2.10 or 192.0.2.10-192.0.2.20"
    raise PatternError(f"{value!r} is not an IPv4 address or range; {advice}")


def _wanted(pattern: Pattern) -> str:
    rest = pattern.text.partition("=")[2]
    return " or ".join(part.strip() for part in rest.split(",")) if rest[:1] != "=" else rest[1:].strip()
