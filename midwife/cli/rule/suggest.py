"""``midwife rule suggest``: a rule for a machine that asked and got nothing, as YAML to paste or to be written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import echo_json, fail, open_site, output_option, printable, site_option
from midwife.cli.rule.book import open_rules, store, told
from midwife.cli.rule.edit import items_of

if TYPE_CHECKING:
    from midwife.cli.rule.machines import Machine
    from midwife.rules.suggest import Suggestion
    from midwife.site.model import Site

__all__ = ["suggest"]


@dataclass(frozen=True, slots=True)
class _Proposal:
    rule: "Suggestion"
    items: Mapping[str, str]
    why: str
    """Why this image; "" if a person said so."""
    at: int
    """Index in the working set at which it counts for the machine."""


@click.command()
@click.argument("host")
@click.option(
    "--item",
    "items",
    multiple=True,
    metavar="KIND=VALUE",
    help="What the rule gives.  [default: the image that machines of its model, or most machines, get]",
)
@click.option("--write", is_flag=True, help="Write it to rules.yaml, in no rule set.")
@output_option
@site_option
def suggest(host: str, items: tuple[str, ...], write: bool, output: str, site: Path) -> None:
    """A rule for HOST (name, MAC address, UUID or serial number), as YAML for rules.yaml.

    It is for its vendor and model, if other machines of that kind have nothing to boot either and none of them
    has; else for this machine alone.
    """
    loaded = open_site(site).site
    machine, fleet = _fleet(loaded, host)
    found = _propose(loaded, machine, fleet, items_of(items))
    if write and not found.items:
        fail("no image is known that the rule could give; say one: --item image=NAME (midwife image list)")
    if output == "json":
        echo_json(
            {
                "host": machine.name,
                "name": found.rule.name,
                "patterns": list(found.rule.patterns),
                "items": dict(found.items),
                "also_matches": list(found.rule.alike),
                "at": found.at,
            }
        )
    else:
        _print(machine, found)
    if write:
        _write(site, found)


def _fleet(site: "Site", named: str) -> "tuple[Machine, tuple[Machine, ...]]":
    """The machine that is meant, and all that are known. One that never asked has a MAC address and no more."""
    from midwife.cli.rule.machines import Machine, known_machines, pick, pinned
    from midwife.core.decide import attributes_of
    from midwife.core.facts import Facts
    from midwife.wire.identity import is_mac, parse_mac

    fleet = pinned(site, known_machines(site))
    if is_mac(named):
        mac = parse_mac(named)
        if not any(mac in (machine.name, *machine.facts.macs) for machine in fleet):
            facts = Facts(macs=(mac,))
            return Machine(mac, facts, None, attributes_of(facts, None), {}), fleet
    return pick(fleet, (named,))[0], fleet


def _propose(
    site: "Site", machine: "Machine", fleet: "Sequence[Machine]", items: Mapping[str, str]
) -> _Proposal:
    from midwife.rules import suggest as suggesting
    from midwife.rules.fleet import fleet as expectations
    from midwife.rules.index import RuleIndex

    images = {
        name: expected.items.get("image", "") for name, expected in expectations(RuleIndex(site.rules), fleet)
    }
    # A machine that has a file, or something to boot, is not of those that wait to be taken in.
    waiting = [other for other in fleet if other.host is None and not images[other.name]]
    served = [other for other in fleet if other.host is not None or images[other.name]]
    names = [rule.name for rule in site.rule_sets.every]
    alone = machine.host is not None or bool(images.get(machine.name))
    rule = suggesting.suggest(machine, () if alone else waiting, fleet if alone else served, names)
    if rule is None:
        fail(f"nothing is known of {printable(machine.name)} that a pattern could ask for; let it boot once")
    why = ""
    if not items:
        image, why = suggesting.likely_image(machine, images, fleet)
        image, why = (image, why) if image else _only_image(site)
        items = {"image": image} if image else {}
    at = suggesting.place(machine, site.rule_sets.rules("working"), set(items) or {"image"})
    if alone:
        has = images.get(machine.name)
        own = ", which its own file or a pin gives: no rule changes that" if "image" in machine.fixed else ""
        click.echo(
            f"{printable(machine.name)} gets the image {has} already{own}"
            if has
            else f"{printable(machine.name)} has a host file, which could say the same",
            err=True,
        )
    return _Proposal(rule, items, why, at)


def _only_image(site: "Site") -> tuple[str, str]:
    from midwife.site.load import imported_images

    known = sorted({*site.main.images, *imported_images(site.data_dir)})
    return (known[0], "there is no other image") if len(known) == 1 else ("", "")


def _print(machine: "Machine", found: _Proposal) -> None:
    from midwife.site.yamlwrite import entry_lines

    items = found.items or {"image": "NAME"}
    patterns = list(found.rule.patterns)
    for line in entry_lines({"name": found.rule.name, "patterns": patterns, "items": dict(items)}, 2):
        click.echo(line)
    if not found.items:
        click.echo("say which image instead of NAME: midwife image list", err=True)
    elif found.why:
        click.echo(f"{found.items['image']}: {found.why}; --item image=NAME takes another", err=True)
    if alike := found.rule.alike:
        shown = ", ".join(printable(name) for name in alike[:8]) + (", …" if len(alike) > 8 else "")
        click.echo(f"it matches {printable(machine.name)}, and {shown}", err=True)


def _write(site: Path, found: _Proposal) -> None:
    import shlex

    from midwife.site.rulesfile import make_rule

    file = open_rules(site)
    with told():
        rule = make_rule(found.rule.name, found.rule.patterns, found.items)
        store(file, file.sets.create(rule))
    said = shlex.quote(printable(rule.name))
    click.echo(
        f"written to rules.yaml, in no rule set; next: midwife ruleset add {said} --at {found.at}, "
        "midwife ruleset activate",
        err=True,
    )
