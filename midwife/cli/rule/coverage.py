"""``midwife rule coverage``: rules without hosts, hosts without rules, and rules that can never have an effect."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, output_option, site_option
from midwife.cli.rule.chosen import choose, set_option
from midwife.cli.tables import count, print_table

if TYPE_CHECKING:
    from midwife.rules.coverage import Coverage, Unmatched
    from midwife.site.model import Rule

__all__ = ["coverage"]

_GAPS = 3


@click.command()
@set_option
@output_option
@site_option
def coverage(which: str, output: str, site: Path) -> None:
    """Rules that match no known host or never have an effect; hosts that no rule matches, or that get no image.

    Exit code: 0 none, 3 some, 1 the site has errors, 2 wrong usage. A host whose own file or pin gives it an image
    needs no rule.
    """
    from midwife.cli.rule.machines import known_machines, pinned
    from midwife.rules.coverage import coverage as cover

    chosen = choose(site, which)
    machines = pinned(chosen.site, known_machines(chosen.site))
    found = cover(chosen.rules, machines)
    if output == "json":
        echo_json({"set": which, "known_hosts": len(machines), **_data(found, chosen.rules)})
    else:
        _print(found, chosen.rules, len(machines), chosen.label)
    if not found.complete:
        click.get_current_context().exit(_GAPS)


def _print(found: "Coverage", rules: "tuple[Rule, ...]", hosts: int, label: str) -> None:
    index = {rule.name: number for number, rule in enumerate(rules)}
    shadowed = {shadow.index: shadow.by for shadow in found.shadowed}
    rows = []
    for name, number in index.items():
        if number in shadowed:
            by = ", ".join(repr(other) for other in shadowed[number])
            rows.append(
                (name, str(number), f"never has an effect: {by} above it takes every host it matches")
            )
        if name in found.never_matching:
            rows.append((name, str(number), "matches no known host"))
        if name in found.unsure:
            rows.append((name, str(number), "matches no known host for certain: facts are missing"))
    if rows:
        print_table(("RULE", "INDEX", "WHAT"), rows)
    if found.unmatched:
        if rows:
            click.echo()
        print_table(("HOST", "WHAT", "NEXT"), [_row(one) for one in found.unmatched])
    if rows or found.unmatched:
        click.echo()
    told = f"{count(len(rules), 'rule')} of {label}, {count(hosts, 'known host')}"
    gaps = "" if rows or found.unmatched else ": every rule has its hosts, every host has a rule"
    click.echo(told + gaps)


def _row(one: "Unmatched") -> tuple[str, str, str]:
    missing = f" for certain: its {', '.join(one.unknown)} {_are(one)} not known" if one.unknown else ""
    if one.boots:
        return one.name, f"no rule matches it{missing}; its own file or a pin says what it boots", "-"
    what = "rules match it, none gives it an image" if one.matched else f"no rule matches it{missing}"
    return one.name, what, f"midwife rule suggest {one.name}"


def _are(one: "Unmatched") -> str:
    return "is" if len(one.unknown) == 1 else "are"


def _data(found: "Coverage", rules: "tuple[Rule, ...]") -> dict[str, Any]:
    return {
        "never_matching": list(found.never_matching),
        "unsure": list(found.unsure),
        "shadowed": [{"rule": rules[one.index].name, "by": list(one.by)} for one in found.shadowed],
        "unmatched": [
            {"host": one.name, "matched": one.matched, "boots": one.boots, "unknown": list(one.unknown)}
            for one in found.unmatched
        ],
    }
