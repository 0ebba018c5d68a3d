"""Which loader each kind of firmware gets, for one image: what proxyDHCP offers and ``explain`` shows. Pure."""

from midwife.core.dhcpanswer import NetbootTarget
from midwife.core.facts import Firmware
from midwife.images.library import BootImage
from midwife.serve.render import Urls
from midwife.site.model import Site

__all__ = ["netboot_target"]


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
