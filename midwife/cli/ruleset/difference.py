"""``midwife ruleset diff|activate``: what an activation would change, host by host, and the activation itself.

Everything is computed from the files and the facts in the database; no host is asked, and none reboots.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, fail, open_site, output_option, printable, site_option
from midwife.cli.rule.book import open_rules, proved, store, told
from midwife.cli.tables import count, print_table

if TYPE_CHECKING:
    from midwife.rules.fleet import Changes
    from midwife.rules.sets import RuleSets, SetChanges
    from midwife.site.model import Rule, Site

__all__ = ["activate", "diff"]

_DIFFERENT = 3


@dataclass(frozen=True, slots=True)
class _Fleet:
    changes: tuple["Changes", ...]
    known: int

    def told(self, verb: str) -> str:
        """In numbers."""
        certain = sum(bool(change.items) for change in self.changes)
        perhaps = len(self.changes) - certain
        more = f", {perhaps} more may" if perhaps else ""
        return f"{certain} of {count(self.known, 'known host')} {verb} something else{more}"


@click.command()
@output_option
@site_option
def diff(output: str, site: Path) -> None:
    """What would change if the working set were activated: rules, and what each known host gets.

    Exit code: 0 nothing, 3 something, 1 the site has errors, 2 wrong usage.
    """
    loaded = open_site(site).site
    changes = loaded.rule_sets.changes
    fleet = _fleet(loaded, loaded.rule_sets)
    if output == "json":
        echo_json(_data(changes, fleet))
    else:
        _print(changes, fleet)
    if changes:
        click.get_current_context().exit(_DIFFERENT)


@click.command()
@click.option(
    "--max-changes",
    type=click.IntRange(min=0),
    metavar="N",
    help="Refuse if more than N known hosts would get something else.",
)
@site_option
def activate(max_changes: int | None, site: Path) -> None:
    """Make the working set the active one, as a whole (Switch-ActiveDeployRuleSet).

    The site must have no errors then. A running service takes the rules at once; what boots already goes on, and
    nothing reboots.
    """
    file = open_rules(site)
    if not file.sets.pending:
        click.echo("the working set is active already; nothing was written")
        return
    sets = file.sets.activate()
    proof = proved(file, sets)
    fleet = _fleet(proof.site or open_site(site).site, file.sets)
    if max_changes is not None and len(fleet.changes) > max_changes:
        counted = fleet.told("would get")
        fail(
            f"{counted}, and --max-changes is {max_changes}: nothing was done. midwife ruleset diff lists them"
        )
    with told():
        store(file, sets, proof)
    click.echo(f"at their next boot {fleet.told('get')}")


def _fleet(site: "Site", sets: "RuleSets[Rule]") -> _Fleet:
    """Every known host under both sets. What its own file or a pin gives, no rule changes."""
    from midwife.cli.rule.machines import known_machines, pinned
    from midwife.rules.fleet import changes
    from midwife.rules.index import RuleIndex

    machines = known_machines(site)
    if not sets.pending:
        return _Fleet((), len(machines))
    now, then = RuleIndex(sets.rules("active")), RuleIndex(sets.rules("working"))
    return _Fleet(changes(now, then, pinned(site, machines)), len(machines))


def _print(rules: "SetChanges", fleet: _Fleet) -> None:
    if not rules:
        click.echo("the working set is active: nothing would change")
        return
    for name, index in rules.removed:
        click.echo(f"- {printable(name)}   (was at index {index})")
    for name, index in rules.added:
        click.echo(f"+ {printable(name)}   (at index {index})")
    for name, old, new in rules.moved:
        click.echo(f"~ {printable(name)}   (from index {old} to {new})")
    click.echo()
    rows = [
        (host.name, item.kind, item.now or "-", item.then or "-", item.rule or "-")
        for host in fleet.changes
        for item in host.items
    ]
    if rows:
        print_table(("HOST", "ITEM", "NOW", "THEN", "RULE"), rows)
    for host in fleet.changes:
        if host.unknown:
            missing = f"{', '.join(host.unknown)} {'is' if len(host.unknown) == 1 else 'are'} not known"
            click.echo(
                f"{printable(host.name)} may {'change in more' if host.items else 'change'}: its {missing}"
            )
    click.echo(fleet.told("would get"))


def _data(rules: "SetChanges", fleet: _Fleet) -> dict[str, Any]:
    hosts = []
    for host in fleet.changes:
        items = {
            item.kind: {"now": item.now or None, "then": item.then or None, "rule": item.rule or None}
            for item in host.items
        }
        hosts.append({"host": host.name, "items": items, "unknown": list(host.unknown)})
    return {
        "added": [{"rule": name, "index": index} for name, index in rules.added],
        "removed": [{"rule": name, "index": index} for name, index in rules.removed],
        "moved": [{"rule": name, "from": old, "to": new} for name, old, new in rules.moved],
        "hosts": hosts,
        "known_hosts": fleet.known,
    }
