"""What to paste into the DHCP server that is there, so that it sends hosts to midwife.

One template per kind of server under ``templates/dhcp/``; each tells BIOS PXE, UEFI PXE, UEFI HTTP and iPXE
apart by options 60, 77 and 93 (RFC 4578, RFC 5970). It knows neither the site nor what a host will get: midwife
decides that when the host asks for its boot file.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from midwife.resources import template_dir
from midwife.wire.identity import parse_mac

__all__ = ["KINDS", "SnippetError", "SnippetHost", "snippet"]

KINDS = ("isc", "kea", "dnsmasq", "windows", "mikrotik", "unifi")

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_FILE = re.compile(r"[A-Za-z0-9._/+-]{1,127}")

_TFTP_PORT = 69


class SnippetError(ValueError):
    """No snippet can be made of this; the message says what is wrong and what is understood."""


@dataclass(frozen=True, slots=True)
class SnippetHost:
    """A machine that gets boot information."""

    name: str
    mac: str


def snippet(
    kind: str,
    server: str,
    tftp_port: int = _TFTP_PORT,
    http_port: int = 8080,
    hosts: Sequence[SnippetHost] = (),
    *,
    bios_loader: str = "pxelinux.0",
    uefi_loader: str = "mboot.efi",
) -> str:
    """The text for one of ``KINDS``. With ``hosts``, only these get boot information, else every PXE client
    (MikroTik and UniFi cannot tell hosts apart and say so in the text).

    ``bios_loader`` may be ``undionly.kpxe`` and ``uefi_loader`` ``snponly.efi`` for the way through iPXE.
    Raises SnippetError for an unknown kind and for values that cannot stand in a configuration file, and
    ResourceMissing if the installation is broken.
    """
    if kind not in KINDS:
        raise SnippetError(f"no DHCP server {kind!r} is known; there are {', '.join(KINDS)}")
    values = _checked(server, tftp_port, http_port, bios_loader, uefi_loader)
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(template_dir() / "dhcp"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{kind}.j2").render(
        values, hosts=[_checked_host(host) for host in hosts]
    )


def _checked(
    server: str, tftp_port: int, http_port: int, bios_loader: str, uefi_loader: str
) -> dict[str, Any]:
    try:
        address = str(ipaddress.IPv4Address(server))
    except ValueError:
        raise SnippetError(
            f"the server's address is {server!r}; DHCP needs an IPv4 address such as 192.0.2.10"
        ) from None
    for name, port in (("TFTP", tftp_port), ("HTTP", http_port)):
        if not 0 < port < 65536:
            raise SnippetError(f"the {name} port is {port}; ports are 1 to 65535")
    for loader in (bios_loader, uefi_loader):
        if not _FILE.fullmatch(loader):
            raise SnippetError(
                f"{loader!r} is not a boot file: letters, digits and . _ / + - only, at most 127"
            )
    web = f"http://{address}:{http_port}"
    warnings = []
    if tftp_port != _TFTP_PORT:
        warnings.append(
            f"midwife's TFTP listens on port {tftp_port}, but PXE firmware only asks port 69: "
            "BIOS PXE and UEFI PXE will not boot until it listens there."
        )
    return {
        "server": address,
        "bios_loader": bios_loader,
        "uefi_loader": uefi_loader,
        "http_loader": f"{web}/{uefi_loader}",
        "ipxe_script": f"{web}/boot.ipxe",
        "warnings": warnings,
    }


def _checked_host(host: SnippetHost) -> SnippetHost:
    if not _HOST.fullmatch(host.name):
        raise SnippetError(f"{host.name!r} is not a host name: letters, digits and . _ - only, at most 80")
    try:
        mac = parse_mac(host.mac)
    except ValueError as error:
        raise SnippetError(f"host {host.name}: {error}") from None
    return SnippetHost(host.name, mac)
