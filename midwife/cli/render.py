"""``midwife render``: the exact text that a host would get."""

import sys
from pathlib import Path

import click

from midwife.cli.common import fail, site_option

__all__ = ["command"]


@click.command("render")
@click.argument("host")
@click.argument("kind", type=click.Choice(["boot.cfg", "pxelinux", "ipxe"]))
@click.option(
    "--over",
    type=click.Choice(["http", "tftp"]),
    default="http",
    show_default=True,
    help="How boot.cfg is fetched: its prefix depends on it.",
)
@site_option
def command(host: str, kind: str, over: str, site: Path) -> None:
    """Print what HOST (name, MAC address or UUID) would get, byte for byte.

    Only the boot attempt's id and its token are placeholders, of the real length: they are made when a host boots.
    """
    from midwife.cli.machine import open_preview, the_machine
    from midwife.images.errors import ImageError
    from midwife.serve.render import RenderError

    preview = open_preview(site)
    try:
        body = preview.render(the_machine(preview.site, host), kind, over)
    except (RenderError, ImageError) as error:
        fail(str(error))
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()
