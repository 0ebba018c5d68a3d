"""Lane A: a BIOS machine boots from midwife, calls back, is customized and ends ready; and what else can
happen on the way. SeaBIOS, iPXE and PXELINUX are the real ones.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from .guest import Guest
from .lab import Lab
from .scenario import HOST, in_lab, in_usernet, snippet
from .usernet import UserNet
from .vm import Firmware

pytestmark = [pytest.mark.firmware, pytest.mark.timeout(400)]

MakeLab = Callable[..., Lab]

# QEMU's ROM is iPXE, which the snippet sends to its script; with this change it stands for a vendor's PXE ROM.
PXELINUX_FOR_IPXE = (
    f"tag:midwife-ipxe,http://{Lab.service}:8080/boot.ipxe",
    "tag:midwife-ipxe,pxelinux.0",
)


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
    pasted = snippet("--bios", "pxelinux.0", change=PXELINUX_FOR_IPXE)
    scene = in_lab(make_lab, guest, tmp_path, Firmware.BIOS, dhcp=pasted)
    scene.boot()
    scene.prove_ready(proto="tftp", proxied=False)


def test_a_user_network_where_every_host_has_the_same_address(
    usernet: UserNet, guest: Guest, tmp_path: Path
) -> None:
    scene = in_usernet(usernet, guest, tmp_path, Firmware.BIOS)
    scene.boot()
    scene.prove_ready(proto="http", proxied=False)


@pytest.mark.parametrize("loader", ["ipxe", "pxelinux"])
def test_a_host_that_is_to_boot_from_its_own_disk(
    make_lab: MakeLab, guest: Guest, tmp_path: Path, loader: str
) -> None:
    """proxyDHCP is silent; where the DHCP server sends the host to midwife all the same, the loader hands back.

    The machine has no disk, so the firmware ends at its last word.
    """
    pasted = snippet() if loader == "ipxe" else snippet(change=PXELINUX_FOR_IPXE)
    local = {"boot": "local"}
    scene = in_lab(
        make_lab, guest, tmp_path, Firmware.BIOS, proxydhcp={"enabled": "true"}, dhcp=pasted, host=local
    )
    scene.machine.start()
    scene.wait_event("dhcp", text="DISCOVER: it boots from its own disk: DHCP says nothing")
    scene.wait_event("local", text=f"told to boot from its own disk .{loader} over ")
    scene.machine.wait_for("No bootable device", 60)
    assert scene.service.status(HOST)["state"] == "local"
    assert set(scene.kinds()) == {"dhcp", "local", *(["loader"] if loader == "pxelinux" else [])}
    assert "event=dhcp-answered" not in scene.service.log.text()


def test_the_bare_connection_of_esxi_itself_is_recorded_and_nothing_is_pushed(
    make_lab: MakeLab, guest: Guest, tmp_path: Path
) -> None:
    """An image without the boot module, on a system that knows PBHOST= as ESXi 6.7 does."""
    scene = in_lab(
        make_lab,
        guest,
        tmp_path,
        Firmware.BIOS,
        proxydhcp={"enabled": "true"},
        netboot=False,
        options="guest.callback=builtin",
    )
    scene.machine.start()
    scene.wait_event("callback-bare", text=f"taken for {HOST} by its address.: recorded, nothing is pushed")
    scene.machine.wait_for("built-in callback to .* done", 30)
    status = scene.service.status(HOST)
    assert (status["state"], status["files_done"]) == ("booted", len(guest.files))
    assert "customizing" not in scene.kinds()
    assert scene.service.rows("SELECT * FROM runs") == []
    assert scene.ssh("hostname; ls /etc/agent.token").startswith("localhost\n")


def test_a_host_that_is_reset_while_it_loads_begins_a_new_attempt(
    make_lab: MakeLab, guest: Guest, tmp_path: Path
) -> None:
    """Over TFTP, where loading takes seconds."""
    proxy = {"enabled": "true", "bios": "pxelinux"}
    scene = in_lab(make_lab, guest, tmp_path, Firmware.BIOS, proxydhcp=proxy)
    scene.machine.start()
    scene.wait_event("loading")
    scene.machine.stop()
    first = scene.service.status(HOST)
    assert first["state"] == "loading"
    assert first["files_done"] < first["files"]
    mark = scene.service.log.mark()
    scene.machine.start()
    scene.wait_event("reset", since=mark, text="started over while loading")
    second = scene.wait_ready()
    assert second["attempt"] != first["attempt"]
    scene.prove_ready(proto="tftp", proxied=True, attempts=2)
    query = "SELECT state, error FROM attempts WHERE id = ?"
    assert scene.service.rows(query, first["attempt"]) == [("failed", "the host started over")]
