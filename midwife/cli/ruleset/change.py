"""``midwife ruleset add|remove|order``: the working set (Add-, Remove-DeployRule, Set-DeployRuleSet)."""

from pathlib import Path

import click

from midwife.cli.common import printable, site_option
from midwife.cli.rule.book import activate_option, at_option, open_rules, rule_names, store, told

__all__ = ["add", "order", "remove"]


@click.command()
@click.argument("names", metavar="RULE...", nargs=-1, required=True, shell_complete=rule_names)
@at_option
@activate_option
@site_option
def add(names: tuple[str, ...], at: int | None, activate: bool, site: Path) -> None:
    """Put rules into the working set, in the order given (Add-DeployRule). With --at, rules in it move."""
    file = open_rules(site)
    with told():
        sets = file.sets.add(names, at)
        store(file, sets.activate() if activate else sets)


@click.command()
@click.argument("names", metavar="RULE...", nargs=-1, shell_complete=rule_names)
@click.option(
    "--at",
    "indexes",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="By index in the working set instead of by name; may be given more than once.",
)
@click.option("--delete", is_flag=True, help="Forget the rules, too; those that stay active are refused.")
@activate_option
@site_option
def remove(
    names: tuple[str, ...], indexes: tuple[int, ...], delete: bool, activate: bool, site: Path
) -> None:
    """Take rules out of the working set (Remove-DeployRule). Without --delete they stay in rules.yaml."""
    if bool(names) == bool(indexes):
        raise click.UsageError("name the rules, or give their indexes with --at")
    file = open_rules(site)
    with told():
        gone = names or tuple(file.sets.at(index) for index in indexes)
        sets = file.sets.remove(gone)
        sets = sets.activate() if activate else sets
        store(file, sets.delete(gone) if delete else sets)
    if delete:
        click.echo(f"removed: {', '.join(map(printable, gone))}")


@click.command()
@click.argument("names", metavar="RULE...", nargs=-1, required=True, shell_complete=rule_names)
@activate_option
@site_option
def order(names: tuple[str, ...], activate: bool, site: Path) -> None:
    """Give the whole order of the working set (Set-DeployRuleSet); rules that were not in it come in."""
    file = open_rules(site)
    with told():
        sets = file.sets.order(names)
        store(file, sets.activate() if activate else sets)
