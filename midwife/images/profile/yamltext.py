"""Changes in a YAML file as changes of its text: what is not changed stays as it was, byte for byte.

A YAML library that loads and writes again moves comments to other entries when one is taken out, and indents
lists its own way. So here the parser says where things stand (PyYAML's marks), and only those spans are
replaced. The caller reads the result again and compares; knows nothing of image profiles.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

__all__ = ["NotEditable", "YamlText", "scalar"]

_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._+/()@%=:-]*[A-Za-z0-9._+/()%=-])?")
_NULLS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


class NotEditable(ValueError):
    """The file is written in a way that cannot be changed line by line; the text says which."""


def scalar(text: str, *, bare: Sequence[str] = (), column: int | None = None) -> str:
    """A text as YAML; in quotes where another reader could take it for something else.

    ``bare``: words that mean what they say here (true, false). ``column``: that of its key, where a text of
    several lines may stand below it as a block; else it is one line in quotes.
    """
    lines = text.split("\n")
    if column is not None and len(lines) > 1 and all(map(_fits_block, lines)) and lines[0] and lines[-1]:
        indent = " " * (column + 2)
        return "\n".join(["|-", *(indent + line if line else "" for line in lines)])
    if text in bare:
        return text
    plain = _PLAIN.fullmatch(text) and ": " not in text and text.lower() not in _NULLS
    return text if plain else '"' + "".join(map(_escaped, text)) + '"'


def _fits_block(line: str) -> bool:
    return line.isprintable() and line == line.strip()


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable() and char != "\ufeff":
        return char
    number = ord(char)
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )


@dataclass(slots=True)
class _Edit:
    start: int
    end: int
    text: str


class YamlText:
    """A file whose outermost thing is a mapping, one key a line. Raises NotEditable for any other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._edits: list[_Edit] = []
        try:
            events = list(yaml.parse(text, Loader=yaml.BaseLoader))
            root = yaml.compose(text, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise NotEditable("it is not YAML") from None
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise NotEditable("it has aliases (*name)")
        if not isinstance(root, yaml.MappingNode) or root.flow_style or not root.value:
            raise NotEditable("it is not written as key: value lines")
        self._keys: dict[str, tuple[yaml.Node, yaml.Node]] = {
            key.value: (key, value) for key, value in root.value
        }
        self._column = int(root.value[0][0].start_mark.column)

    def set(self, key: str, value: str, before: Sequence[str], bare: Sequence[str] = ()) -> None:
        """Give a key this text. A new key goes behind the last of ``before`` that is there."""
        node = self._keys[key][1] if key in self._keys else None
        if node is None or getattr(node, "style", None) in ("|", ">"):
            written = scalar(value, bare=bare, column=self._column)
        else:
            written = scalar(value, bare=bare)  # one line: there may be a comment behind it
        if node is None:
            self._insert_lines(self._behind(before), [f"{' ' * self._column}{key}: {written}"])
            return
        if not isinstance(node, yaml.ScalarNode):
            raise NotEditable(f"{key} is a list or a mapping")
        start, end = node.start_mark.index, self._end(node)
        blank = "" if self._text[start - 1] in " \t\n" else " "
        self._edits.append(_Edit(start, end, blank + written))

    def remove(self, key: str) -> None:
        """Take a key out, with its lines; nothing if it is not there."""
        if key in self._keys:
            name, node = self._keys[key]
            end = max(self._end(node), name.end_mark.index)
            self._edits.append(_Edit(self._line_start(name.start_mark.index), self._line_end(end), ""))

    def change_list(
        self,
        key: str,
        entries: Sequence[Mapping[str, str]],
        kept: Mapping[int, int],
        replaced: Mapping[int, int],
        before: Sequence[str],
    ) -> None:
        """Make the list under ``key`` say ``entries``; an entry of one key is written as its value alone.

        ``kept`` and ``replaced``: index in the file to index in ``entries``, ascending in both; kept entries are
        not touched, replaced ones keep their line and its comment, all others in the file are taken out.
        """
        node = self._keys[key][1] if key in self._keys else None
        if isinstance(node, yaml.SequenceNode) and node.value:
            if node.flow_style:
                self._flow(node, entries, kept, replaced)
            else:
                self._block(node, entries, kept, replaced)
        elif isinstance(node, yaml.ScalarNode) and node.value.strip():
            raise NotEditable(f"{key} is not a list")
        elif entries:
            lines = [line for entry in entries for line in self._item(entry, self._column + 2)]
            if node is None:
                lines.insert(0, f"{' ' * self._column}{key}:")
                self._insert_lines(self._behind(before), lines)
            else:
                start, end = node.start_mark.index, self._end(node)
                self._edits.append(_Edit(start, end, ""))
                self._insert_lines(self._line_end(max(end, self._keys[key][0].end_mark.index)), lines)

    def result(self) -> str:
        """The changed text."""
        text = self._text
        # From behind, so that places stay right; of two at one place the first that was asked for comes first.
        for edit in sorted(self._edits, key=lambda edit: (edit.start, edit.end))[::-1]:
            text = text[: edit.start] + edit.text + text[edit.end :]
        return text

    def _block(
        self,
        node: yaml.SequenceNode,
        entries: Sequence[Mapping[str, str]],
        kept: Mapping[int, int],
        replaced: Mapping[int, int],
    ) -> None:
        column = int(node.start_mark.column)
        old = {new: index for index, new in {**kept, **replaced}.items()}
        place = self._dash(node, 0)  # where the next new entry goes
        waiting: list[str] = []
        for number, entry in enumerate(entries):
            index = old.get(number)
            if index is None:
                waiting += self._item(entry, column)
                continue
            if waiting:
                self._insert_lines(place, waiting)
                waiting = []
            if index in replaced:
                self._replace(node.value[index], entry)
            place = self._line_end(self._end(node.value[index]))
        if waiting:
            if not old:
                place = self._line_end(self._end(node.value[-1]))
            self._insert_lines(place, waiting)
        for index, item in enumerate(node.value):
            if index not in kept and index not in replaced:
                self._edits.append(_Edit(self._dash(node, index), self._line_end(self._end(item)), ""))

    def _flow(
        self,
        node: yaml.SequenceNode,
        entries: Sequence[Mapping[str, str]],
        kept: Mapping[int, int],
        replaced: Mapping[int, int],
    ) -> None:
        """``[a, b]`` is written anew with the texts of the entries that stay."""
        if "#" in self._text[node.start_mark.index : node.end_mark.index]:
            raise NotEditable("a list in brackets has a comment in it")
        old = {new: index for index, new in kept.items()}
        parts = []
        for number, entry in enumerate(entries):
            if number in old:
                item = node.value[old[number]]
                parts.append(self._text[item.start_mark.index : self._end(item)])
            elif len(entry) == 1:
                parts.append(scalar(next(iter(entry.values()))))
            else:
                inside = ", ".join(f"{key}: {_value(key, value)}" for key, value in entry.items())
                parts.append(f"{{{inside}}}")
        self._edits.append(_Edit(node.start_mark.index, self._end(node), f"[{', '.join(parts)}]"))

    def _replace(self, item: yaml.Node, entry: Mapping[str, str]) -> None:
        """The node of one list entry says something else; a mapping with the same other keys only gets its id."""
        start, end = item.start_mark.index, self._end(item)
        if isinstance(item, yaml.MappingNode):
            written = {key.value: value for key, value in item.value}
            changed = [key for key in entry if key in written and written[key].value != entry[key]]
            if written.keys() == entry.keys() and all(
                isinstance(v, yaml.ScalarNode) for v in written.values()
            ):
                for key in changed:
                    value = written[key]
                    text = _value(key, entry[key])
                    self._edits.append(_Edit(value.start_mark.index, self._end(value), text))
                return
            if "#" in self._text[start:end]:
                raise NotEditable("an entry of several lines has a comment in it")
        lines = self._item(entry, int(item.start_mark.column) - 2)
        self._edits.append(_Edit(start, end, self._newline.join(lines).lstrip(" -")))

    def _item(self, entry: Mapping[str, str], column: int) -> list[str]:
        """A list entry as lines; its dash is in ``column``."""
        if len(entry) == 1:
            return [f"{' ' * column}- {scalar(next(iter(entry.values())))}"]
        lines = [f"{key}: {_value(key, value)}" for key, value in entry.items()]
        return [f"{' ' * column}{'  ' if number else '- '}{line}" for number, line in enumerate(lines)]

    def _dash(self, node: yaml.SequenceNode, index: int) -> int:
        """Where the line with the dash of an entry begins."""
        column = int(node.start_mark.column)
        lowest = self._end(node.value[index - 1]) if index else node.start_mark.index
        place = self._line_start(node.value[index].start_mark.index)
        while self._text[place + column : place + column + 1] != "-" and place > lowest:
            place = self._line_start(place - 1)
        if self._text[place : place + column].strip(" "):
            raise NotEditable("a list begins on the line of its key")
        return place

    def _behind(self, before: Sequence[str]) -> int:
        """Where a new key's line is inserted."""
        there = [key for key in before if key in self._keys]
        if not there:
            return self._line_start(next(iter(self._keys.values()))[0].start_mark.index)
        name, node = self._keys[there[-1]]
        return self._line_end(max(self._end(node), name.end_mark.index))

    def _insert_lines(self, place: int, lines: list[str]) -> None:
        text = self._newline.join(lines)
        if place and self._text[place - 1] != "\n":  # the file's last line, without its end
            self._edits.append(_Edit(place, place, self._newline + text))
        else:
            self._edits.append(_Edit(place, place, text + self._newline))

    def _end(self, node: yaml.Node) -> int:
        """Behind the last character of a node. (PyYAML's own mark is behind the comments that follow a list.)"""
        children = list(_children(node))
        if children and not getattr(node, "flow_style", False):
            return max(self._end(children[-1]), children[-1].start_mark.index)
        end = int(node.end_mark.index)
        if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
            end = len(self._text[:end].rstrip())
        return end

    def _line_start(self, place: int) -> int:
        return self._text.rfind("\n", 0, place) + 1

    def _line_end(self, place: int) -> int:
        """The beginning of the next line, or the end of the text."""
        found = self._text.find("\n", place)
        return len(self._text) if found < 0 else found + 1


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _value(key: str, value: str) -> str:
    return scalar(value, bare=("true", "false") if key == "boot" else ())
