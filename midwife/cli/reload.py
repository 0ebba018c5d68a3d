"""``midwife reload``: let the running service read its site again."""

import os
import signal
from pathlib import Path

import click

from midwife.cli.common import fail, open_site, site_argument
from midwife.cli.observed import service_pid

__all__ = ["command"]


@click.command("reload")
@site_argument
def command(site: Path) -> None:
    """Check SITE, then tell its running service to take it. With errors the old one stays in force."""
    open_site(site)
    pid = service_pid(site)
    if pid is None:
        fail(f"no midwife serve is running for {site}")
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        fail(f"midwife serve (process {pid}) for {site} has just ended")
    except PermissionError:
        fail(
            f"midwife serve (process {pid}) runs as another user; run midwife reload as that user or as root"
        )
    click.echo("told the service to read its site again; midwife events shows the outcome")
