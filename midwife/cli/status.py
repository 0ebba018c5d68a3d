"""``midwife status``: every host, where it is, and what comes next."""

import sqlite3
import time
from dataclasses import asdict
from pathlib import Path

import click

from midwife.cli import statustable
from midwife.cli.common import echo_json, fail, site_option
from midwife.cli.observed import HostStatus, connect, read_hosts, service_pid
from midwife.core.lifecycle import UNDER_WAY, State

__all__ = ["command", "exit_code"]

_UNDER_WAY, _FAILED = 3, 4


@click.command("status")
@click.argument("hosts", nargs=-1, metavar="[HOST]…")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)
@click.option("-w", "--watch", is_flag=True, help="Keep the table on the screen, up to date, until Ctrl-C.")
@site_option
def command(hosts: tuple[str, ...], output: str, watch: bool, site: Path) -> None:
    """Every host: state, progress, age, image, and what comes next.

    Exit code: 0 all is well and at rest, 3 hosts are under way, 4 a host has failed (or is unknown and has
    nothing to boot), 1 the state cannot be read, 2 wrong usage.
    """
    found = _read(site, hosts)
    if watch:
        _watch(site, hosts)
        return
    if output == "table":
        _table(found)
        if service_pid(site) is None:
            click.echo("midwife serve is not running for this site; this is what it saw last", err=True)
    else:
        _data(found, output)
    raise SystemExit(exit_code(found))


def exit_code(hosts: list[HostStatus]) -> int:
    """For scripts; documented in docs/reference/cli.md."""
    states = {host.state for host in hosts}
    if states & {State.FAILED, State.DISCOVERED}:
        return _FAILED
    return _UNDER_WAY if states & UNDER_WAY else 0


def _read(site: Path, wanted: tuple[str, ...]) -> list[HostStatus]:
    db = connect(site)
    try:
        found = list(read_hosts(db, wanted))
    except sqlite3.Error as error:
        fail(f"the state cannot be read: {error}")
    finally:
        db.close()
    if missing := sorted(set(wanted) - {host.host for host in found}):
        fail(f"no such host: {', '.join(missing)}; midwife status shows all of them")
    return found


def _table(hosts: list[HostStatus]) -> None:
    text = statustable.lines(statustable.rows(hosts))
    click.echo(click.style(text[0], bold=True))
    for host, line in zip(hosts, text[1:], strict=True):
        painted = click.style(host.state, fg=statustable.colour(host.state), bold=host.state == State.FAILED)
        click.echo(line.replace(f" {host.state} ", f" {painted} ", 1))
    click.echo(statustable.summary(hosts))


def _data(hosts: list[HostStatus], output: str) -> None:
    data = [asdict(host) for host in hosts]
    if output == "json":
        echo_json(data)
        return
    import yaml

    click.echo(yaml.safe_dump(data, sort_keys=False), nl=False)


def _watch(site: Path, wanted: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    def picture() -> Table:
        hosts = _read(site, wanted)
        table = Table(*statustable.HEADINGS, box=None, pad_edge=False, caption=statustable.summary(hosts))
        for host, cells in zip(hosts, statustable.rows(hosts), strict=True):
            table.add_row(*cells, style=statustable.colour(host.state))
        return table

    console = Console()
    try:
        with Live(picture(), console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(0.5)
                live.update(picture(), refresh=True)
    except KeyboardInterrupt:
        return
