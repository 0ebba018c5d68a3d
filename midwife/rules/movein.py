"""Rules of an Auto Deploy as rules of midwife: the same hosts get the same, or it is said what could not be moved.

A rule whose patterns cannot be said is left out whole (without a pattern it would match more hosts); an item that
midwife does not have (yet) is left out of its rule. Both make the import incomplete, because then a host may
get what a later rule gives. Pure: what the site has comes in as ``Known``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from shlex import quote

from midwife.rules.autodeploy import Export, ExportedRule, OldItem
from midwife.rules.patterns import PatternError, parse_pattern

__all__ = ["Known", "LeftOut", "Moved", "MovedRule", "move_in"]

_LOCATIONS = frozenset({"datacenter", "folder", "cluster"})
_BUNDLES = (".tgz", ".tar.gz")
_LONGEST_RULE_NAME = 128
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Known:
    """What the site has, and what the caller says of names."""

    images: frozenset[str] = frozenset()
    configurations: frozenset[str] = frozenset()
    bundles: frozenset[str] = frozenset()
    """Names of files in bundles/."""
    reserved: frozenset[str] = frozenset()
    """Names that no image may have, in lower case."""
    image_names: Mapping[str, str] = field(default_factory=dict)
    """Image profile of Auto Deploy to image of midwife, where the caller knows better."""
    configuration_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something of a rule that was not moved; ``item`` is "" if it is the whole rule."""

    rule: str
    what: str
    """As Auto Deploy calls it: ``image profile ESXi-8.0U3-24022510-standard``."""
    why: str
    do: str
    item: str = ""
    """``image: ESXi-8.0U3-24022510-standard``, as it would stand in the file."""


@dataclass(frozen=True, slots=True)
class MovedRule:
    """A rule of midwife; no patterns: all hosts."""

    name: str
    patterns: tuple[str, ...]
    items: Mapping[str, str]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """Everything that was moved. The rules: the active set, the rest of the working set, the rest."""

    rules: tuple[MovedRule, ...]
    active: tuple[str, ...]
    working: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    changed: tuple[str, ...]
    """Sentences: what has another name or form now."""
    complete: bool
    """Whether every rule of the active set was moved with all that it has."""


def move_in(export: Export, known: Known) -> Moved:
    """The rules of the export, as far as midwife can say them with what the site has. Raises nothing."""
    mover = _Mover(known)
    # Whoever sees the rules in Get-DeployRule keeps the name; the sets may hold an older rule of that name.
    names = {rule: mover.rule_name(rule) for rule in (*export.rules, *export.working, *export.active)}
    mover.choose_names((*export.active, *export.working, *export.rules))
    rules: dict[ExportedRule, MovedRule | None] = {}
    for rule in (*export.active, *export.working, *export.rules):
        if rule not in rules:
            rules[rule] = mover.rule(rule, names[rule])
    moved = [rule for rule in rules.values() if rule]
    active, working = (
        tuple(dict.fromkeys(one.name for one in (rules[rule] for rule in which) if one))
        for which in (export.active, export.working)
    )
    complete = all((one := rules[rule]) is not None and not one.left_out for rule in export.active)
    changed = tuple(dict.fromkeys(mover.changed))
    return Moved(tuple(moved), active, working, tuple(mover.left_out), changed, complete)


