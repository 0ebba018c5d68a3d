"""The same answer as a walk over all rules, without the walk: rules are found by the values they ask for.

Each rule hangs on one of its patterns: by value if that is a list of exact values, by segment if it is a list
of address ranges, and wildcards and ``!=`` are tested once for every value that machines have (there are few
models in a fleet). For a machine only the rules that hang on one of its values are judged, in order, and the
walk ends as soon as every type of item is given. Pure, like ``match``.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge

from midwife.rules.match import Given, RuleLike
from midwife.rules.patterns import Outcome, Pattern, is_unknown, outcome, parse_pattern
from midwife.rules.values import AddressRange, Glob, Value, canonical
from midwife.wire.identity import swap_uuid

__all__ = ["Decided", "RuleIndex"]

_MOST_SEGMENTS = 64
"""Entries per rule: ranges that lie over one another in heaps are walked instead."""
_MOST_REMEMBERED = 4096
"""Values of an attribute whose rules are remembered: serial numbers may be many."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a whole rule set gives, without the story of every rule (``match.evaluate`` tells that)."""

    items: Mapping[str, Given]
    unknown: tuple[str, ...]
    """Attributes that, if they were known, could change the items."""
    perhaps: Mapping[str, Sequence[Given]]
    """By item type: what could be given instead if they were, in the order of the rules."""


@dataclass(frozen=True, slots=True)
class _Rule:
    patterns: tuple[Pattern, ...]
    items: Mapping[str, Given]


class RuleIndex:
    """Made once for a rule set, asked for every machine. Raises PatternError (never for a loaded site)."""

    def __init__(self, rules: Sequence[RuleLike]) -> None:
        self._rules = [
            _Rule(
                tuple(parse_pattern(text) for text in rule.patterns),
                {kind: Given(value, rule.name) for kind, value in rule.items.given().items()},
            )
            for rule in rules
        ]
        self._kinds = {kind for rule in self._rules for kind in rule.items}
        self._always: list[int] = []
        self._by_value: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._hanging: dict[str, list[int]] = defaultdict(list)
        """By attribute: the rules that cannot be ruled out while it is unknown."""
        self._asked: dict[str, str] = {}
        self._tested: dict[str, list[tuple[int, Pattern]]] = defaultdict(list)
        self._remembered: dict[str, dict[tuple[str, ...], list[int]]] = defaultdict(dict)
        ranges: dict[str, list[int]] = defaultdict(list)
        hooks: dict[int, Pattern] = {}
        crowd = Counter(
            (pattern.attribute, value)
            for rule in self._rules
            for pattern in rule.patterns
            for value in pattern.values
        )
        for number, rule in enumerate(self._rules):
            hook = min(rule.patterns, key=lambda pattern: _rank(pattern, crowd), default=None)
            if hook is None:
                self._always.append(number)
                continue
            hooks[number] = hook
            self._hanging[hook.attribute].append(number)
            self._asked[hook.attribute] = hook.asks.kind
            if _rank(hook, crowd)[0] == _TESTED:
                self._tested[hook.attribute].append((number, hook))
            elif _rank(hook, crowd)[0] == _RANGES:
                ranges[hook.attribute].append(number)
            else:
                for key in {key for value in hook.values for key in _keys(hook, str(value))}:
                    self._by_value[hook.attribute][key].append(number)
        self._segments = {name: _Segments(numbers, hooks) for name, numbers in ranges.items()}

    def evaluate(self, attributes: Mapping[str, tuple[str, ...]]) -> Decided:
        """The items for a machine with these attributes."""
        items: dict[str, Given] = {}
        unknown: list[str] = []
        perhaps: dict[str, list[Given]] = {}
        for number in self._candidates(attributes):
            rule = self._rules[number]
            fresh = [kind for kind in rule.items if kind not in items]
            if not fresh:
                continue
            said = [outcome(pattern, attributes) for pattern in rule.patterns]
            if Outcome.NO_MATCH in said:
                continue
            if Outcome.UNKNOWN in said:
                unknown += [
                    p.attribute for p, one in zip(rule.patterns, said, strict=True) if one is Outcome.UNKNOWN
                ]
                for kind in fresh:
                    perhaps.setdefault(kind, []).append(rule.items[kind])
                continue
            items.update({kind: rule.items[kind] for kind in fresh})
            if len(items) == len(self._kinds):
                break
        return Decided(items, tuple(dict.fromkeys(unknown)), perhaps)

    def _candidates(self, attributes: Mapping[str, tuple[str, ...]]) -> Iterator[int]:
        """Numbers of the rules that may match or may be unknown, in order, each once."""
        found = [self._always]
        for name, kind in self._asked.items():
            facts = tuple(canonical(kind, value) for value in attributes.get(name, ()) if value.strip())
            if not facts and is_unknown(name, attributes):
                found.append(self._hanging[name])
                continue
            if name in self._tested:
                found.append(self._fitting(name, facts))
            for fact in facts:
                if numbers := self._by_value[name].get(fact):
                    found.append(numbers)
                if name in self._segments:
                    found.append(self._segments[name].at(fact))
        last = -1
        for number in merge(*found):
            if number != last:
                yield number
            last = number

    def _fitting(self, name: str, facts: tuple[str, ...]) -> list[int]:
        """The rules that hang on a wildcard or ``!=`` which these facts fulfil."""
        remembered = self._remembered[name]
        if facts not in remembered:
            if len(remembered) >= _MOST_REMEMBERED:
                remembered.clear()
            machine = {name: facts}
            remembered[facts] = [
                number for number, hook in self._tested[name] if outcome(hook, machine) is Outcome.MATCH
            ]
        return remembered[facts]


