"""``midwife rule``: the group. Its commands are in modules of their own beside this one."""

import click

from midwife.cli.rule.compliance import compliance
from midwife.cli.rule.coverage import coverage
from midwife.cli.rule.edit import new, remove, set_
from midwife.cli.rule.importer import import_rules
from midwife.cli.rule.listing import list_, show
from midwife.cli.rule.pin import pin, unpin
from midwife.cli.rule.replace import copy
from midwife.cli.rule.suggest import suggest
from midwife.cli.rule.test import test

__all__ = ["command"]


@click.group("rule")
def command() -> None:
    """Rules: which image, host configuration, location and script bundle a host gets.

    They stand in rules.yaml, whose comments every command keeps. A rule has an effect when it is in the active
    rule set: `midwife ruleset`.
    """


for _sub in (
    *(compliance, copy, coverage, import_rules, list_, new, pin, remove, set_, show, suggest, test),
    unpin,
):
    command.add_command(_sub)
