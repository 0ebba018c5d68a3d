"""The lab proves itself, without midwife: dnsmasq and Python's own web server boot the guest under every
firmware, and one can log in to it. When a boot test of midwife fails and these pass, it is midwife.
"""

import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from .dhcp import Boot
from .guest import Guest
from .lab import Lab
from .usernet import UserNet, free_port
from .vm import Firmware, Machine

pytestmark = [pytest.mark.firmware, pytest.mark.timeout(300)]

_BOOT = 120.0
"""Seconds a boot may take; some 30 on an idle machine."""
_LOADERS = (
    "/usr/lib/PXELINUX/pxelinux.0",
    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
    "/usr/lib/ipxe/snponly.efi",
)


@pytest.fixture
def tree(guest: Guest, tmp_path: Path) -> Path:
    """What a boot server serves: the guest, boot loaders from Debian's packages, configurations by hand."""
    root = tmp_path / "served"
    (root / "pxelinux.cfg").mkdir(parents=True)
    for path in guest.files:
        shutil.copy(path, root)
    for loader in _LOADERS:
        if not Path(loader).is_file():
            pytest.fail(f"no {loader}: install pxelinux, syslinux-common and ipxe")
        shutil.copy(loader, root)
    names = [path.name for path in guest.initrds]
    words = f"{guest.options} PBHOST=192.0.2.9:3500"
    (root / "pxelinux.cfg" / "default").write_text(
        f"DEFAULT guest\nLABEL guest\n KERNEL vmlinuz\n APPEND initrd={','.join(names)} {words}\n IPAPPEND 2\n"
    )
    # Under UEFI the kernel asks its loader for each initrd that is named on its command line.
    named = " ".join(f"initrd={name}" for name in names)
    loads = "\n".join(f"initrd {name}" for name in names)
    (root / "boot.ipxe").write_text(
        f"#!ipxe\nkernel vmlinuz {named} {words} BOOTIF=01-${{net0/mac:hexhyp}}\n{loads}\nboot\n"
    )
    return root


def _serve_http(lab: Lab | UserNet, root: Path, address: str, port: int) -> None:
    command = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        str(port),
        "--bind",
        address,
        "--directory",
        str(root),
    ]
    lab.spawn("http.server", command).wait_for("Serving HTTP", 20)


def _boots(lab: Lab | UserNet, machine: Machine, guest: Guest) -> None:
    machine.start()
    machine.wait_for(r"GUEST\[.*kernel line: .*PBHOST=192\.0\.2\.9:3500", _BOOT)
    machine.wait_for(r"GUEST\[.*rc\.local done", 60)
    machine.wait_for("GUEST-SSHD Server listening", 30)
    assert "FAIL" not in machine.console.text()
    assert f"Serial Number: {machine.identity.serial}\n" in _ssh(
        lab, machine, guest, "esxcli hardware platform get"
    )


def _ssh(lab: Lab | UserNet, machine: Machine, guest: Guest, command: str) -> str:
    """What the command prints on the guest, whose host key must be the one it was built with."""
    transport = paramiko.Transport(lab.connect(*lab.ssh_endpoint(machine)))
    try:
        transport.connect(username="root", password=guest.password)
        seen = transport.get_remote_server_key()
        assert f"{seen.get_name()} {seen.get_base64()}" in guest.host_keys
        channel = transport.open_session()
        channel.exec_command(command)
        return channel.makefile().read().decode()
    finally:
        transport.close()


def test_bios_ipxe_boots_over_http(make_lab: Callable[..., Lab], tree: Path, guest: Guest) -> None:
    lab = make_lab(boot=Boot(server=Lab.service, ipxe=f"http://{Lab.service}:8080/boot.ipxe"))
    _serve_http(lab, tree, Lab.service, 8080)
    _boots(lab, lab.machine("bios-ipxe", Firmware.BIOS), guest)


def test_bios_pxelinux_boots_over_tftp(make_lab: Callable[..., Lab], tree: Path, guest: Guest) -> None:
    lab = make_lab(boot=Boot(server=Lab.gateway, ipxe="pxelinux.0", tftp_root=str(tree)))
    machine = lab.machine("bios-pxelinux", Firmware.BIOS)
    _boots(lab, machine, guest)
    assert f"BOOTIF=01-{machine.mac.replace(':', '-')}" in machine.console.text()


