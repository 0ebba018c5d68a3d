"""``midwife reload``: let the running service read its site again."""

import os
import signal
from pathlib import Path

import click

from midwife.cli.common import fail, open_site, site_argument
from midwife.cli.observed import service_pid

__all__ = ["ask_to_reload", "command"]


@click.command("reload")
@site_argument
def command(site: Path) -> None:
    """Check SITE, then tell its running service to take it. With errors the old one stays in force."""
    open_site(site)
    if not ask_to_reload(site):
        fail(f"no midwife serve is running for {site}")
    click.echo("told the service to read its site again; midwife events shows the outcome")


def ask_to_reload(site: Path, done: str = "") -> bool:
    """Whether a service runs, which was told then. Ends the command if it cannot be told.

    ``done``: what was done before, for the message.
    """
    pid = service_pid(site)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        fail(f"{done}midwife serve (process {pid}) for {site} has just ended")
    except PermissionError:
        fail(
            f"{done}midwife serve (process {pid}) runs as another user; run midwife reload as that user or as root"
        )
    return True
