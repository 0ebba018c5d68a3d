"""What every command needs: which site is meant, opening it, and failing with a sentence, not a traceback.

Nothing heavy is imported at the top, because ``midwife status`` has 150 ms.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from midwife.site.load import LoadedSite, SiteError

__all__ = [
    "SiteRefused",
    "echo_json",
    "fail",
    "open_site",
    "output_option",
    "printable",
    "site_argument",
    "site_option",
    "site_path",
]

F = TypeVar("F", bound=Callable[..., Any])


def site_path(value: str | Path | None) -> Path:
    """The site directory that is meant: what was given, else $MIDWIFE_SITE, else the current directory."""
    return Path(value or os.environ.get("MIDWIFE_SITE") or ".").absolute()


def site_option(command: F) -> F:
    """``--site DIRECTORY`` (``site: Path``), for commands whose arguments are something else."""
    return click.option(
        "--site",
        metavar="DIRECTORY",
        callback=lambda _context, _parameter, value: site_path(value),
        help="The site directory.  [default: $MIDWIFE_SITE, else the current directory]",
    )(command)


def site_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """``[SITE]`` or ``--site DIRECTORY`` (``site: Path``), for commands about a site as a whole."""

    @click.argument("given", metavar="[SITE]", required=False)
    @click.option(
        "--site",
        "named",
        metavar="DIRECTORY",
        help="The same as SITE.  [default: $MIDWIFE_SITE, else the current directory]",
    )
    @functools.wraps(command)
    def with_site(*args: Any, given: str | None, named: str | None, **others: Any) -> Any:
        if given and named:
            raise click.UsageError("name the site directory once: as SITE or with --site")
        return command(*args, site=site_path(given or named), **others)

    return with_site


def output_option(command: F) -> F:
    """``-o text|json`` (``output: str``)."""
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
    )(command)


def echo_json(data: Any) -> None:
    """To standard output."""
    click.echo(json.dumps(data, indent=2))


def fail(message: str) -> NoReturn:
    """Ends the command with ``Error: message`` and exit code 1."""
    raise click.ClickException(message)


def printable(text: str) -> str:
    """On one line, and nothing in it that a terminal would obey: what hosts say of themselves ends up here."""
    return "".join(c if c.isprintable() else " " for c in text)


def open_site(path: Path) -> "LoadedSite":
    """The site; warnings go to stderr. Ends the command with all of its problems if it has errors."""
    from midwife.site.load import SiteError, load  # not above: pydantic and Jinja2 take 300 ms

    try:
        loaded = load(path)
    except SiteError as error:
        raise SiteRefused(path, error) from None
    for warning in loaded.warnings:
        click.echo(str(warning), err=True)
    return loaded


class SiteRefused(click.ClickException):
    """A site with errors. Prints all of its problems and what to do; exit code 1."""

    def __init__(self, path: Path, error: "SiteError") -> None:
        super().__init__(f"the site {path} has errors")
        self.path = path
        self.problems = error.problems

    def show(self, file: IO[Any] | None = None) -> None:
        """As click asks for it."""
        for problem in self.problems:
            click.echo(str(problem), file=file, err=file is None)
        errors = sum(problem.level == "error" for problem in self.problems)
        what = "1 error" if errors == 1 else f"{errors} errors"
        click.echo(f"{what} in the site {self.path}; nothing was done", file=file, err=file is None)
