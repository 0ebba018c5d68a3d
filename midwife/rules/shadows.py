"""Which rules never have an effect, whatever machines there may be? Proved from the patterns, not sampled.

A rule is in the shadow of earlier ones if for each of its items an earlier rule with an item of that type matches
whenever it does. Pure.
"""

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from midwife.rules.match import RuleLike
from midwife.rules.patterns import Pattern, implies, parse_pattern
from midwife.rules.values import AddressRange

__all__ = ["Shadow", "shadows"]


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rule that can never give anything, and the earlier rules that take everything from it."""

    index: int
    by: tuple[str, ...]


def shadows(rules: Sequence[RuleLike]) -> tuple[Shadow, ...]:
    """Rules without effect, in order. Raises PatternError (never for a loaded site)."""
    found: list[Shadow] = []
    parsed = [[parse_pattern(text) for text in rule.patterns] for rule in rules]
    earlier = _Earlier(pattern for patterns in parsed for pattern in patterns)
    kinds = [rule.items.given().keys() for rule in rules]
    for index, patterns in enumerate(parsed):
        missing = set(kinds[index])
        takers: dict[str, str] = {}
        for number in earlier.wider(patterns):
            if taken := missing & kinds[number]:
                missing -= taken
                takers.update(dict.fromkeys(taken, rules[number].name))
        if takers and not missing:
            found.append(Shadow(index, tuple(dict.fromkeys(takers[kind] for kind in kinds[index]))))
        earlier.add(index, patterns)
    return tuple(found)


class _Earlier:
    """Rules found by what a narrower one must have: of 1,000 rules, few have to be compared with each other."""

    def __init__(self, every: Iterable[Pattern]) -> None:
        self._crowd = Counter((pattern.attribute, value) for pattern in every for value in pattern.values)
        self._patterns: dict[int, list[Pattern]] = {}
        self._always: list[int] = []
        self._by_value: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._by_attribute: dict[str, list[int]] = defaultdict(list)

    def add(self, number: int, patterns: list[Pattern]) -> None:
        """Under one of its patterns: each of them must be implied by the narrower rule."""
        self._patterns[number] = patterns
        exact = [pattern for pattern in patterns if not pattern.negated and _exact(pattern)]
        if exact:
            hook = min(exact, key=self._crowded)
            for value in hook.values:
                self._by_value[hook.attribute, str(value)].append(number)
        elif patterns:
            self._by_attribute[patterns[0].attribute].append(number)
        else:
            self._always.append(number)

    def wider(self, narrow: Sequence[Pattern]) -> Iterable[int]:
        """Those that match whenever all of these patterns do, in order."""
        numbers = set(self._always)
        for pattern in narrow:
            numbers.update(self._by_attribute.get(pattern.attribute, ()))
            # A list of exact values is implied only by values that are all in it, so by the first of them.
            numbers.update(self._by_value.get((pattern.attribute, _first(pattern)), ()))
        for number in sorted(numbers):
            wide = self._patterns[number]
            if all(any(implies(other, pattern) for other in narrow) for pattern in wide):
                yield number

    def _crowded(self, pattern: Pattern) -> int:
        return max(self._crowd[pattern.attribute, value] for value in pattern.values)


def _exact(pattern: Pattern) -> bool:
    return all(isinstance(value, str) for value in pattern.values)


def _first(pattern: Pattern) -> str:
    value = pattern.values[0]
    if isinstance(value, AddressRange):
        address = ipaddress.IPv4Address if value.family == 4 else ipaddress.IPv6Address
        return str(address(value.first))
    return str(value)
