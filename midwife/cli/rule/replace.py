"""``midwife rule copy``: a changed copy that takes the place of its original (Copy-DeployRule).

A rule in a rule set is never changed in place, so that what is active stays as it was until it is activated.
"""

from collections.abc import Sequence
from pathlib import Path

import click

from midwife.cli.common import printable, site_option
from midwife.cli.rule.book import activate_option, open_rules, rule_names, store, told
from midwife.cli.rule.edit import items_of

__all__ = ["copy", "replaced"]


@click.command()
@click.argument("old", shell_complete=rule_names)
@click.argument("new")
@click.option(
    "--replace-pattern",
    "replacing",
    multiple=True,
    metavar="PATTERN",
    help="The patterns that it has instead of those of OLD.",
)
@click.option(
    "--add-or-replace-pattern",
    "adding",
    multiple=True,
    metavar="PATTERN",
    help="A pattern in place of those of OLD about the same attribute, or besides.",
)
@click.option("--clear-patterns", "clear", is_flag=True, help="Take none of the patterns of OLD.")
@click.option("--all-hosts", is_flag=True, help="It is for every host.")
@click.option(
    "--replace-item",
    "items",
    multiple=True,
    metavar="KIND=VALUE",
    help="An item in place of that of OLD of the same kind, or besides.",
)
@click.option("--no-replace", is_flag=True, help="Leave OLD in the working set; the copy is in no set.")
@activate_option
@site_option
def copy(
    old: str, new: str, replacing: tuple[str, ...], adding: tuple[str, ...], clear: bool, all_hosts: bool,
    items: tuple[str, ...], no_replace: bool, activate: bool, site: Path,
) -> None:  # fmt: skip
    """Copy the rule OLD as NEW, changed; NEW takes its place in the working set (Copy-DeployRule).

    OLD stays as a rule that is in the working set no more.
    """
    from midwife.site.rulesfile import make_rule

    if all_hosts and (replacing or adding):
        raise click.UsageError("--all-hosts goes with no pattern")
    if replacing and (adding or clear):
        raise click.UsageError("--replace-pattern is all patterns; it goes with neither of the other two")
    if clear and not (adding or all_hosts):
        raise click.UsageError("a rule without patterns says so: --all-hosts; else --add-or-replace-pattern")
    file = open_rules(site)
    with told():
        source = file.sets.find(old)
        base = () if clear else source.patterns
        patterns = None if all_hosts else replacing or replaced(base, adding) or None
        rule = make_rule(new, patterns, {**source.items.given(), **items_of(items)})
        sets = file.sets.copy(source.name, rule, take_place=not no_replace)
        store(file, sets.activate() if activate else sets)
    if rule.name in sets.working:
        click.echo(f"rule {printable(new)} stands in place of {printable(source.name)} in the working set")
    else:
        click.echo(f"rule {printable(new)} is made; it is in no rule set")


def replaced(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """``new`` patterns in place of those about the same attributes, the others behind. Raises RulesFileError."""
    from midwife.rules.patterns import PatternError, parse_pattern
    from midwife.site.rulesfile import RulesFileError

    try:
        asked = [(parse_pattern(text).attribute, text) for text in new]
    except PatternError as error:
        raise RulesFileError(str(error)) from None
    result: list[str] = []
    for text in old:
        name = parse_pattern(text).attribute
        mine = [pattern for attribute, pattern in asked if attribute == name]
        result += [pattern for pattern in mine if pattern not in result] if mine else [text]
    return (*result, *(pattern for _, pattern in asked if pattern not in result))