class _Segments:
    """Address ranges (and single addresses beside them) cut at all their ends: one look-up finds the rules."""

    def __init__(self, numbers: Sequence[int], hooks: Mapping[int, Pattern]) -> None:
        spans = [
            (span.first, span.last + 1, number)
            for number in numbers
            for span in (_span(value) for value in hooks[number].values)
        ]
        self._family = (spans and _span(hooks[numbers[0]].values[0]).family) or 4
        self._all = list(numbers)
        self._cuts = sorted({end for first, after, _ in spans for end in (first, after)})
        self._rules: list[list[int]] | None = [[] for _ in self._cuts]
        entries = 0
        for first, after, number in sorted(spans, key=lambda span: span[2]):
            start, end = bisect_right(self._cuts, first) - 1, bisect_right(self._cuts, after) - 1
            entries += end - start
            if entries > _MOST_SEGMENTS * len(numbers):
                self._rules = None
                return
            for segment in self._rules[start:end]:
                if not segment or segment[-1] != number:
                    segment.append(number)

    def at(self, fact: str) -> list[int]:
        """The rules with a range that holds the address (all of them, if the ranges lie in heaps)."""
        if self._rules is None:
            return self._all
        number = AddressRange(0, 2**128, self._family).number(fact)
        place = -1 if number is None else bisect_right(self._cuts, number) - 1
        return self._rules[place] if place >= 0 else []


_VALUES, _RANGES, _TESTED = range(3)


def _rank(pattern: Pattern, crowd: Mapping[tuple[str, Value], int]) -> tuple[int, int]:
    """What a rule hangs on best: values before ranges before what must be tested; where few rules hang."""
    if pattern.negated or any(isinstance(value, Glob) for value in pattern.values):
        return _TESTED, len(pattern.values)
    ranges = any(isinstance(value, AddressRange) for value in pattern.values)
    return _RANGES if ranges else _VALUES, max(crowd[pattern.attribute, value] for value in pattern.values)


def _keys(pattern: Pattern, value: str) -> tuple[str, ...]:
    return (value, swap_uuid(value)) if pattern.asks.kind == "uuid" else (value,)


def _span(value: object) -> AddressRange:
    if isinstance(value, AddressRange):
        return value
    return AddressRange.single(str(value))
