"""``midwife dhcp-snippet``: what to paste into the DHCP server that is there."""

from pathlib import Path

import click

from midwife.cli.common import fail, open_site, site_option

__all__ = ["command"]


@click.command("dhcp-snippet")
@click.argument("kind", type=click.Choice(["isc", "kea", "dnsmasq", "windows", "mikrotik", "unifi"]))
@click.option(
    "--hosts/--all", "only_hosts", default=False, help="Only the site's hosts, or every PXE client."
)
@click.option(
    "--bios", type=click.Choice(["pxelinux.0", "undionly.kpxe"]), default="pxelinux.0", show_default=True
)
@click.option(
    "--uefi", type=click.Choice(["mboot.efi", "snponly.efi"]), default="mboot.efi", show_default=True
)
@site_option
def command(kind: str, only_hosts: bool, bios: str, uefi: str, site: Path) -> None:
    """Print the boot options for KIND of DHCP server, with this site's address and ports.

    Needed where proxyDHCP is off. mboot.efi boots ESXi; snponly.efi (iPXE) boots everything.
    """
    from midwife.core.dhcpsnippet import SnippetError, SnippetHost, snippet
    from midwife.serve.render import Urls

    loaded = open_site(site).site
    urls = Urls.of(loaded)
    hosts = [SnippetHost(host.name, mac) for host in loaded.hosts for mac in host.macs] if only_hosts else []
    try:
        text = snippet(
            kind,
            urls.address,
            urls.tftp_port,
            urls.http_port,
            hosts,
            bios_loader=bios,
            uefi_loader=uefi,
        )
    except SnippetError as error:
        fail(str(error))
    click.echo(text, nl=False)
