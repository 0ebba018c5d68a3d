"""Tables for people: by rich on a terminal, where long cells are folded; plain aligned columns in a pipe.

What is in the cells came from files of strangers, so nothing in them is obeyed, by a terminal or by rich; headings
use the words of VMware's documentation.
"""

import sys
from collections.abc import Iterable, Sequence

import click

from midwife.cli.common import printable

__all__ = ["aligned", "count", "print_table"]


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """To standard output. The last column is as long as it is."""
    table = [tuple(headings), *(tuple(printable(cell) for cell in row) for row in rows)]
    if not sys.stdout.isatty():
        for line in aligned(table):
            click.echo(line)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    picture = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        picture.add_column(heading, overflow="fold")
    for row in table[1:]:
        picture.add_row(*map(Text, row))
    Console().print(picture)


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose cells have no line breaks."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in table
    ]


def count(number: int, noun: str) -> str:
    """``1 VIB``, ``2 VIBs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
