"""``midwife serve``: run the service in the foreground."""

import asyncio
from pathlib import Path

import click

from midwife.cli.common import fail, open_site, site_argument

__all__ = ["command"]


@click.command("serve")
@site_argument
def command(site: Path) -> None:
    """Serve SITE until Ctrl-C or SIGTERM. SIGHUP (midwife reload) reads the site again.

    Errors in the site, ports that are taken and a data directory in use are all told before anything starts.
    """
    loaded = open_site(site)
    from midwife.serve.datadir import DataDirError
    from midwife.serve.logs import configure
    from midwife.serve.sockets import PortError, Sockets
    from midwife.serve.supervisor import Supervisor

    configure()

    def ready(sockets: Sockets) -> None:
        main = loaded.site.main
        served = [
            ("tftp", main.tftp.listen, bool(sockets.tftp)),
            ("http", main.http.listen, bool(sockets.http)),
            ("callback", main.callback.listen, bool(sockets.callback_tcp)),
        ]
        told = ", ".join(f"{name} {' '.join(map(str, where))}" for name, where, on in served if on)
        proxy = "on" if sockets.dhcp else "off"
        click.echo(f"midwife serves {loaded.site.root}: {told}; proxyDHCP {proxy}", err=True)

    try:
        code = asyncio.run(Supervisor(loaded.site).run(ready))
    except (DataDirError, PortError) as error:
        fail(str(error))
    raise SystemExit(code)
