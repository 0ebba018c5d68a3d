"""Reads one YAML file into texts, lists and mappings, and remembers where each of them stands.

A subset of YAML 1.1 with every scalar a text (YAML itself would read the MAC address 52:54:00:12:34:56 as the
number 41135085296). Anchors and aliases work within bounds; duplicate keys, tags and merge keys are problems,
and so is every byte that is not YAML: nothing here raises. A key without a value counts as not written. Knows
nothing of what a site contains.
"""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from midwife.site.problems import Level, Problem

__all__ = ["MAX_BYTES", "Document", "Loc", "Mark", "Place", "parse_yaml", "read_yaml"]

MAX_BYTES = 4 * 1024 * 1024  # a list of 20,000 hosts has 3 MiB
MAX_NODES = 200_000  # after aliases are expanded: a billion laughs stops here
MAX_DEPTH = 40

_UNPRINTABLE = yaml.reader.Reader.NON_PRINTABLE
_ESCAPED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # what "\x00" and "\ud800" leave
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A position, from 1."""

    line: int
    column: int
    block: bool = False
    """A block scalar (``|``, ``>``): its text begins on the next line."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content. ``data`` is None where the file is empty, but for comments."""

    file: str
    data: Any
    values: dict[Loc, Mark] = field(default_factory=dict)
    keys: dict[Loc, Mark] = field(default_factory=dict)

    def mark(self, loc: Loc, *, key: bool = False) -> Mark:
        """Where the value (or its key) stands; of something that is not there, where its parent stands."""
        if key and loc in self.keys:
            return self.keys[loc]
        for length in range(len(loc), -1, -1):
            if loc[:length] in self.values:
                return self.values[loc[:length]]
        return Mark(1, 1)


@dataclass(frozen=True, slots=True)
class Place:
    """A spot in a document: what problems are reported at."""

    document: Document
    loc: Loc = ()

    def at(self, *more: str | int) -> "Place":
        """A spot below this one."""
        return Place(self.document, self.loc + more)

    def problem(
        self, what: str, hint: str = "", *, level: Level = "error", key: bool = False, line: int = 0
    ) -> Problem:
        """A problem here. ``line``: the line within a text of several lines, from 1."""
        mark = self.document.mark(self.loc, key=key)
        row, column = mark.line, mark.column
        if line and mark.block:
            row, column = mark.line + line, 1
        return Problem(self.document.file, row, column, what, hint, level)

    @property
    def name(self) -> str:
        """The path of keys, ``steps.2.run``."""
        return ".".join(str(part) for part in self.loc)

    @property
    def line(self) -> str:
        """``hosts/esx-01.yaml:3``, to point at it from elsewhere."""
        return f"{self.document.file}:{self.document.mark(self.loc).line}"


