"""Which loader each kind of firmware is offered."""

from pathlib import Path

import pytest

from midwife.core.facts import Firmware
from midwife.images.boot.library import Library
from midwife.serve.netboot import netboot_target

from .deciding import make_site

SCRIPT = "http://192.0.2.2:8080/boot.ipxe"


@pytest.mark.parametrize(
    ("image", "bios", "firmware", "loads"),
    [
        # BIOS firmware of an ESXi host goes to PXELINUX: iPXE for BIOS cannot run mboot.c32
        ("8.0U3", "ipxe", Firmware.BIOS, "pxelinux.0"),
        ("8.0U3", "ipxe", Firmware.EFI, "8.0U3/mboot.efi"),
        ("8.0U3", "ipxe", Firmware.EFI_HTTP, "http://192.0.2.2:8080/8.0U3/mboot.efi"),
        ("8.0U3", "ipxe", Firmware.IPXE_BIOS, SCRIPT),
        ("8.0U3", "ipxe", Firmware.IPXE_EFI, SCRIPT),
        ("8.0U3", "pxelinux", Firmware.IPXE_BIOS, "pxelinux.0"),
        ("8.0U3", "pxelinux", Firmware.IPXE_EFI, SCRIPT),
        ("rescue", "ipxe", Firmware.BIOS, "undionly.kpxe"),
        ("rescue", "pxelinux", Firmware.BIOS, "pxelinux.0"),
        ("rescue", "ipxe", Firmware.EFI, "snponly.efi"),
        ("rescue", "ipxe", Firmware.EFI_HTTP, "http://192.0.2.2:8080/snponly.efi"),
        ("rescue", "ipxe", Firmware.IPXE_EFI, SCRIPT),
        # a host without an image is told so by what it can load
        (None, "ipxe", Firmware.BIOS, "undionly.kpxe"),
        (None, "ipxe", Firmware.EFI, "snponly.efi"),
        ("rescue", "ipxe", Firmware.UNKNOWN, ""),
    ],
)
def test_what_firmware_loads(
    tmp_path: Path, image: str | None, bios: str, firmware: Firmware, loads: str
) -> None:
    site = make_site(tmp_path, proxydhcp={"bios": bios})
    library = Library(site.data_dir, site.main.images, site.root)
    target = netboot_target(site, library.get(image) if image else None, firmware)
    assert target.load(firmware) == loads
