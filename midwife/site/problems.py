"""What is wrong with a site, said so that it can be mended: file, line, column, what, and what to do.

Problems are collected, not raised one by one; SiteError carries all of them. Knows nothing of YAML or of
what a site contains.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Level", "Problem", "SiteError", "in_order", "nearest", "plain"]

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. Printed as compilers print theirs, so that editors jump to it."""

    file: str
    """Relative to the site directory, or absolute for a file outside of it."""
    line: int
    """From 1; 0: the file as a whole."""
    column: int
    what: str
    hint: str = ""
    """What to do about it."""
    level: Level = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        mark = "warning: " if self.level == "warning" else ""
        return plain(f"{place}: {mark}{self.said}")

    @property
    def said(self) -> str:
        """What is wrong and what to do, without the place."""
        return f"{self.what}; {self.hint}" if self.hint else self.what

    def to_json(self) -> dict[str, Any]:
        """As plain data, for ``midwife check -o json``."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "level": self.level,
            "what": self.what,
            "hint": self.hint,
        }


class SiteError(Exception):
    """The site cannot be used. ``problems`` holds every error, and the warnings too, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """By file, line and column; each once."""
    return tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.column, p.what)))


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean …?`` or, where nothing is near, the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(word[:80].lower(), [name.lower() for name in names], n=1, cutoff=0.6)
    if close:
        return f"did you mean {next(name for name in names if name.lower() == close[0])}?"
    return f"there is {', '.join(names[:20])}{', …' if len(names) > 20 else ''}" if names else "there is none"


def plain(text: str) -> str:
    """The text in one line, with nothing in it that a terminal would obey (a site may be a stranger's)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