def read_yaml(path: Path, file: str, problems: list[Problem]) -> Document | None:
    """The content of a file, called ``file`` in the problems that are added to the list.

    None, and a problem in the list, for a file that cannot be read or is not YAML. Raises nothing.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return _failed(file, problems, "is not a regular file", "only files are read here")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return _failed(file, problems, f"cannot be read: {error.strerror or error}", "mend its owner or mode")
    return parse_yaml(raw, file, problems)


def parse_yaml(raw: bytes, file: str, problems: list[Problem]) -> Document | None:
    """The same from bytes, whatever they are."""
    if len(raw) > MAX_BYTES:
        return _failed(
            file, problems, f"is larger than {MAX_BYTES >> 20} MiB", "spread it over several files"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        problems.append(Problem(file, line, column, "this byte is not UTF-8", "save the file as UTF-8"))
        return None
    if bad := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        column = bad.start() - text.rfind("\n", 0, bad.start())
        problems.append(Problem(file, line, column, f"control character U+{ord(bad[0]):04X}", "take it out"))
        return None
    document = Document(file, None)
    try:
        root = _Reader(file, problems).read(text)
        data = _Expander(document).expand(root, ()) if root else None
    except _Refused as error:
        problems.append(error.problem(file))
        return None
    except yaml.YAMLError as error:
        problems.append(_syntax_problem(error, file, text))
        return None
    except (ValueError, OverflowError):  # PyYAML's own scanner on "\\UFFFFFFFF"
        return _failed(file, problems, "has an escape of an impossible character", "take the \\U… out")
    return Document(file, data, document.values, document.keys)


def _failed(file: str, problems: list[Problem], what: str, hint: str) -> Document | None:
    problems.append(Problem(file, 0, 0, what, hint))
    return None


@dataclass(slots=True)
class _Node:
    """A scalar (text), a sequence (children) or a mapping (pairs)."""

    mark: Mark
    text: str | None = None
    null: bool = False
    children: list["_Node"] = field(default_factory=list)
    pairs: list[tuple["_Node", "_Node"]] | None = None


class _Refused(Exception):  # never leaves this module
    """What must not be read any further."""

    def __init__(self, mark: Mark, what: str, hint: str) -> None:
        super().__init__(what)
        self._mark, self._what, self._hint = mark, what, hint

    def problem(self, file: str) -> Problem:
        return Problem(file, self._mark.line, self._mark.column, self._what, self._hint)


class _Reader:
    """Events to nodes. A composer of our own, because PyYAML's recurses without bound."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self._file = file
        self._problems = problems
        self._anchors: dict[str, _Node] = {}

    def read(self, text: str) -> _Node | None:
        """The root, None for an empty file. Raises _Refused, YAMLError, ValueError, OverflowError."""
        # libyaml is ten times faster; some distributions build PyYAML without it.
        events = yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        root = None
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                if root is not None:
                    raise _Refused(_mark(event), "a second document begins here", "one document (---) a file")
                root = self._node(event, events, 0)
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Node:
        mark = _mark(event)
        if depth > MAX_DEPTH:
            raise _Refused(mark, f"nested deeper than {MAX_DEPTH} levels", "nothing in a site is")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _Refused(
                    mark, f"no anchor &{event.anchor} before this *{event.anchor}", "quote a text with *"
                )
            return self._anchors[event.anchor]
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            self._report(
                mark, f"the tag {tag} means nothing here", "every value is a text; quote a text with !"
            )
        node = _Node(mark)
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.ScalarEvent):
            node.text = event.value
            node.null = event.style in (None, "") and event.value in _NULLS
            if bad := _ESCAPED.search(event.value):
                self._report(mark, f"control character U+{ord(bad[0]):04X} in this text", "take it out")
                node.text = _ESCAPED.sub("?", event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                node.children.append(self._node(event, events, depth + 1))
        else:
            node.pairs = self._pairs(events, depth + 1)
        if anchor:
            self._anchors[anchor] = node
        return node

    def _pairs(self, events: Iterator[yaml.Event], depth: int) -> list[tuple[_Node, _Node]]:
        pairs: list[tuple[_Node, _Node]] = []
        seen: dict[str, int] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, depth)
            value = self._node(next(events), events, depth)
            if key.text is None:
                self._report(key.mark, "this key is not a text", "write key: value; quote a text with { or [")
            elif key.text == "<<":
                self._report(
                    key.mark, "merge keys (<<) are not read", "write the keys out, or alias each value"
                )
            elif key.text in seen:
                what = f"the key {key.text!r} is here twice (first in line {seen[key.text]})"
                self._report(key.mark, what, "take one out")
            else:
                seen[key.text] = key.mark.line
                pairs.append((key, value))
        return pairs

    def _report(self, mark: Mark, what: str, hint: str) -> None:
        self._problems.append(Problem(self._file, mark.line, mark.column, what, hint))


class _Expander:
    """Nodes to plain data, with the position of every part; aliases become copies, within bounds."""

    def __init__(self, document: Document) -> None:
        self._values = document.values
        self._keys = document.keys

    def expand(self, node: _Node, loc: Loc) -> Any:
        """Raises _Refused."""
        if len(self._values) >= MAX_NODES or len(loc) > MAX_DEPTH:
            raise _Refused(node.mark, "aliases make this file far too large", "write the values out")
        self._values[loc] = node.mark
        if node.pairs is not None:
            result = {}
            for key, value in node.pairs:
                name = key.text or ""
                self._keys[(*loc, name)] = key.mark
                if value.null:
                    self._values[(*loc, name)] = value.mark
                else:
                    result[name] = self.expand(value, (*loc, name))
            return result
        if node.text is None:
            return [self.expand(child, (*loc, index)) for index, child in enumerate(node.children)]
        return None if node.null and not loc else "" if node.null else node.text


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    if start is None:  # only events made by hand have none
        return Mark(1, 1)
    return Mark(start.line + 1, start.column + 1, block=getattr(event, "style", None) in ("|", ">"))


# What PyYAML and libyaml say, and what it means to somebody who did not write a YAML parser.
_MEANINGS = (
    (
        "could not find expected ':'",
        "a key without its colon",
        "write key: value, with a blank after the colon",
    ),
    (
        "mapping values are not allowed",
        "a colon where none can be",
        "mend the indentation, or quote the text",
    ),
    ("expected key", "this line does not fit the lines above", "mend its indentation"),
    ("expected <block end>", "this line does not fit the lines above", "mend its indentation"),
    ("expected '-' indicator", "this line does not fit the list above", "mend its indentation"),
    ("cannot start any token", "this character cannot begin a value", "put the value in quotes"),
    ("unexpected end of stream", "a quote that is opened here is never closed", "close it"),
)


def _syntax_problem(error: yaml.YAMLError, file: str, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    context = getattr(error, "context_mark", None)
    said = str(getattr(error, "problem", None) or error)
    if mark is None:
        return Problem(file, 0, 0, f"is not YAML: {said}", "mend it")
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    if "\t" in indent:
        return Problem(
            file, mark.line + 1, indent.index("\t") + 1, "a tab in the indentation", "YAML wants blanks"
        )
    what, hint = said, "this is not YAML"
    for phrase, meaning, advice in _MEANINGS:
        if phrase in said:
            what, hint = meaning, advice
            # The place where the key or the quote began says more than the place where hope was lost.
            if context is not None and ("without its colon" in what or "opened here" in what):
                mark = context
            break
    return Problem(file, mark.line + 1, mark.column + 1, what, hint)
