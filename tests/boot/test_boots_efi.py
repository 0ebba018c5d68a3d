"""Lane B: a UEFI machine boots from midwife, calls back, is customized and ends ready; over the firmware's own
PXE and its own HTTP boot. OVMF and iPXE are the real ones.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .guest import Guest
from .lab import Lab
from .scenario import BOOT_SECONDS, HOST, in_lab, in_usernet, snippet
from .service import STEPS
from .usernet import UserNet
from .vm import Firmware

pytestmark = [pytest.mark.firmware, pytest.mark.timeout(400)]

MakeLab = Callable[..., Lab]


@pytest.mark.parametrize("firmware", [Firmware.EFI, Firmware.EFI_HTTP])
def test_beside_a_dhcp_server_that_knows_nothing(
    make_lab: MakeLab, guest: Guest, tmp_path: Path, firmware: Firmware
) -> None:
    scene = in_lab(make_lab, guest, tmp_path, firmware, proxydhcp={"enabled": "true"})
    scene.boot()
    scene.prove_ready(proto="http", proxied=True)
    scene.prove_loader("snponly.efi", "http" if firmware is Firmware.EFI_HTTP else "tftp")


@pytest.mark.parametrize("firmware", [Firmware.EFI, Firmware.EFI_HTTP])
def test_with_the_snippet_in_the_dhcp_server(
    make_lab: MakeLab, guest: Guest, tmp_path: Path, firmware: Firmware
) -> None:
    scene = in_lab(make_lab, guest, tmp_path, firmware, dhcp=snippet("--uefi", "snponly.efi"))
    scene.boot()
    scene.prove_ready(proto="http", proxied=False)


def test_a_user_network_where_every_host_has_the_same_address(
    usernet: UserNet, guest: Guest, tmp_path: Path
) -> None:
    scene = in_usernet(usernet, guest, tmp_path, Firmware.EFI_IPXE)
    scene.boot()
    scene.prove_ready(proto="http", proxied=False)


def test_a_reboot_step_is_part_of_the_same_attempt(make_lab: MakeLab, guest: Guest, tmp_path: Path) -> None:
    """The machine boots from midwife once more in the middle of its customization, and calls back again.

    The test makes the reset a power cycle: after a warm reset QEMU runs OVMF a minute longer.
    """
    steps = (
        {"name": "count", "run": "echo before >>/etc/motd"},
        {"name": "restart", "reboot": "a new driver", "timeout": "170s"},
        {"name": "back", "wait-online": "170s"},
        *STEPS,
    )
    proxy = {"enabled": "true"}
    scene = in_lab(make_lab, guest, tmp_path, Firmware.EFI, proxydhcp=proxy, steps=steps, reboots=False)
    scene.machine.start()
    scene.wait_event("customizing")
    scene.machine.console.wait_end(BOOT_SECONDS)
    assert scene.service.status(HOST)["state"] == "customizing"
    scene.machine.start()
    scene.wait_ready()
    # The second call may come after the last step: the host is reached as soon as its sshd is.
    scene.wait_event("callback-again", text="called back from")
    kinds = scene.kinds()
    assert [kinds.count(kind) for kind in ("boot", "callback", "customizing", "ready")] == [1, 1, 1, 1]
    assert kinds.count("step-done") == len(steps), scene.story("a step was done twice, or not")
    assert kinds.count("config") == 2, scene.story("not two boots")
    assert len(scene.service.rows("SELECT id FROM attempts")) == 1
    assert len(scene.service.rows("SELECT id FROM runs")) == 1
    assert scene.service.status(HOST)["state"] == "ready"
    scene.prove_customized()
    assert "before" not in scene.ssh("cat /etc/motd"), "the guest runs from memory: it was not rebooted"


def test_a_push_goes_on_after_the_control_process_was_killed(
    make_lab: MakeLab, guest: Guest, tmp_path: Path
) -> None:
    steps = (
        {"name": "before", "run": "echo done >>/tmp/before"},
        {"name": "gate", "run": "while [ ! -e /tmp/go ]; do usleep 100000; done", "timeout": "170s"},
        *STEPS,
    )
    scene = in_lab(
        make_lab, guest, tmp_path, Firmware.EFI_HTTP, dhcp=snippet("--uefi", "snponly.efi"), steps=steps
    )
    log = scene.service.log
    scene.machine.start()
    scene.wait_event("customizing")
    log.wait_for(rf'event="step started".*host={HOST} .*name=gate', 60)
    attempt = scene.service.status(HOST)["attempt"]
    mark = log.mark()
    os.kill(scene.service.process("control"), signal.SIGKILL)
    log.wait_for('event="process died, starting it again" .*process=control code=-9', 30, since=mark)
    scene.wait_event("resumed", since=mark, text="taken up again after step 1 of")
    log.wait_for(rf'event="step started".*host={HOST} .*name=gate', 60, since=mark)
    assert scene.service.status(HOST)["state"] == "customizing"
    scene.ssh("touch /tmp/go")
    assert scene.wait_ready()["attempt"] == attempt
    kinds = scene.kinds()
    assert [kinds.count(kind) for kind in ("boot", "callback", "customizing", "ready")] == [1, 1, 1, 1]
    assert scene.ssh("cat /tmp/before") == "done\n", "a step that was finished was done again"
    scene.prove_customized()
    scene.prove_silent()
