"""A rule for a machine that none matches: its model, if its like are waiting too, else what only it has.

A pattern is only proposed if it matches the machine and nobody who should not be matched. Pure.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from midwife.rules.fleet import Member
from midwife.rules.match import RuleLike
from midwife.rules.patterns import Outcome, PatternError, outcome, parse_pattern

__all__ = ["Suggestion", "likely_image", "place", "suggest"]

_MODEL = ("vendor", "model")
_IDENTITY = ("mac", "serial", "uuid")
"""The MAC address first: every machine tells it with its first packet, so that nothing has to be asked."""
_LONGEST_NAME = 128  # of a rule (site/model.py)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A rule without items."""

    name: str
    patterns: tuple[str, ...]
    alike: tuple[str, ...]
    """The other known machines that it matches."""


def suggest(
    machine: Member, waiting: Iterable[Member], served: Iterable[Member], names: Collection[str]
) -> Suggestion | None:
    """A rule for this machine; None if nothing is known of it that a pattern could ask for.

    ``waiting``: the machines that get nothing to boot; ``served``: all others. ``names``: of the rules there are.
    """
    waiting = [other for other in waiting if other.name != machine.name]
    others = [*waiting, *(other for other in served if other.name != machine.name)]
    model = [_pattern(name, machine) for name in _MODEL]
    if all(model):
        like = _matched(model, others)
        if like and {one.name for one in like} <= {one.name for one in waiting}:
            words = " ".join(machine.attributes[name][0].strip() for name in _MODEL)
            return Suggestion(_name(words, names), tuple(model), tuple(one.name for one in like))
    known = [text for text in (_pattern(name, machine) for name in _IDENTITY) if text]
    for text in known:
        if not _matched([text], others):
            return Suggestion(_name(f"host {machine.name}", names), (text,), ())
    if not known:
        return None
    like = _matched(known, others)
    return Suggestion(_name(f"host {machine.name}", names), tuple(known), tuple(one.name for one in like))


def likely_image(machine: Member, images: Mapping[str, str], others: Iterable[Member]) -> tuple[str, str]:
    """The image that it should probably get, and why: ``("", "")`` if no machine has one.

    ``images``: name of a machine -> the image that it gets. Its like count before all others.
    """
    rest = [other for other in others if other.name != machine.name and images.get(other.name)]
    model = [_pattern(name, machine) for name in _MODEL]
    like = _matched(model, rest) if all(model) else []
    for group, why in ((like, "machines of this model get it"), (rest, "most machines get it")):
        if group:
            counted = Counter(images[other.name] for other in group)
            # Of equally many the first by name: the same machines give the same rule.
            return min(counted, key=lambda image: (-counted[image], image)), why
    return "", ""


def place(machine: Member, rules: Sequence[RuleLike], kinds: Collection[str]) -> int:
    """The last index in a set at which a rule with items of these types counts for this machine."""
    for index, rule in enumerate(rules):
        if kinds & rule.items.given().keys():
            said = [outcome(parse_pattern(text), machine.attributes) for text in rule.patterns]
            if Outcome.NO_MATCH not in said:
                return index
    return len(rules)


def _pattern(name: str, machine: Member) -> str:
    """``name=value`` that matches the machine; "" if there is none."""
    for value in machine.attributes.get(name, ()):
        plain = value.strip()
        exact = "==" if set(",*?") & set(plain) or plain.startswith("=") else "="
        text = f"{name}{exact}{plain}"
        try:
            if plain.isprintable() and outcome(parse_pattern(text), machine.attributes) is Outcome.MATCH:
                return text
        except PatternError:
            continue  # a vendor's dummy, for example, identifies nothing
    return ""


def _matched(texts: Sequence[str], members: Iterable[Member]) -> list[Member]:
    patterns = [parse_pattern(text) for text in texts]
    return [
        member
        for member in members
        if all(outcome(pattern, member.attributes) is Outcome.MATCH for pattern in patterns)
    ]


def _name(words: str, names: Collection[str]) -> str:
    """A name that no rule has. Not one that begins with a dot, which would hide the rule."""
    shown = "".join(c if c.isprintable() else " " for c in words)
    plain = " ".join(shown.split()).lstrip(". ")[: _LONGEST_NAME - 8].strip() or "suggested"
    taken = {name.casefold() for name in names}
    name, number = plain, 2
    while name.casefold() in taken:
        name, number = f"{plain} {number}", number + 1
    return name
