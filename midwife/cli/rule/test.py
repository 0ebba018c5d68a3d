"""``midwife rule test``: what each rule of a set says of one machine, and what the set gives it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, output_option, printable, site_option
from midwife.cli.rule.chosen import choose, set_option
from midwife.cli.tables import print_table

if TYPE_CHECKING:
    from midwife.core.facts import Facts
    from midwife.rules.match import Matched
    from midwife.site.model import Rule, Site

__all__ = ["test"]


@dataclass(frozen=True, slots=True)
class _Tested:
    """A machine, and what comes before the rules."""

    name: str
    facts: "Facts"
    attributes: Mapping[str, tuple[str, ...]]
    before: Mapping[str, tuple[str, str]]
    """Item type -> value, and who says so, for what its own file or a pin gives."""


@click.command()
@click.argument("host", required=False)
@click.option(
    "--facts",
    "facts",
    metavar="FILE",
    help='A machine that need not exist, as JSON: {"mac": "52:54:…", "model": "…"}. - is standard input.',
)
@set_option
@output_option
@site_option
def test(host: str | None, facts: str | None, which: str, output: str, site: Path) -> None:
    """What every rule of a set says of HOST (name, MAC address or UUID), and why; what the set gives it.

    It changes nothing. The full decision, with what goes over the wire: midwife explain.
    """
    from midwife.rules.match import evaluate

    if (host is None) == (facts is None):
        raise click.UsageError("name a machine, or give --facts FILE")
    chosen = choose(site, which)
    tested = _described(chosen.site, facts) if facts is not None else _known(chosen.site, host or "")
    matched = evaluate(chosen.rules, tested.attributes)
    data = _data(tested, chosen.rules, matched, chosen.name)
    if output == "json":
        echo_json(data)
    else:
        _print(data, chosen.label)


def _known(site: "Site", named: str) -> _Tested:
    from midwife.cli.machine import the_machine

    return _tested(site, the_machine(site, named), {})


def _described(site: "Site", name: str) -> _Tested:
    from midwife.cli.rule.factsfile import read_facts

    found = read_facts(name)
    return _tested(site, found.facts, found.labels)


def _tested(site: "Site", facts: "Facts", labels: Mapping[str, tuple[str, ...]]) -> _Tested:
    from midwife.core.decide import attributes_of, find_host
    from midwife.core.pins import pin_of

    host, _ = find_host(facts, site)
    before: dict[str, tuple[str, str]] = {}
    if pin := pin_of(site, host, facts.macs):
        before = {kind: (value, f"pinned as {pin.name}") for kind, value in pin.items.given().items()}
    if host:
        own = {"image": host.image, "configuration": host.configuration, "boot": host.boot}
        before |= {kind: (value, f"host file {host.name}") for kind, value in own.items() if value}
    name = host.name if host else facts.mac or facts.uuid or "this machine"
    return _Tested(name, facts, {**attributes_of(facts, host), **labels}, before)


def _data(tested: _Tested, rules: "tuple[Rule, ...]", matched: "Matched", which: str) -> dict[str, Any]:
    from midwife.rules.patterns import parse_pattern

    return {
        "host": tested.name,
        "set": which,
        "facts": tested.facts.to_json(),
        "attributes": {name: list(values) for name, values in tested.attributes.items()},
        "rules": [
            {
                "index": index,
                "rule": rule.name,
                "outcome": step.outcome.value,
                "reason": step.reason,
                "gives": list(step.gave),
                "extensions": [text for text in rule.patterns if parse_pattern(text).extension],
            }
            for index, (rule, step) in enumerate(zip(rules, matched.trace, strict=True))
        ],
        "items": {kind: {"value": g.value, "rule": g.rule} for kind, g in matched.items.items()},
        "before": {kind: {"value": value, "by": by} for kind, (value, by) in tested.before.items()},
        "unknown": list(matched.unknown),
    }


def _print(data: dict[str, Any], label: str) -> None:
    click.echo(f"{printable(data['host'])}, by {label}:")
    rows = [
        (str(one["index"]), one["rule"], one["outcome"], ", ".join(one["gives"]) or "-", one["reason"])
        for one in data["rules"]
    ]
    if rows:
        print_table(("INDEX", "RULE", "SAYS", "GIVES", "WHY"), rows)
    else:
        click.echo("no rules")
    click.echo()
    items = [(kind, one["value"], one["rule"], _note(data, kind)) for kind, one in data["items"].items()]
    for kind, one in data["before"].items():
        if kind not in data["items"]:
            items.append((kind, one["value"], "-", one["by"]))
    if items:
        print_table(("ITEM", "VALUE", "RULE", "NOTE"), [(*row[:3], row[3] or "-") for row in items])
    else:
        click.echo("no rule gives it anything")
    if data["unknown"]:
        what = "is" if len(data["unknown"]) == 1 else "are"
        click.echo(f"not known: its {', '.join(data['unknown'])}, which {what} asked for before it boots")
    for one in data["rules"]:
        for text in one["extensions"]:
            click.echo(f"{printable(text)} (rule {printable(one['rule'])}) is an extension of midwife's")


def _note(data: dict[str, Any], kind: str) -> str:
    one = data["before"].get(kind)
    return f"it gets {one['value']} instead: {one['by']}" if one else ""
