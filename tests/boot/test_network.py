"""The lab's plumbing: children, namespaces, and that nothing stays behind, however a lab ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .dhcp import Boot, configuration
from .lab import Lab
from .process import LAB_VARIABLE, Child, WaitError, descendants_of_lab
from .state import LabBase
from .usernet import UserNet
from .vm import Firmware, Identity, Machine, Tap, User

_ROOT = Path(__file__).parents[2]


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


# --- children


def test_a_line_is_found_whether_it_was_said_already_or_comes_later(tmp_path: Path) -> None:
    child = Child("talker", python("print('first 1'); print('second 2')"), tmp_path / "log")
    assert child.wait_for(r"second (\d)", 20)[1] == "2"
    assert child.wait_for(r"first (\d)", 20)[1] == "1"
    assert child.wait_end(20) == 0
    assert (tmp_path / "log").read_text() == "first 1\nsecond 2\n"


def test_what_was_said_before_the_mark_does_not_count(tmp_path: Path) -> None:
    child = Child("cat", python("import os, signal; print('up'); signal.pause()"), tmp_path / "log")
    child.wait_for("up", 20)
    with pytest.raises(WaitError):
        child.wait_for("up", 0.05, since=child.mark())
    child.stop()
    assert not child.running


def test_waiting_ends_with_the_process_and_shows_its_last_words(tmp_path: Path) -> None:
    child = Child("short", python("print('\\x1b[2Jno\\x00 disk'); raise SystemExit(3)"), tmp_path / "log")
    with pytest.raises(WaitError) as failed:
        child.wait_for("ready", 3600)
    text = str(failed.value)
    assert "short: waited up to 3600 s for 'ready'; it ended with status 3" in text
    assert text.endswith("  | no disk")


# --- machines


def test_the_command_line_carries_the_identity(tmp_path: Path) -> None:
    identity = Identity(mac="52:54:00:00:00:07", serial="S,7", vendor="Lab")
    machine = Machine("m", Firmware.BIOS, Tap("tap3"), tmp_path, identity)
    command = " ".join(machine.command())
    assert "-accel tcg" in command
    assert "tap,id=n0,ifname=tap3,script=no,downscript=no" in command
    assert "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:07,bootindex=1" in command
    assert "manufacturer=Lab,product=Crib 1,serial=S,,7" in command
    assert f"-uuid {machine.identity.uuid}" in command
    assert machine.identity == Machine("n", Firmware.BIOS, Tap("t"), tmp_path, identity).identity


def test_user_network_names_boot_file_and_forwards(tmp_path: Path) -> None:
    card = User(bootfile="http://10.0.2.2:1/a,b", forwards=((2022, 22),))
    assert card.backend() == "user,id=n0,bootfile=http://10.0.2.2:1/a,,b,hostfwd=tcp:127.0.0.1:2022-:22"


def test_firmware_that_cannot_boot_on_a_user_network_is_refused(usernet: UserNet) -> None:
    with pytest.raises(ValueError, match="efi-ipxe"):
        usernet.machine("m", Firmware.EFI_HTTP, "http://10.0.2.2:1/x")


# --- DHCP


def test_by_default_the_dhcp_server_knows_nothing_of_booting() -> None:
    plain = configuration(
        interface="br0", address="192.168.77.1", boot=None, reservations={}, lease_file="/x"
    )
    assert not [word for word in ("boot", "tftp", "HTTPClient") if word in plain]
    lines = Boot(server="192.168.77.3", bios="pxelinux.0", http="http://h/x.efi").lines()
    assert "dhcp-boot=tag:!ipxe,tag:bios,pxelinux.0,,192.168.77.3" in lines
    assert "dhcp-option-force=tag:http,60,HTTPClient" in lines


# --- networks


@pytest.mark.netns
def test_two_labs_at_once_do_not_see_each_other(make_lab: Callable[..., Lab]) -> None:
    first, second = make_lab(), make_lab()
    for lab in (first, second):
        listener = lab.mw.call(lambda: socket.create_server((Lab.service, 3500)))
        with listener, lab.net.connect(Lab.service, 3500) as caller:
            accepted, (address, _) = listener.accept()
            with accepted:
                assert address == Lab.gateway
                caller.sendall(b"x")
                assert accepted.recv(1) == b"x"
    with pytest.raises(OSError, match=r"refused"):
        second.connect(Lab.service, 3500)
    first.close()
    assert second.dhcp.running
    assert not list(Path("/run/netns").glob(f"{first.name}-*"))


@pytest.mark.netns
def test_packets_on_the_bridge_are_captured(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    lab = make_lab()
    capture = lab.capture(tmp_path / "c.pcap", "udp port 9")
    with lab.mw.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.sendto(b"midwife was here", (Lab.gateway, 9))
    capture.signal(signal.SIGINT)
    capture.wait_end(20)
    assert b"midwife was here" in (tmp_path / "c.pcap").read_bytes()


def test_children_end_with_their_lab(tmp_path: Path) -> None:
    with UserNet(tmp_path) as lab:
        child = lab.spawn("sleeper", python("import signal; print('up'); signal.pause()"))
        child.wait_for("up", 20)
        assert child.pid in descendants_of_lab(lab.name)
    assert not child.running
    assert not descendants_of_lab(lab.name)


def _crashed_lab(kind: str, tmp_path: Path) -> tuple[str, int]:
    """A lab whose process was killed while it had a child: its name and the child's process id."""
    code = f"""
from pathlib import Path
from tests.boot.{kind.lower()} import {kind}
lab = {kind}(Path({str(tmp_path)!r}))
child = lab.spawn("orphan", ["sleep", "3600"])
print("LAB", lab.name, child.pid)
import signal; signal.pause()
"""
    owner = Child("owner", python(code), tmp_path / "owner.log", cwd=_ROOT)
    said = owner.wait_for(r"LAB (\w+) (\d+)", 30)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait_end(20)
    return said[1], int(said[2])


def test_the_next_lab_removes_what_a_crashed_one_left(tmp_path: Path) -> None:
    name, orphan = _crashed_lab("UserNet", tmp_path)
    assert orphan in descendants_of_lab(name)
    with LabBase():
        assert not descendants_of_lab(name)


@pytest.mark.netns
def test_namespaces_of_a_crashed_lab_are_removed(netns_lab: None, tmp_path: Path) -> None:
    name, _ = _crashed_lab("Lab", tmp_path)
    assert f"{name}-net" in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    with LabBase() as living:
        listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
        assert name not in listed
        assert not descendants_of_lab(name)
        assert LAB_VARIABLE not in os.environ, "the tests themselves belong to no lab"
        assert living.name != name
