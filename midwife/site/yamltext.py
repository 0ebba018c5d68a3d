"""Changes in a YAML file as changes of its text: what is not changed stays as it was, byte for byte.

A YAML library that loads and writes again moves comments to other entries when one is taken out, and indents
lists its own way. So here the parser says where things stand (PyYAML's marks), and only those spans are
replaced. The caller reads the result again and compares; knows nothing of what a file is about.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import yaml

from midwife.site.yamlplaces import Places, children
from midwife.site.yamlwrite import (
    LONG,
    Entry,
    Tree,
    Written,
    entry_lines,
    in_brackets,
    pair_lines,
    scalar,
    value_of,
)

__all__ = ["NotEditable", "Section", "YamlText"]


class NotEditable(ValueError):
    """The file is written in a way that cannot be changed line by line; the text says which."""


class Section:
    """A mapping of the file, one key a line."""

    def __init__(self, file: Places, node: yaml.Node | None, what: str) -> None:
        if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
            raise NotEditable(f"{what} is not written as key: value lines")
        self._file = file
        self._keys: dict[str, tuple[yaml.Node, yaml.Node]] = {
            key.value: (key, value) for key, value in node.value
        }
        self._column = int(node.value[0][0].start_mark.column)

    def entry(self, key: str, index: int) -> "Section":
        """The mapping that is an entry of a list. Raises NotEditable if it is not written line by line."""
        node = self._keys[key][1]
        if not isinstance(node, yaml.SequenceNode):
            raise NotEditable(f"{key} is not a list")
        return Section(self._file, node.value[index], f"an entry of {key}")

    def set(self, key: str, value: str, before: Sequence[str], bare: Sequence[str] = ()) -> None:
        """Give a key this text. A new key goes behind the last of ``before`` that is there."""
        node = self._value(key)
        if node is None or getattr(node, "style", None) in ("|", ">"):
            written = scalar(value, bare=bare, column=self._column)
        else:
            written = scalar(value, bare=bare)  # one line: there may be a comment behind it
        if node is None:
            self._insert(before, [f"{' ' * self._column}{key}: {written}"])
        elif isinstance(node, yaml.ScalarNode):
            start, end = node.start_mark.index, self._file.end(node)
            blank = "" if self._file.text[start - 1] in " \t\n" else " "
            self._file.edit(start, end, blank + written)
        else:
            self._empty(key, written)

    def remove(self, key: str) -> None:
        """Take a key out, with its lines; nothing if it is not there."""
        if key not in self._keys:
            return
        name, node = self._keys[key]
        file = self._file
        start = file.line_start(name.start_mark.index)
        if file.text[start : name.start_mark.index].strip():
            raise NotEditable(f"{key} is on the line of a dash")
        listed = isinstance(node, yaml.SequenceNode) and not node.flow_style
        end = file.line_end(max(file.end(node), name.end_mark.index))
        above = file.line_start(start - 1) if start else 0
        if start and file.blank(above) and (file.blank(end) or listed):  # as _insert sets a list apart
            start = above
        if isinstance(node, yaml.SequenceNode) and listed:
            self._block(node, (), {}, {})  # but comments between the entries, which may be about anything
            end = file.line_end(name.end_mark.index)
        file.edit(start, end, "")

    def written(self, key: str) -> list[str]:
        """The texts of a list, each with its line if it has one for itself."""
        node = self._value(key)
        file = self._file
        if not isinstance(node, yaml.SequenceNode):
            return []
        found = []
        for item in node.value:
            line = file.text[item.start_mark.index : file.line_end(file.end(item))].rstrip()
            found.append(str(item.value) if node.flow_style or "\n" in line else Written(item.value, line))
        return found

    def change_mapping(self, key: str, pairs: Mapping[str, str], before: Sequence[str]) -> None:
        """Make the mapping under ``key`` say ``pairs``; what it says already is not touched."""
        node = self._value(key)
        file = self._file
        if not isinstance(node, yaml.MappingNode) or not node.value or not pairs:
            self._fresh(key, pairs, before)
        elif node.flow_style:
            if "#" in file.of(node):
                raise NotEditable(f"{key} has a comment within its braces")
            old = {name.value: (name, value) for name, value in node.value}
            parts = []
            for name, value in pairs.items():
                same = name in old and old[name][1].value == value
                parts.append(
                    f"{file.of(old[name][0])}: {file.of(old[name][1])}"
                    if same
                    else f"{name}: {value_of(name, value)}"
                )
            file.edit(node.start_mark.index, file.end(node), f"{{{', '.join(parts)}}}")
        else:
            inside = Section(file, node, key)
            was = {name.value: value.value for name, value in node.value}
            order = [*was, *(name for name in pairs if name not in was)]
            for name in order:
                if name not in pairs:
                    inside.remove(name)
                elif was.get(name) != pairs[name]:
                    inside.set(name, pairs[name], order[: order.index(name)])

    def change_list(
        self,
        key: str,
        entries: Sequence[Entry],
        kept: Mapping[int, int],
        replaced: Mapping[int, int],
        before: Sequence[str],
    ) -> None:
        """Make the list under ``key`` say ``entries``; an entry of one key is written as its value alone.

        ``kept`` and ``replaced``: index in the file to index in ``entries``; replaced ones ascend in both. Kept
        entries are not touched, or moved as they are; replaced ones keep their line and its comment; all others
        in the file are taken out.
        """
        node = self._value(key)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self._fresh(key, entries, before)
        elif node.flow_style:
            self._flow(node, entries, kept)
        elif not entries:
            self._empty(key, "[]")
        else:
            self._block(node, entries, kept, replaced)

    def _value(self, key: str) -> yaml.Node | None:
        return self._keys[key][1] if key in self._keys else None

    def _fresh(self, key: str, value: Tree, before: Sequence[str]) -> None:
        """A list or mapping where there is none, or nothing in it, or a text (one entry)."""
        node = self._value(key)
        if node is None:
            self._insert(before, pair_lines(key, _bare(value), self._column))
            return
        if not value:
            if not isinstance(node, yaml.ScalarNode) and children(node):
                self._empty(key, in_brackets(value))
            else:
                self._in_place(node, in_brackets(value))
            return
        first, *rest = pair_lines(key, _bare(value), self._column)
        self._in_place(node, first.partition(":")[2].strip())
        end = max(self._file.end(node), self._keys[key][0].end_mark.index)
        if rest:
            self._file.insert_lines(self._file.line_end(end), rest)

    def _in_place(self, node: yaml.Node, text: str) -> None:
        """Another text behind a key."""
        start, end = node.start_mark.index, self._file.end(node)
        if getattr(node, "style", None) in ("|", ">"):
            raise NotEditable("a text of several lines stands where a list belongs")
        while not text and end > start and self._file.text[start - 1] in " \t":
            start -= 1
        blank = " " if text and self._file.text[start - 1] not in " \t\n" else ""
        self._file.edit(start, end, blank + text)

    def _empty(self, key: str, text: str) -> None:
        """In place of the entries of a list or mapping, one text on the line of the key."""
        name, node = self._keys[key]
        file = self._file
        if getattr(node, "flow_style", False) or not children(node):
            file.edit(node.start_mark.index, file.end(node), text)
            return
        colon = file.text.index(":", name.end_mark.index) + 1
        file.edit(colon, colon, f" {text}")
        if isinstance(node, yaml.SequenceNode):
            self._block(node, (), {}, {})
            return
        for inner, value in node.value:
            start = file.line_start(inner.start_mark.index)
            file.edit(start, file.line_end(max(file.end(value), inner.end_mark.index)), "")

    def _block(
        self,
        node: yaml.SequenceNode,
        entries: Sequence[Entry],
        kept: Mapping[int, int],
        replaced: Mapping[int, int],
    ) -> None:
        file = self._file
        column = int(node.start_mark.column)
        staying = {**_longest_ascending(kept, replaced), **replaced}
        old = {new: index for index, new in staying.items()}
        moved = {new: index for index, new in kept.items() if index not in staying}
        spans = [
            (self._dash(node, index), file.line_end(file.end(item))) for index, item in enumerate(node.value)
        ]
        long = file.text.count("\n", *spans[0]) >= LONG
        apart = all(file.blank(end) for _, end in spans[:-1]) and (len(spans) > 1 or long)
        gap = [""] if apart else []
        place = spans[0][0]  # where the next new entry goes
        waiting: list[str] = []
        behind = False  # an entry that stays
        for number, entry in enumerate(entries):
            index = old.get(number)
            if index is None:
                lines = entry_lines(entry, column)
                if number in moved:
                    start, end = spans[moved[number]]
                    lines = file.text[start:end].removesuffix("\n").removesuffix("\r").splitlines()
                waiting += [*gap, *lines] if behind else [*lines, *gap]
                continue
            if waiting:
                file.insert_lines(place, waiting)
                waiting = []
            if index in replaced:
                self._replace(node.value[index], entry)
            place, behind = spans[index][1], True
        if waiting:
            file.insert_lines(place if old else spans[-1][1], waiting)
        for index, (start, end) in enumerate(spans):
            if index in staying:
                continue
            if apart and index + 1 < len(spans):
                end = file.line_end(end)
            elif apart and index - 1 in staying:
                start = file.line_start(start - 1)
            file.edit(start, end, "")

    def _flow(self, node: yaml.SequenceNode, entries: Sequence[Entry], kept: Mapping[int, int]) -> None:
        """``[a, b]`` is written anew with the texts of the entries that stay."""
        if "#" in self._file.text[node.start_mark.index : node.end_mark.index]:
            raise NotEditable("a list in brackets has a comment in it")
        old = {new: index for index, new in kept.items()}
        parts = []
        for number, entry in enumerate(entries):
            if number in old:
                parts.append(self._file.of(node.value[old[number]]))
            elif len(entry) == 1:
                parts.append(in_brackets(next(iter(entry.values()))))
            else:
                parts.append(in_brackets(entry))
        self._file.edit(node.start_mark.index, self._file.end(node), f"[{', '.join(parts)}]")

    def _replace(self, item: yaml.Node, entry: Entry) -> None:
        """The node of one list entry says something else; a mapping with the same other keys only gets its id."""
        file = self._file
        start, end = item.start_mark.index, file.end(item)
        if isinstance(item, yaml.MappingNode):
            written = {key.value: value for key, value in item.value}
            if written.keys() == entry.keys() and all(
                isinstance(v, yaml.ScalarNode) for v in written.values()
            ):
                for key, new in entry.items():
                    if isinstance(new, str) and written[key].value != new:
                        value = written[key]
                        file.edit(value.start_mark.index, file.end(value), value_of(key, new))
                return
            if "#" in file.text[start:end]:
                raise NotEditable("an entry of several lines has a comment in it")
        lines = entry_lines(entry, int(item.start_mark.column) - 2)
        file.edit(start, end, file.newline.join(lines).lstrip(" -"))

    def _dash(self, node: yaml.SequenceNode, index: int) -> int:
        """Where the line with the dash of an entry begins."""
        file = self._file
        column = int(node.start_mark.column)
        lowest = file.end(node.value[index - 1]) if index else node.start_mark.index
        place = file.line_start(node.value[index].start_mark.index)
        while file.text[place + column : place + column + 1] != "-" and place > lowest:
            place = file.line_start(place - 1)
        if file.text[place : place + column].strip(" "):
            raise NotEditable("a list begins on the line of its key")
        return place

    def _insert(self, before: Sequence[str], lines: list[str]) -> None:
        """A new key behind the last of these that is there, else above all others."""
        file = self._file
        there = [key for key in before if key in self._keys]
        if there:
            name, node = self._keys[there[-1]]
            end = max(file.end(node), name.end_mark.index)
            # What follows a long list at the left edge is set apart from it.
            apart = not self._column and len(lines) > 1 and "\n" in file.text[name.start_mark.index : end]
            file.insert_lines(file.line_end(end), ["", *lines] if apart else lines)
            return
        first = next(iter(self._keys.values()))[0].start_mark.index
        place = file.line_start(first)
        if file.text[place:first].strip():
            raise NotEditable("a mapping begins on the line of a dash")
        file.insert_lines(place, lines)


class YamlText(Section):
    """A file whose outermost thing is a mapping, one key a line. Raises NotEditable for any other."""

    def __init__(self, text: str) -> None:
        try:
            events = list(yaml.parse(text, Loader=yaml.BaseLoader))
            root = yaml.compose(text, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise NotEditable("it is not YAML") from None
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise NotEditable("it has aliases (*name)")
        super().__init__(Places(text), root, "it")

    def result(self) -> str:
        """The changed text."""
        return self._file.result()


def _bare(value: Tree) -> Tree:
    """Entries of one key as their values alone."""
    if isinstance(value, str | Mapping):
        return value
    return [
        next(iter(entry.values())) if isinstance(entry, Mapping) and len(entry) == 1 else entry
        for entry in value
    ]


def _longest_ascending(kept: Mapping[int, int], replaced: Mapping[int, int]) -> dict[int, int]:
    """The most entries that can stay where they are, with those that must (patience sorting)."""
    fixed = sorted(replaced.items())
    found: dict[int, int] = {}
    for (low, first), (high, last) in zip([(-1, -1), *fixed], [*fixed, (1 << 60, 1 << 60)], strict=False):
        piles: list[int] = []
        tops: list[tuple[int, int]] = []
        back: dict[int, tuple[int, int] | None] = {}
        for index, number in sorted(kept.items()):
            if not (low < index < high and first < number < last):
                continue
            place = bisect_left(piles, number)
            back[index] = tops[place - 1] if place else None
            piles[place : place + 1] = [number]
            tops[place : place + 1] = [(index, number)]
        one = tops[-1] if tops else None
        while one is not None:
            found[one[0]] = one[1]
            one = back[one[0]]
    return found
