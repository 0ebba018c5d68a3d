"""``--set``: the rules that a question is about: the active set, the working set, or another rules.yaml."""

import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from midwife.cli.common import SiteRefused, fail, open_site, printable

if TYPE_CHECKING:
    from midwife.site.model import Rule, Site

__all__ = ["Chosen", "choose", "set_option"]

F = TypeVar("F", bound=Callable[..., Any])

_SETS = ("active", "working")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A site, and the rules in question."""

    site: "Site"
    rules: "tuple[Rule, ...]"
    label: str
    """For people: ``the active set``."""
    name: str
    """For scripts: what --set said."""


def set_option(command: F) -> F:
    """``--set active|working|FILE`` (``which: str``)."""
    return click.option(
        "--set",
        "which",
        default="active",
        show_default=True,
        metavar="active|working|FILE",
        help="The rule set in question; of a FILE written like rules.yaml its active set.",
    )(command)


def choose(site: Path, which: str) -> Chosen:
    """Ends the command if the site, with these rules, has errors."""
    if which in _SETS:
        loaded = open_site(site).site
        rules = loaded.rule_sets.rules("active" if which == "active" else "working")
        return Chosen(loaded, rules, f"the {which} set", which)
    from midwife.site.load import SiteError, load

    raw = _read(Path(which))
    try:
        loaded = load(site, rules=raw).site
    except SiteError as error:
        named = [
            replace(problem, file=which) if problem.file == "rules.yaml" else problem
            for problem in error.problems
        ]
        raise SiteRefused(site, SiteError(named)) from None
    return Chosen(loaded, loaded.rules, printable(f"the active set of {which}"), which)


def _read(path: Path) -> bytes:
    from midwife.site.yaml import MAX_BYTES

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            fail(f"{printable(str(path))} is not a regular file; --set takes active, working or such a file")
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)  # that it is too large, the parser says
    except FileNotFoundError:
        fail(f"there is no file {printable(str(path))}; --set takes active, working or a file")
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        fail(f"{printable(str(path))}: {getattr(error, 'strerror', None) or error}")