class _Mover:
    def __init__(self, known: Known) -> None:
        self._known = known
        self._rule_names: dict[str, str] = {}
        self._names: dict[tuple[str, str, str], str] = {}
        """Kind, name and vendor of an item to its name in midwife; "" if none can be made."""
        self.left_out: list[LeftOut] = []
        self.changed: list[str] = []

    def rule_name(self, rule: ExportedRule) -> str:
        """A name that no other rule has, in whatever case. For an equal rule the same would do; see the caller."""
        plain = _printable(rule.name)[:_LONGEST_RULE_NAME].strip() or "rule"
        name, number = plain, 1
        while self._rule_names.setdefault(name.casefold(), _key(rule)) != _key(rule):
            number += 1
            ending = f" ({number})"
            name = plain[: _LONGEST_RULE_NAME - len(ending)] + ending
        if name != rule.name:
            why = "another one has the name" if number > 1 else "its name cannot be one"
            self.changed.append(f"rule {rule.name!r} is called {name!r} here: {why}")
        return name

    def choose_names(self, rules: Iterable[ExportedRule]) -> None:
        """Names of images and configurations; profiles of several vendors may have the same name."""
        taken: dict[tuple[str, str], tuple[str, str]] = {}
        for item in (item for rule in rules for item in rule.items):
            if item.kind not in ("image-profile", "host-profile"):
                continue
            key = (item.kind, item.name, item.vendor)
            image = item.kind == "image-profile"
            given = (self._known.image_names if image else self._known.configuration_names).get(item.name)
            if given is not None:
                self._names[key] = given
            elif key not in self._names:
                self._names[key] = self._free_name(item, taken)
            new = self._names[key]
            if new and new != item.name:
                legal = _slug(item.name) == item.name
                why = (
                    "it is taken, or has a meaning of its own"
                    if legal
                    else "letters, digits and . _ - + only"
                )
                self.changed.append(f"{_said(item)} is called {new!r} here" + ("" if given else f": {why}"))

    def _free_name(self, item: OldItem, taken: dict[tuple[str, str], tuple[str, str]]) -> str:
        plain = _slug(item.name)
        if not plain:
            return ""
        if item.kind == "image-profile" and plain.casefold() in self._known.reserved:
            plain += "-image"
        vendor = _slug(item.vendor)
        candidates = [plain, *([_slug(f"{plain[:40]}-{vendor}")] if vendor else [])]
        candidates += [f"{plain[:70]}-{number}" for number in range(2, len(taken) + 3)]
        me = (item.name, item.vendor)
        return next(name for name in candidates if taken.setdefault((item.kind, name.casefold()), me) == me)

    def rule(self, rule: ExportedRule, name: str) -> MovedRule | None:
        """The rule, or None if its patterns cannot be said."""
        patterns = []
        for text in rule.patterns:
            try:
                pattern = _pattern(text)
            except PatternError as error:
                do = "write it by hand: midwife rule new"
                self.left_out.append(LeftOut(name, f"pattern {_printable(text)}", str(error), do))
                return None
            if pattern != text:
                self.changed.append(
                    f"pattern {text} of rule {name!r} is {pattern} here: * and ? are wildcards"
                )
            patterns.append(pattern)
        items: dict[str, str] = {}
        left_out: list[LeftOut] = []
        for item in rule.items:
            for kind, value, missing in self._items(item, name):
                if missing is None and kind in items and items[kind] != value:
                    why = f"the rule has {kind} {items[kind]} already"
                    missing = LeftOut(name, _said(item), why, "take one of them")
                if missing is None:
                    items[kind] = value
                else:
                    left_out.append(missing)
        self.left_out += left_out
        return MovedRule(name, tuple(patterns), items, tuple(left_out))

    def _items(self, item: OldItem, rule: str) -> Iterator[tuple[str, str, LeftOut | None]]:
        """Type and value of what an item becomes, or why it does not."""
        known = self._known

        def missing(why: str, do: str, line: str = "") -> tuple[str, str, LeftOut]:
            return "", "", LeftOut(rule, _said(item), why, do, line)

        if item.kind == "image-profile":
            name = self._names[item.kind, item.name, item.vendor]
            if not name:
                yield missing("no name can be made of it", f"say one: --image {quote(item.name)}=NAME")
            elif name not in known.images:
                do = f"make it: midwife image netboot {name}; or name one: --image {quote(item.name)}=NAME"
                yield missing(f"there is no image {name}", do, f"image: {name}")
            else:
                yield "image", name, None
        elif item.kind == "host-profile":
            name = self._names[item.kind, item.name, item.vendor]
            if not name:
                yield missing(
                    "no name can be made of it", f"say one: --configuration {quote(item.name)}=NAME"
                )
            elif name not in known.configurations:
                do = f"write host-configurations/{name}.yaml; or name one: --configuration {quote(item.name)}=NAME"
                yield missing(f"there is no host configuration {name}", do, f"configuration: {name}")
            else:
                yield "configuration", name, None
        elif item.kind in _LOCATIONS:
            location, why = self._location(item)
            if why:
                yield missing(why, "say it by hand: location: DATACENTER/FOLDER/CLUSTER")
            else:
                yield "location", location, None
        elif item.kind == "script-bundle":
            names = (
                [item.name] if item.name.lower().endswith(_BUNDLES) else [item.name + end for end in _BUNDLES]
            )
            file = next((name for name in names if name in known.bundles), "")
            if file:
                yield "script-bundle", file, None
            else:
                file = _printable(names[0]).replace("/", "-")
                do = f"put it into the site: bundles/{file}"
                yield missing(f"there is no {file} in bundles/", do, f"script-bundle: {file}")
        else:
            yield missing(f"midwife has nothing like {item.type or 'it'}", "-")

    def _location(self, item: OldItem) -> tuple[str, str]:
        """``Lab/Rack 7/ClusterA``, or "" and why not. It begins with the datacenter, as vCenter's own do."""
        kinds = [kind for kind, _ in item.path]
        if "datacenter" not in kinds:
            return "", "it does not lie in a datacenter"
        first = kinds.index("datacenter")
        names = [name.replace("/", "%2f") for _, name in item.path[first:]]  # as vCenter itself writes it
        if any(not name.isprintable() or len(name) > _LONGEST_NAME for name in names):
            return "", f"a name in it cannot be printed, or is longer than {_LONGEST_NAME} characters"
        if any(not name or name != name.strip() for name in names):
            return "", "a name in it is empty, or begins or ends with a blank"
        location = "/".join(names)
        if first:
            above = "/".join(name for _, name in item.path[:first])
            self.changed.append(f"location {location}: the folder {above} above the datacenter is not said")
        return location, ""


def _pattern(text: str) -> str:
    """The same pattern in midwife's grammar, of which Auto Deploy's is a part. Raises PatternError."""
    if not text.isprintable():
        raise PatternError("it has characters that cannot be printed")
    name, _, rest = text.partition("=")
    if not rest.startswith("=") and set("*?") & set(
        rest
    ):  # wildcards are midwife's; here they are meant as they are
        if "," in rest:
            raise PatternError("a list with * or ? in it would be wildcards here")
        text = f"{name}=={rest}"
    pattern = parse_pattern(text)
    if pattern.negated or (pattern.extension and pattern.attribute != "family"):
        # Auto Deploy would have taken it as a plain text that no host has.
        raise PatternError("that is no pattern of Auto Deploy; here it would match other hosts")
    return text


def _key(rule: ExportedRule) -> str:
    return repr(rule)


def _said(item: OldItem) -> str:
    vendor = f" of {_printable(item.vendor)}" if item.vendor else ""
    return f"{item.kind.replace('-', ' ').replace('unknown', 'item')} {_printable(item.name)}{vendor}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+")[:_LONGEST_NAME]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
