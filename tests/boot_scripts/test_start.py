"""The boot module's start script and the kickstart snippets, run as the host and the installer run them."""

import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from midwife.wire.callback import Phase
from tests.boot_scripts.hosts import BOOT, Host, Midwife

SCRIPT = BOOT / "module/etc/rc.local.d/zz-midwife.sh"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIAAHKE6HWv5TeXIx9GhDq1dLiFiBFFKniybqlwRJY78 midwife@lab"
OTHERS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOTHERS somebody@else"
OK = b"MIDWIFE/1 ok\n"

shells = pytest.mark.parametrize("shell", [("dash",), ("busybox", "ash")], ids=["dash", "busybox"])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """The boot module is on board; its pbconnect only tells that it was started."""
    host = Host(tmp_path / "host")
    host.file("opt/midwife/authorized_key", KEY + "\n")
    host.file("opt/midwife/pbconnect", "echo started >>$PBROOT/fifo\n")
    return host


def start(host: Host, *, shell: tuple[str, ...] = ("dash",)) -> subprocess.CompletedProcess[str]:
    program = [str(shutil.which(shell[0])), *shell[1:]]
    return subprocess.run(
        [*program, str(SCRIPT)], env=host.environment, capture_output=True, text=True, timeout=60, check=False
    )


def started(host: Host) -> list[str]:
    """Waits for pbconnect to tell that it runs."""
    return subprocess.run(
        ["cat", host.root / "fifo"], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()


@pytest.fixture
def fifo(host: Host) -> Path:
    """pbconnect hangs on it until ``started`` reads: the script has to return all the same."""
    path = host.root / "fifo"
    subprocess.run(["mkfifo", path], check=True)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@shells
def test_midwife_gets_in_and_pbconnect_runs_in_the_background(
    host: Host, fifo: Path, shell: tuple[str, ...]
) -> None:
    done = start(host, shell=shell)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert started(host) == ["started"]
    for directory in ("etc/ssh/keys-root", "root/.ssh"):  # a Linux guest reads the second
        keys = host.root / directory / "authorized_keys"
        assert keys.read_text() == KEY + "\n"
        assert (mode(keys.parent), mode(keys)) == (0o700, 0o600)


def test_on_esxi_only_its_own_place_is_written(host: Host, fifo: Path) -> None:
    host.tool("uname", "echo VMkernel\n")
    start(host)
    started(host)
    assert (host.root / "etc/ssh/keys-root/authorized_keys").exists()
    assert not (host.root / "root").exists()


@shells
def test_other_peoples_keys_stay_and_nothing_is_added_twice(
    host: Host, fifo: Path, shell: tuple[str, ...]
) -> None:
    keys = host.file("etc/ssh/keys-root/authorized_keys", OTHERS)  # its last line has no end
    keys.chmod(0o1644)  # ESXi's sticky bit: the file may be changed and is kept
    for _ in range(2):
        start(host, shell=shell)
        started(host)

    assert keys.read_text() == f"{OTHERS}\n{KEY}\n"
    assert mode(keys) == 0o1600


def test_without_setsid_pbconnect_runs_too(host: Host, fifo: Path) -> None:
    (host.bin / "setsid").unlink()
    assert start(host).returncode == 0
    assert started(host) == ["started"]


def snippet(name: str, host: Host) -> list[str]:
    """The text as an installer would run it, with its absolute paths moved under the pretended root."""
    text = (BOOT / "kickstart" / name).read_text()
    for path in ("/opt/midwife", "/sbin/bootOption", "/proc/cmdline"):
        assert path in text
        text = text.replace(path, f"{host.root}{path}")
    return ["busybox", "ash", str(host.file(name, text))]


def run(command: list[str], host: Host) -> int:
    environment = {**host.environment, "PATH": f"{host.bin}:/bin:/usr/bin"}
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


@pytest.mark.parametrize(("name", "phase"), [("pre.sh", Phase.PRE), ("post.sh", Phase.INSTALLED)])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_snippet_calls_without_pbconnect(tmp_path: Path, name: str, phase: Phase, address: str) -> None:
    host = Host(tmp_path / "host")
    with Midwife(OK, address=address) as midwife:
        host.file("proc/cmdline", f"runweasel PBHOST={midwife.endpoint} PBTOKEN=t0k-en\n")
        assert run(snippet(name, host), host) == 0
    assert [(m.token, m.phase) for m in midwife.messages] == [("t0k-en", phase)]


@pytest.mark.parametrize("name", ["pre.sh", "post.sh"])
def test_a_snippet_reads_esxis_boot_options_first(tmp_path: Path, name: str) -> None:
    host = Host(tmp_path / "host")
    with Midwife(OK) as midwife:
        option = host.file("sbin/bootOption", f"#!/bin/sh\necho PBHOST={midwife.endpoint} PBTOKEN=new\n")
        option.chmod(0o755)
        host.file("proc/cmdline", "PBHOST=127.0.0.1:1 PBTOKEN=old\n")
        assert run(snippet(name, host), host) == 0
    assert [message.token for message in midwife.messages] == ["new"]


@pytest.mark.parametrize(("name", "arguments"), [("pre.sh", "-p pre -r 4"), ("post.sh", "-p installed -r 4")])
def test_a_snippet_uses_pbconnect_where_the_boot_module_is(tmp_path: Path, name: str, arguments: str) -> None:
    host = Host(tmp_path / "host")
    host.file("opt/midwife/pbconnect", f'echo "$*" >{host.root}/asked\nexit 1\n')
    assert run(snippet(name, host), host) == 0
    assert (host.root / "asked").read_text().strip() == arguments


@pytest.mark.parametrize("name", ["pre.sh", "post.sh"])
def test_a_snippet_never_fails_the_installation(tmp_path: Path, name: str) -> None:
    host = Host(tmp_path / "host")
    host.file("proc/cmdline", "runweasel\n")
    assert run(snippet(name, host), host) == 0


@pytest.mark.parametrize("name", ["pre.sh", "post.sh"])
def test_no_line_of_a_snippet_looks_like_a_kickstart_section(name: str) -> None:
    """A section ends at the next line with a section keyword at its start."""
    assert not [line for line in (BOOT / "kickstart" / name).read_text().splitlines() if line.startswith("%")]


def test_the_whole_way_from_boot_module_to_service(tmp_path: Path) -> None:
    """The script, the real pbconnect, the real nc: what a stateless host does at the end of its boot."""
    host = Host(tmp_path / "host")
    host.be_esxi()
    host.file("opt/midwife/authorized_key", KEY + "\n")
    host.file("opt/midwife/pbconnect", (BOOT / "pbconnect").read_text())
    called = threading.Event()
    with Midwife(OK) as midwife:
        midwife.on_call = called.set
        host.file("proc/cmdline", f"PBHOST={midwife.endpoint} PBTOKEN=t\n")
        assert start(host).returncode == 0
        assert called.wait(30)
    assert midwife.messages[0].serial == "3BFS4T3"
