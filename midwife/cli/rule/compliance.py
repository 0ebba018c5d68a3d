"""``midwife rule compliance``: does each host have what the rules give it now?

PowerCLI's Test- and Repair-DeployRuleSetCompliance. Everything is computed from the files and the database; no
host is asked, and none reboots.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, fail, output_option, printable, site_option
from midwife.cli.reload import ask_to_reload
from midwife.cli.rule.chosen import choose, set_option
from midwife.cli.tables import count, print_table

if TYPE_CHECKING:
    from midwife.cli.rule.machines import Machine
    from midwife.rules.compliance import Difference, Report
    from midwife.site.model import Rule, Site

__all__ = ["compliance", "reports_of"]

_DIFFERENT = 3


@click.command()
@click.argument("hosts", metavar="[HOST]...", nargs=-1)
@set_option
@click.option(
    "--repair",
    is_flag=True,
    help="Take out of pins.yaml what keeps hosts from what the active set gives. Nothing reboots.",
)
@output_option
@site_option
def compliance(hosts: tuple[str, ...], which: str, repair: bool, output: str, site: Path) -> None:
    """Compare what each known host got at its last boot with what a rule set gives it now.

    Exit code: 0 all have it, 3 not all do (or a fact is missing to tell), 1 the site has errors, 2 wrong usage.
    """
    from midwife.cli.rule.machines import known_machines, pick

    if repair and which != "active":
        raise click.UsageError(
            "--repair is about the active set; make another one active first: midwife ruleset activate"
        )
    chosen = choose(site, which)
    machines = pick(known_machines(chosen.site), hosts)
    reports = reports_of(chosen.site, chosen.rules, machines)
    freed = _repair(chosen.site, machines, reports) if repair else {}
    if output == "json":
        echo_json({"set": which, "hosts": [_data(report, freed) for report in reports]})
    else:
        _print(reports, freed, chosen.label)
    if any(report.differences or report.unknown for report in reports):
        click.get_current_context().exit(_DIFFERENT)


def reports_of(site: "Site", rules: "Sequence[Rule]", machines: "Sequence[Machine]") -> "tuple[Report, ...]":
    """Every machine against the rules."""
    from midwife.cli.rule.got import last_items
    from midwife.rules.compliance import check
    from midwife.rules.index import RuleIndex

    pins = _pins(site, machines)
    held = {name: items for name, (_, items) in pins.items()}
    return tuple(check(RuleIndex(rules), machines, last_items(site, machines), held))


def _pins(site: "Site", machines: "Sequence[Machine]") -> dict[str, tuple[str, Mapping[str, str]]]:
    """Name of the machine -> what its pin is called, and its items."""
    from midwife.core.pins import pin_of

    if not site.pins:
        return {}
    found = ((machine.name, pin_of(site, machine.host, machine.facts.macs)) for machine in machines)
    return {name: (pin.name, pin.items.given()) for name, pin in found if pin}


def _told(report: "Report", one: "Difference", freed: Mapping[str, Sequence[str]]) -> str:
    """What becomes of a difference."""
    if not one.pinned:
        return "at its next boot"
    if one.kind in freed.get(report.name, ()):
        return "at its next boot: the pin is dropped"
    return f"pinned to {one.pinned}: --repair drops that"


def _print(reports: "Sequence[Report]", freed: Mapping[str, Sequence[str]], label: str) -> None:
    rows = [
        (
            report.name,
            one.kind,
            "-" if one.got is None else one.got or "nothing",
            one.expected or "nothing",
            one.rule or "-",
            _told(report, one, freed),
        )
        for report in reports
        for one in report.differences
    ]
    if rows:
        print_table(("HOST", "ITEM", "GOT", "EXPECTED", "RULE", "MENDED"), rows)
    for report in reports:
        if report.unknown:
            missing = f"{', '.join(report.unknown)} {'is' if len(report.unknown) == 1 else 'are'}"
            click.echo(f"{printable(report.name)} may differ: its {missing} not known")
    different = sum(bool(report.differences) for report in reports)
    unsure = sum(bool(report.unknown) and not report.differences for report in reports)
    fresh = sum(not report.booted and not report.differences for report in reports)
    well = len(reports) - different - unsure - fresh
    told = f"{count(len(reports), 'known host')}, by {label}: {well} as they should be"
    told += f", {different} not" if different else ""
    told += f", {unsure} unsure" if unsure else ""
    told += f", {fresh} not booted yet" if fresh else ""
    click.echo(told)


def _data(report: "Report", freed: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    compliant: bool | None = not report.differences
    if compliant and (report.unknown or not report.booted):
        compliant = None
    return {
        "host": report.name,
        "compliant": compliant,
        "booted": report.booted,
        "differences": [
            {
                "item": one.kind,
                "got": one.got,
                "expected": one.expected or None,
                "rule": one.rule or None,
                "pinned": one.pinned or None,
                "pin_dropped": one.kind in freed.get(report.name, ()),
            }
            for one in report.differences
        ],
        "unknown": list(report.unknown),
    }


def _repair(
    site: "Site", machines: "Sequence[Machine]", reports: "Sequence[Report]"
) -> dict[str, tuple[str, ...]]:
    """Drop what pins hold against the rules. Name of the machine -> the item types that are free now."""
    from midwife.site.model import Items
    from midwife.site.pinsfile import PinsFileError, read, save

    pins = _pins(site, machines)
    freed = {
        report.name: tuple(one.kind for one in report.differences if one.pinned)
        for report in reports
        if any(one.pinned for one in report.differences)
    }
    if not freed:
        click.echo("no pin is in the way; nothing was written", err=True)
        return {}
    try:
        file = read(site.root)
        kept = dict(file.pins)
        for name, kinds in freed.items():
            key = file.key(pins[name][0])
            if key not in kept:  # somebody was quicker
                continue
            rest = {kind: value for kind, value in kept.pop(key).given().items() if kind not in kinds}
            if rest:
                kept[key] = Items.model_validate(rest)
        save(file, {key: kept[key] for key in file.pins if key in kept})
    except PinsFileError as error:
        fail("\n".join(printable(line) for line in str(error).split("\n")))
    asked = ask_to_reload(site.root, "pins.yaml is written, but ")
    running = "told the service" if asked else "no midwife serve is running"
    click.echo(f"pins.yaml: {count(len(freed), 'host')} freed; {running}; nothing reboots", err=True)
    return freed
