"""Where the parts of a YAML text stand, and edits of it that are carried out together at the end.

Only places and texts: what should be changed into what, the caller knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

__all__ = ["Places", "children"]


@dataclass(slots=True)
class _Edit:
    start: int
    end: int
    text: str


class Places:
    """A text, the places in it, and what is to be changed. Places are indexes of characters."""

    text: str
    newline: str
    """How its lines end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self._edits: list[_Edit] = []

    def edit(self, start: int, end: int, text: str) -> None:
        """Replace what stands from one place to another one. Edits must not overlap."""
        self._edits.append(_Edit(start, end, text))

    def insert_lines(self, place: int, lines: Sequence[str]) -> None:
        """Above the line that begins at a place; at the end of the text, below it."""
        text = self.newline.join(lines)
        if place and self.text[place - 1] != "\n":  # the file's last line, without its end
            self.edit(place, place, self.newline + text)
        else:
            self.edit(place, place, text + self.newline)

    def end(self, node: yaml.Node) -> int:
        """Behind the last character of a node. (PyYAML's own mark is behind the comments that follow a list.)"""
        parts = children(node)
        if parts and not getattr(node, "flow_style", False):
            return max(self.end(parts[-1]), parts[-1].start_mark.index)
        end = int(node.end_mark.index)
        if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
            end = len(self.text[:end].rstrip())
        return end

    def of(self, node: yaml.Node) -> str:
        """Its text."""
        return self.text[node.start_mark.index : self.end(node)]

    def line_start(self, place: int) -> int:
        """The beginning of the line."""
        return self.text.rfind("\n", 0, place) + 1

    def line_end(self, place: int) -> int:
        """The beginning of the next line, or the end of the text."""
        found = self.text.find("\n", place)
        return len(self.text) if found < 0 else found + 1

    def blank(self, place: int) -> bool:
        """Whether the line at a place is empty; beyond the end of the text it is."""
        return not self.text[place : self.line_end(place)].strip()

    def result(self) -> str:
        """The text with every edit."""
        text = self.text
        # From behind, so that places stay right; of two at one place the first that was asked for comes first.
        for edit in sorted(self._edits, key=lambda edit: (edit.start, edit.end))[::-1]:
            text = text[: edit.start] + edit.text + text[edit.end :]
        return text


def children(node: yaml.Node) -> list[yaml.Node]:
    """The nodes directly in it: entries of a list, keys and values of a mapping."""
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return []
