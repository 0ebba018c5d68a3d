"""``midwife rule new|set|remove``: rules made, changed while no set has them, and forgotten.

PowerCLI's New-DeployRule, Set-DeployRule and Remove-DeployRule -Delete. Unlike those, nothing is activated
unless --activate says so.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from midwife.cli.common import printable, site_option
from midwife.cli.rule.book import activate_option, at_option, open_rules, rule_names, store, told

__all__ = ["items_of", "new", "remove", "set_"]

F = TypeVar("F", bound=Callable[..., Any])

_pattern = click.option(
    "--pattern",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="attribute=value,… that a host must match; given several times, all of them.",
)
_all_hosts = click.option("--all-hosts", is_flag=True, help="It is for every host.")
_item = click.option(
    "--item",
    "items",
    multiple=True,
    metavar="KIND=VALUE",
    help="What it gives: image, configuration, boot, location or script-bundle. One of each kind.",
)


@click.command()
@click.argument("name")
@_pattern
@_all_hosts
@_item
@click.option("--working", is_flag=True, help="Put it into the working set.")
@at_option
@activate_option
@site_option
def new(
    name: str, patterns: tuple[str, ...], all_hosts: bool, items: tuple[str, ...], working: bool, at: int | None,
    activate: bool, site: Path,
) -> None:  # fmt: skip
    """Make a rule (New-DeployRule). It has no effect until it is in the active set.

    --at and --activate put it into the working set, too.
    """
    from midwife.site.rulesfile import make_rule

    if bool(patterns) == all_hosts:
        raise click.UsageError("say for which hosts it is: --pattern, or --all-hosts")
    file = open_rules(site)
    with told():
        rule = make_rule(name, None if all_hosts else patterns, items_of(items))
        used = working or activate or at is not None
        sets = file.sets.create(rule, working=used, at=at)
        store(file, sets.activate() if activate else sets)
    if not used:
        click.echo(f"rule {printable(name)} is made; midwife ruleset add puts it into the working set")


@click.command("set")
@click.argument("name", shell_complete=rule_names)
@click.option("--name", "new_name", help="Another name.")
@_pattern
@_all_hosts
@_item
@site_option
def set_(
    name: str,
    new_name: str | None,
    patterns: tuple[str, ...],
    all_hosts: bool,
    items: tuple[str, ...],
    site: Path,
) -> None:
    """Change a rule that is in no rule set (Set-DeployRule).

    The patterns given are all that it has then, and so are the items. A rule that is in a set is copied instead.
    """
    from midwife.site.rulesfile import make_rule

    if patterns and all_hosts:
        raise click.UsageError("give --pattern or --all-hosts, not both")
    if not (new_name or patterns or all_hosts or items):
        raise click.UsageError("say what to change: --name, --pattern, --all-hosts, --item")
    file = open_rules(site)
    with told():
        old = file.sets.find(name)
        wanted = None if all_hosts else patterns or old.patterns or None
        given = items_of(items) if items else old.items.given()
        rule = make_rule(new_name or old.name, wanted, given)
        store(file, file.sets.change(old.name, rule))
    click.echo(f"rule {printable(rule.name)} is changed")


@click.command()
@click.argument("names", metavar="RULE...", nargs=-1, required=True, shell_complete=rule_names)
@click.option(
    "--from-sets", is_flag=True, help="Those too that are in a rule set; out of both sets, at once."
)
@site_option
def remove(names: tuple[str, ...], from_sets: bool, site: Path) -> None:
    """Forget rules (Remove-DeployRule -Delete). Rules that are in a rule set are refused."""
    file = open_rules(site)
    with told():
        store(file, file.sets.delete(names, from_sets=from_sets))
    click.echo(f"removed: {', '.join(map(printable, names))}")


def items_of(texts: tuple[str, ...]) -> dict[str, str]:
    """``kind=value`` each. Ends the command for anything else."""
    items: dict[str, str] = {}
    for text in texts:
        kind, equals, value = text.partition("=")
        if not equals or not value:
            raise click.UsageError(f"{printable(text)!r} is no item; write KIND=VALUE, as in image=8.0U3-lab")
        if kind in items:
            raise click.UsageError(f"there are two items of the kind {kind}; a rule has one of each")
        items[kind] = value
    return items
