"""Who gets boot information by DHCP, and which loader: what proxyDHCP offers and ``explain`` shows. No sockets."""

from midwife.core.decide import Action, Answer
from midwife.core.dhcpanswer import Decision, NetbootTarget
from midwife.core.facts import Firmware
from midwife.images.boot import loaders
from midwife.images.boot.library import BootImage, Library
from midwife.images.errors import ImageError
from midwife.serve.render import Urls
from midwife.site.model import Site

__all__ = ["dhcp_decision", "may_ask", "netboot_target"]


def dhcp_decision(site: Site, library: Library, answer: Answer, firmware: Firmware) -> Decision:
    """What DHCP says to a machine that gets this answer; silence for strangers, unless the site lets them in."""
    if answer.host is None and site.main.proxydhcp.answer == "known":
        return Decision(None, answer.reasons[0])
    if answer.action is Action.LOCAL:
        return Decision(None, "it boots from its own disk: DHCP says nothing")
    if answer.action is Action.ASK:
        return Decision(_asking(site), answer.reasons[-1])
    if answer.action is Action.WAIT and not answer.host:
        return Decision(None, answer.reasons[-1])
    try:
        image = library.get(answer.image) if answer.action is Action.BOOT else None
    except ImageError as error:
        return Decision(None, str(error))
    return Decision(netboot_target(site, image, firmware), answer.reasons[0])


def may_ask(kind: str, answer: Answer, site: Site) -> bool:
    """Whether this configuration hands over to iPXE, which tells SMBIOS values, before anything is booted.

    PXELINUX can. It is for BIOS machines, so no Secure Boot stands in the way; that is why it also asks for what
    counts only after the boot, which UEFI machines are not asked for (they settle it when they call back).
    """
    asks = answer.action in (Action.ASK, Action.BOOT) and bool(answer.wanting)
    return kind == "pxelinux" and asks and loaders.find("ipxe.lkrn", site.root) is not None


def _asking(site: Site) -> NetbootTarget:
    """iPXE for every kind of firmware, whatever it boots after that: its script tells the SMBIOS values."""
    http = Urls.of(site).http
    return NetbootTarget(
        bios_file="undionly.kpxe",
        efi_file="snponly.efi",
        efi_http_url=f"{http}/snponly.efi",
        ipxe_url=f"{http}/boot.ipxe",
    )


def netboot_target(site: Site, image: BootImage | None, firmware: Firmware) -> NetbootTarget:
    """The loaders for a host that boots ``image``; None: a host that has none, and is told so by iPXE or PXELINUX.

    UEFI firmware loads ESXi's own mboot.efi, out of the image itself so that loader and image match; mboot then
    looks for its boot.cfg beside it. Linux images, and hosts without one, go through iPXE.
    ``proxydhcp.bios: pxelinux`` sends BIOS machines to PXELINUX even where their ROM is iPXE; iPXE in BIOS mode
    cannot run ESXi's mboot.c32, so iPXE hands over to PXELINUX there by itself.
    """
    urls = Urls.of(site)
    script = f"{urls.http}/boot.ipxe"
    pxelinux = site.main.proxydhcp.bios == "pxelinux"
    esxi = image is not None and image.kind == "esxi"
    loader = f"{image.name}/mboot.efi" if image is not None and esxi else "snponly.efi"
    return NetbootTarget(
        bios_file="pxelinux.0" if pxelinux or esxi else "undionly.kpxe",
        efi_file=loader,
        efi_http_url=f"{urls.http}/{loader}",
        ipxe_url="pxelinux.0" if pxelinux and firmware is Firmware.IPXE_BIOS else script,
    )
