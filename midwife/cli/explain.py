"""``midwife explain``: what a machine gets, why, and what it will see on the wire."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, output_option, printable, site_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from midwife.core.decide import Answer
    from midwife.core.facts import Facts
    from midwife.serve.preview import Preview

__all__ = ["command"]


@click.command("explain")
@click.argument("machine")
@output_option
@site_option
def command(machine: str, output: str, site: Path) -> None:
    """Explain MACHINE (MAC address, name or UUID): facts, decision, reasons, and what it sees on the wire."""
    from midwife.cli.machine import open_preview, the_machine

    preview = open_preview(site)
    facts = the_machine(preview.site, machine)
    answer = preview.decide(facts)
    if output == "json":
        echo_json(_data(preview, facts, answer))
        return
    _facts(facts)
    _decision(answer, _extensions(preview, answer))
    _dhcp(preview, facts)
    _files(preview, facts)


def _heading(text: str) -> None:
    click.echo(click.style(text, bold=True))


def _facts(facts: "Facts") -> None:
    _heading("Facts")
    for name, value in facts.to_json().items():
        if name == "asked":
            click.echo("  it was asked: what is not here, it does not have")
            continue
        told = ", ".join(value) if isinstance(value, list | tuple) else value
        click.echo(f"  {name:<12} {printable(str(told))}")


def _decision(answer: "Answer", extensions: "Mapping[str, list[str]]") -> None:
    _heading("Decision")
    what = {
        "boot": f"boots {answer.image} ({answer.mode})",
        "local": "boots from its own disk",
        "ask": f"is asked first: {', '.join(answer.missing)}",
    }.get(answer.action.value, "gets nothing to boot; its console says so, and it asks again")
    pushed = f", then configuration {answer.configuration}" if answer.configuration else ""
    click.echo(f"  {answer.name} {what}{pushed if answer.action == 'boot' else ''}")
    for kind, value in (("location", answer.location), ("script bundle", answer.script_bundle)):
        if value:
            click.echo(f"  {kind} {printable(value)}")
    _heading("Because")
    for reason in answer.reasons:
        click.echo(f"  - {printable(reason)}")
    for rule, patterns in extensions.items():
        told = ", ".join(map(printable, patterns))
        click.echo(f"  (rule {printable(rule)!r}: {told} is an extension of midwife's)")


def _extensions(preview: "Preview", answer: "Answer") -> "Mapping[str, list[str]]":
    """Of the rules that gave it something, the patterns that Auto Deploy would refuse."""
    from midwife.rules.patterns import parse_pattern

    gave = set(answer.given_by.values())
    found = {
        rule.name: [text for text in rule.patterns if parse_pattern(text).extension]
        for rule in preview.site.rules
        if repr(rule.name) in gave
    }
    return {name: patterns for name, patterns in found.items() if patterns}


def _dhcp(preview: "Preview", facts: "Facts") -> None:
    on = preview.site.main.proxydhcp.enabled
    _heading(
        "DHCP" + ("" if on else " (proxyDHCP is off: your DHCP server has to say this; see dhcp-snippet)")
    )
    if not facts.mac:
        click.echo("  no MAC address is known: DHCP answers cannot be shown")
        return
    for path in preview.paths(facts):
        click.echo(f"  {path.firmware.value}: " + (path.loads if path.offer else f"silence ({path.silence})"))
        for line in path.offer:
            click.echo(f"      {line}")


def _files(preview: "Preview", facts: "Facts") -> None:
    for kind, proto, title in (
        ("ipxe", "http", "HTTP: ipxe?mac=…"),
        ("pxelinux", "tftp", "TFTP: pxelinux.cfg/01-…"),
        ("boot.cfg", "http", "HTTP: 01-…/boot.cfg"),
        ("boot.cfg", "tftp", "TFTP: 01-…/boot.cfg"),
    ):
        _heading(title)
        for line in _text(preview, facts, kind, proto).splitlines():
            click.echo(f"  {line}")


def _text(preview: "Preview", facts: "Facts", kind: str, proto: str) -> str:
    from midwife.images.errors import ImageError
    from midwife.serve.render import RenderError

    try:
        return preview.render(facts, kind, proto).decode(errors="replace")
    except (RenderError, ImageError) as error:
        return f"(refused: {error})"


def _data(preview: "Preview", facts: "Facts", answer: "Answer") -> dict[str, Any]:
    return {
        "facts": facts.to_json(),
        "decision": {
            "host": answer.name,
            "known": answer.host is not None,
            "action": answer.action.value,
            "image": answer.image,
            "mode": answer.mode,
            "configuration": answer.configuration,
            "location": answer.location,
            "script_bundle": answer.script_bundle,
            "missing": list(answer.missing),
            "refused": answer.refused,
            "reasons": list(answer.reasons),
            "extensions": _extensions(preview, answer),
        },
        "dhcp": [asdict(path) for path in preview.paths(facts)] if facts.mac else [],
        "ipxe": _text(preview, facts, "ipxe", "http"),
        "pxelinux": _text(preview, facts, "pxelinux", "tftp"),
        "boot.cfg": {proto: _text(preview, facts, "boot.cfg", proto) for proto in ("http", "tftp")},
    }
