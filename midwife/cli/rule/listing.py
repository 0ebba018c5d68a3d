"""``midwife rule list|show``: the rules of a site (Get-DeployRule)."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, output_option, printable, site_option
from midwife.cli.rule.book import open_rules, rule_names, told
from midwife.cli.tables import print_table

if TYPE_CHECKING:
    from midwife.rules.sets import RuleSets
    from midwife.site.model import Rule

__all__ = ["list_", "rule_data", "show", "told_items", "told_patterns"]


@click.command("list")
@click.argument("pattern", metavar="[PATTERN]", required=False)
@click.option("--all", "hidden", is_flag=True, help="Hidden rules too: those whose names begin with a dot.")
@output_option
@site_option
def list_(pattern: str | None, hidden: bool, output: str, site: Path) -> None:
    """All rules, or those whose names match PATTERN, in which * stands for anything (Get-DeployRule).

    Hidden rules are listed with --all, or by a PATTERN that begins with a dot.
    """
    sets = open_rules(site).sets
    wanted = (pattern or "*").casefold()
    shown = [
        rule
        for rule in sets.every
        if fnmatchcase(rule.name.casefold(), wanted)
        and (hidden or wanted.startswith(".") or not rule.name.startswith("."))
    ]
    if output == "json":
        echo_json([rule_data(sets, rule) for rule in shown])
        return
    if not shown:
        left = sum(rule.name.startswith(".") for rule in sets.every)
        what = f"no rule matches {printable(pattern)}" if pattern and sets.every else "there are no rules yet"
        click.echo(
            f"{what}; {left} hidden: --all" if left and not hidden else f"{what}; midwife rule new makes one"
        )
        return
    rows = []
    for rule in shown:
        place = str(sets.working.index(rule.name)) if rule.name in sets.working else "-"
        used = ", ".join(sets.sets_of(rule.name)) or "-"
        rows.append((rule.name, used, place, told_patterns(rule.patterns), told_items(rule.items.given())))
    print_table(("NAME", "SETS", "INDEX", "PATTERNS", "ITEMS"), rows)


@click.command("show")
@click.argument("name", shell_complete=rule_names)
@output_option
@site_option
def show(name: str, output: str, site: Path) -> None:
    """One rule: its sets, patterns and items. Patterns that Auto Deploy does not know are marked."""
    sets = open_rules(site).sets
    with told():
        rule = sets.find(name)
    found = rule_data(sets, rule)
    if output == "json":
        echo_json(found)
        return
    used = ", ".join(f"{which} (index {found[which]})" for which in sets.sets_of(rule.name))
    click.echo(f"name:      {printable(rule.name)}")
    click.echo(f"sets:      {used or 'none; midwife ruleset add puts it into the working set'}")
    lines = [
        printable(one["text"]) + ("   (an extension of midwife's)" if one["extension"] else "")
        for one in found["patterns"]
    ]
    for number, line in enumerate(lines or ["all hosts"]):
        click.echo(f"{'' if number else 'patterns:':10} {line}")
    given = rule.items.given()
    for number, kind in enumerate(given):
        click.echo(f"{'' if number else 'items:':10} {kind:14} {printable(given[kind])}")
    if not given:
        click.echo("items:     none: it gives nothing")


def rule_data(sets: "RuleSets[Rule]", rule: "Rule") -> dict[str, Any]:
    """A rule as plain data; ``active`` and ``working`` are its indexes there, or None."""
    from midwife.rules.patterns import parse_pattern

    return {
        "name": rule.name,
        "hidden": rule.name.startswith("."),
        "active": sets.active.index(rule.name) if rule.name in sets.active else None,
        "working": sets.working.index(rule.name) if rule.name in sets.working else None,
        "patterns": [{"text": text, "extension": parse_pattern(text).extension} for text in rule.patterns],
        "items": rule.items.given(),
    }


def told_patterns(patterns: Sequence[str]) -> str:
    """In a cell of a table."""
    return "; ".join(patterns) if patterns else "all hosts"


def told_items(items: Mapping[str, str]) -> str:
    """In a cell of a table."""
    return ", ".join(f"{kind}={value}" for kind, value in items.items()) or "-"
