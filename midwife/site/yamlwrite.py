"""Values as lines of YAML, in the plain style that people write: for new parts of a file of the site.

Texts are in quotes where another reader could take them for something else. Knows no file.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = [
    "LONG",
    "Entry",
    "Tree",
    "Written",
    "entry_lines",
    "in_brackets",
    "pair_lines",
    "scalar",
    "value_of",
]

Tree: TypeAlias = "str | Sequence[Tree] | Mapping[str, Tree]"
Entry: TypeAlias = Mapping[str, Tree]
"""An entry of a list. One with a single key is written as its value alone."""


class Written(str):
    """A text that stands in a file already: ``line`` is how, with the comment behind it."""

    line: str

    def __new__(cls, text: str, line: str) -> "Written":
        """As ``str``."""
        made = super().__new__(cls, text)
        made.line = line
        return made


LONG = 4
"""Entries of so many lines are set apart by empty ones."""

_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._+/()@%=:-]*[A-Za-z0-9._+/()%=-])?")
# YAML 1.1 reads 52:54:00:12:34:56 as a number to the base 60.
_BASE_60 = re.compile(r"[0-9]+(?::[0-9]{1,2})+")
_NULLS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


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
    odd = ": " in text or text.lower() in _NULLS or _BASE_60.fullmatch(text)
    plain = _PLAIN.fullmatch(text) and not odd
    return text if plain else '"' + "".join(map(_escaped, text)) + '"'


def value_of(key: str, value: str) -> str:
    """The text of a key whose name says how it is read."""
    return scalar(value, bare=("true", "false") if key == "boot" else ())


def entry_lines(entry: Entry, column: int) -> list[str]:
    """A list entry as lines; its dash is in ``column``."""
    if len(entry) == 1 and isinstance(only := next(iter(entry.values())), str):
        return [f"{' ' * column}- {_line(only)}"]
    lines = [line for key, value in entry.items() for line in pair_lines(key, value, column + 2)]
    return [f"{' ' * column}- {lines[0].lstrip(' ')}", *lines[1:]] if lines else [f"{' ' * column}- {{}}"]


def pair_lines(key: str, value: Tree, column: int) -> list[str]:
    """A key with what belongs to it, as lines."""
    indent = " " * column
    if isinstance(value, str):
        return [f"{indent}{key}: {value_of(key, value)}"]
    if not value:
        return [f"{indent}{key}: {in_brackets(value)}"]
    if isinstance(value, Mapping):
        return [f"{indent}{key}:", *(line for k, v in value.items() for line in pair_lines(k, v, column + 2))]
    items = [
        entry_lines(item, column + 2) if isinstance(item, Mapping) else [f"{indent}  - {_line(item)}"]
        for item in value
    ]
    gap = [""] if min(map(len, items)) >= LONG else []
    first, *rest = items
    return [f"{indent}{key}:", *first, *(line for item in rest for line in (*gap, *item))]


def in_brackets(value: Tree) -> str:
    """On one line: ``[a, b]``, ``{key: value}``, or a text."""
    if isinstance(value, str):
        return scalar(value)
    if isinstance(value, Mapping):
        inside = (
            f"{key}: {value_of(key, v) if isinstance(v, str) else in_brackets(v)}" for key, v in value.items()
        )
        return f"{{{', '.join(inside)}}}"
    return f"[{', '.join(map(in_brackets, value))}]"


def _line(value: Tree) -> str:
    return value.line if isinstance(value, Written) else in_brackets(value)


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
