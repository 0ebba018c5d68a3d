"""``midwife ruleset show``: the rules of a set in their order (Get-DeployRuleSet)."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import echo_json, output_option, site_option
from midwife.cli.rule.book import open_rules
from midwife.cli.rule.listing import rule_data, told_items, told_patterns
from midwife.cli.tables import print_table

if TYPE_CHECKING:
    from midwife.rules.sets import Which

__all__ = ["show"]


@click.command("show")
@click.option("--active", is_flag=True, help="The active set only.")
@click.option("--working", is_flag=True, help="The working set only.")
@output_option
@site_option
def show(active: bool, working: bool, output: str, site: Path) -> None:
    """The rules of both sets, hidden ones too, by priority; once, if both sets are the same."""
    sets = open_rules(site).sets
    both: tuple[tuple[Which, bool], ...] = (("active", active), ("working", working))
    wanted = [which for which, asked in both if asked or active == working]
    if output == "json":
        echo_json({which: [rule_data(sets, rule) for rule in sets.rules(which)] for which in wanted})
        return
    if len(wanted) == 2 and not sets.pending:
        wanted = ["active"]
        title = "The active set, and the working set"
    else:
        title = ""
    for number, which in enumerate(wanted):
        if number:
            click.echo()
        click.echo(f"{title or f'The {which} set'}:")
        rows = [
            (str(index), rule.name, told_patterns(rule.patterns), told_items(rule.items.given()))
            for index, rule in enumerate(sets.rules(which))
        ]
        if rows:
            print_table(("INDEX", "NAME", "PATTERNS", "ITEMS"), rows)
        else:
            click.echo("no rules")
