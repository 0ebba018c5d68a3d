"""``midwife ruleset``: the group. Its commands are in modules of their own beside this one."""

import click

from midwife.cli.ruleset.change import add, order, remove
from midwife.cli.ruleset.difference import activate, diff
from midwife.cli.ruleset.listing import show

__all__ = ["command"]


@click.group("ruleset")
def command() -> None:
    """The working rule set, where changes are prepared, and the active one, which decides.

    The first rule of a set has index 0 and the highest priority. Activation copies the whole working set.
    """


for _sub in (activate, add, diff, order, remove, show):
    command.add_command(_sub)