def test_efi_pxe_loads_ipxe_and_boots_over_http(
    make_lab: Callable[..., Lab], tree: Path, guest: Guest
) -> None:
    url = f"http://{Lab.service}:8080/boot.ipxe"
    lab = make_lab(boot=Boot(server=Lab.gateway, efi="snponly.efi", ipxe=url, tftp_root=str(tree)))
    _serve_http(lab, tree, Lab.service, 8080)
    _boots(lab, lab.machine("efi-pxe", Firmware.EFI), guest)


def test_efi_http_boots(make_lab: Callable[..., Lab], tree: Path, guest: Guest) -> None:
    base = f"http://{Lab.service}:8080"
    lab = make_lab(boot=Boot(server=Lab.service, http=f"{base}/snponly.efi", ipxe=f"{base}/boot.ipxe"))
    _serve_http(lab, tree, Lab.service, 8080)
    _boots(lab, lab.machine("efi-http", Firmware.EFI_HTTP), guest)


@pytest.mark.parametrize("firmware", [Firmware.BIOS, Firmware.EFI_IPXE])
def test_user_network_boots_without_root(
    usernet: UserNet, tree: Path, guest: Guest, firmware: Firmware
) -> None:
    port = free_port()
    _serve_http(usernet, tree, "127.0.0.1", port)
    machine = usernet.machine(f"user-{firmware}", firmware, f"http://{UserNet.service}:{port}/boot.ipxe")
    _boots(usernet, machine, guest)


# --- the guest itself, started without a network boot


def test_guest_answers_as_an_esxi_host_and_comes_back_after_a_reboot(usernet: UserNet, guest: Guest) -> None:
    words = f"{guest.options} PBHOST=192.0.2.9:3500 PBTOKEN=t0ken"
    machine = usernet.direct("reboots", guest.kernel, guest.initrds, words)
    machine.start()
    machine.wait_for("GUEST-SSHD Server listening", 60)
    for source in ("/sbin/bootOption -roC", "vsish -e get /system/bootCmdLine", "cat /proc/cmdline"):
        assert _ssh(usernet, machine, guest, source).split()[-2:] == words.split()[-2:]
    assert "sysboot: Getting 'PBHOST' parameter" in _ssh(usernet, machine, guest, "cat /var/log/messages")
    assert _ssh(usernet, machine, guest, "uname -s; vmware -v").startswith(
        "VMkernel\nVMware ESXi 8.0.3 build-"
    )
    assert machine.mac in _ssh(usernet, machine, guest, "esxcli network nic list")
    assert "127.0.0.1" not in _ssh(usernet, machine, guest, "esxcli network ip interface ipv4 get")
    absent = _ssh(usernet, machine, guest, "type tr base64 curl bash")
    assert absent.count("not found") == 4
    first = _ssh(usernet, machine, guest, "cat /proc/sys/kernel/random/boot_id")
    before = machine.console.mark()
    _ssh(usernet, machine, guest, "reboot")
    machine.wait_for("GUEST-SSHD Server listening", 60, since=before)
    assert _ssh(usernet, machine, guest, "cat /proc/sys/kernel/random/boot_id") != first


def test_guest_calls_home_as_esxi_does_by_itself(usernet: UserNet, guest: Guest) -> None:
    """One bare connection, closed without a byte; here before sshd listens, as happens in the field."""
    with socket.create_server(("127.0.0.1", 0)) as midwife:
        midwife.settimeout(60)
        port = midwife.getsockname()[1]
        words = f"{guest.options} PBHOST=10.0.2.2:{port} guest.callback=builtin guest.ssh=late"
        machine = usernet.direct("calls", guest.kernel, guest.initrds, words)
        machine.start()
        call, _ = midwife.accept()
        with call:
            call.settimeout(30)
            assert call.recv(1) == b""
            assert "GUEST-SSHD" not in machine.console.text()
    machine.wait_for("built-in callback .* done", 30)
    machine.wait_for("GUEST-SSHD Server listening", 30)


def test_guest_switches_itself_off(usernet: UserNet, guest: Guest) -> None:
    machine = usernet.direct("off", guest.kernel, guest.initrds, f"{guest.options} guest.poweroff")
    machine.start()
    assert machine.console.wait_end(60) == 0
