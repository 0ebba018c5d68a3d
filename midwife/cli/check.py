"""``midwife check``: proves a site directory; prints every problem with its position and changes nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import echo_json, output_option, site_argument

if TYPE_CHECKING:
    from midwife.site.load import LoadedSite
    from midwife.site.problems import Problem

__all__ = ["command"]


@click.command("check")
@site_argument
@output_option
def command(site: Path, output: str) -> None:
    """Check the site directory SITE and print everything that is wrong with it.

    Exit code: 0 no errors (there may be warnings), 1 errors, 2 wrong usage.
    """
    from midwife.site.load import SiteError, load  # not above: pydantic and Jinja2 take 300 ms
    from midwife.site.problems import in_order

    loaded: LoadedSite | None = None
    try:
        loaded = load(site)
        from midwife.cli.profilecheck import image_warnings, profile_warnings

        profiles = profile_warnings(site) if loaded.site.image_profiles else ()
        problems = in_order([*loaded.warnings, *image_warnings(site), *profiles])
    except SiteError as error:
        problems = error.problems
    if output == "json":
        report = {"site": str(site), "ok": loaded is not None, "problems": [p.to_json() for p in problems]}
        echo_json(report)
    else:
        _print(site, problems, loaded)
    if loaded is None:
        click.get_current_context().exit(1)


def _print(site: Path, problems: tuple["Problem", ...], loaded: "LoadedSite | None") -> None:
    for problem in problems:
        click.echo(str(problem))
    errors = sum(problem.level == "error" for problem in problems)
    counted = [_count(errors, "error"), _count(len(problems) - errors, "warning")]
    if loaded is None:
        click.echo(f"{site}: {' and '.join(counted)}; midwife serve would refuse this site")
        return
    parts = loaded.site
    holds = ", ".join(
        [
            _count(len(parts.hosts), "host"),
            _count(len(parts.rules), "rule"),
            _count(len(parts.configurations), "host configuration"),
        ]
    )
    click.echo(f"{site}: no errors, {counted[1]} ({holds})")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
