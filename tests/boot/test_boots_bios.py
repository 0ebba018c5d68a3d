"""Lane A: a BIOS machine boots from midwife, calls back, is customized and ends ready; and what else can
happen on the way. SeaBIOS, iPXE and PXELINUX are the real ones.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from .guest import Guest
from .lab import Lab
from .scenario import in_lab, in_usernet, snippet
from .usernet import UserNet
from .vm import Firmware

pytestmark = [pytest.mark.firmware, pytest.mark.timeout(400)]

MakeLab = Callable[..., Lab]


def test_ipxe_over_http_beside_a_dhcp_server_that_knows_nothing(
    make_lab: MakeLab, guest: Guest, tmp_path: Path
) -> None:
    scene = in_lab(make_lab, guest, tmp_path, Firmware.BIOS, proxydhcp={"enabled": "true"})
    scene.boot()
    scene.prove_ready(proto="http", proxied=True)


def test_ipxe_over_http_with_the_snippet_in_the_dhcp_server(
    make_lab: MakeLab, guest: Guest, tmp_path: Path
) -> None:
    pasted = snippet("--bios", "undionly.kpxe", "--uefi", "snponly.efi")
    scene = in_lab(make_lab, guest, tmp_path, Firmware.BIOS, dhcp=pasted)
    scene.boot()
    scene.prove_ready(proto="http", proxied=False)


def test_pxelinux_over_tftp_beside_a_dhcp_server_that_knows_nothing(
    make_lab: MakeLab, guest: Guest, tmp_path: Path
) -> None:
    proxy = {"enabled": "true", "bios": "pxelinux"}
    scene = in_lab(make_lab, guest, tmp_path, Firmware.BIOS, proxydhcp=proxy)
    scene.boot()
    scene.prove_ready(proto="tftp", proxied=True)


def test_pxelinux_over_tftp_with_the_snippet_in_the_dhcp_server(
    make_lab: MakeLab, guest: Guest, tmp_path: Path
) -> None:
    """QEMU's ROM is iPXE, which the snippet sends to its script; here it stands for a vendor's PXE ROM."""
    script = f"tag:midwife-ipxe,http://{Lab.service}:8080/boot.ipxe"
    pasted = snippet("--bios", "pxelinux.0", change=(script, "tag:midwife-ipxe,pxelinux.0"))
    scene = in_lab(make_lab, guest, tmp_path, Firmware.BIOS, dhcp=pasted)
    scene.boot()
    scene.prove_ready(proto="tftp", proxied=False)


def test_a_user_network_where_every_host_has_the_same_address(
    usernet: UserNet, guest: Guest, tmp_path: Path
) -> None:
    scene = in_usernet(usernet, guest, tmp_path, Firmware.BIOS)
    scene.boot()
    scene.prove_ready(proto="http", proxied=False)
