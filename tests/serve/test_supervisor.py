"""How ``midwife serve`` starts, refuses to start, gives up, or goes on where it must not give up."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library

from ..peers.esxiso import look_alike
from .conftest import HOST, MAC, Running
from .waiting import eventually, process
from .web import connect, fetch

Make = Callable[..., Running]


def refused(running: Running, deadline: float = 30.0) -> str:
    """What the service said when it would not start."""
    child = running.launch()
    assert child.wait_end(deadline) == 1, child.text()
    text = child.text()
    assert "Traceback" not in text
    assert "starting it again" not in text, "no restart loop"
    return text


# told before anything starts


def test_every_port_that_is_taken_is_told_at_once_with_what_to_do(service: Make) -> None:
    running = service()
    ports = {name: running.port(name) for name in ("tftp", "http", "callback")}
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tftp,
        socket.create_server(("127.0.0.1", ports["http"])),
        socket.create_server(("127.0.0.1", ports["callback"])),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        tftp.bind(("127.0.0.1", ports["tftp"]))
        datagrams.bind(("127.0.0.1", ports["callback"]))
        text = refused(running)
    for what in (
        f"TFTP: UDP port {ports['tftp']} on 127.0.0.1 is taken",
        f"HTTP: TCP port {ports['http']} on 127.0.0.1 is taken",
        f"callback: TCP port {ports['callback']} on 127.0.0.1 is taken",
        f"callback: UDP port {ports['callback']} on 127.0.0.1 is taken",
        "ss -lunp",
        "ss -ltnp",
        "http.listen in midwife.yaml",
    ):
        assert what in text, what
    running.start()
    assert running.configure(), "once they are free it starts"


def test_a_low_port_without_permission(service: Make) -> None:
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first_free <= 1:
        pytest.skip("every port may be bound by everybody on this machine (ip_unprivileged_port_start)")
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may bind every port, and there is no setpriv to give the right away")
    running = service(tftp={"listen": "127.0.0.1:1"})
    if os.geteuid() == 0:
        running.before = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")
    text = refused(running)
    assert "TFTP: UDP port 1 on 127.0.0.1: no permission for ports below 1024" in text
    assert "CAP_NET_BIND_SERVICE" in text


@pytest.mark.parametrize("data", ["/proc/midwife", "/dev/null/data"])
def test_a_data_directory_that_cannot_be_made(service: Make, data: str) -> None:
    text = refused(service(server={"address": "127.0.0.1", "data": data}))
    assert data in text
    assert "set server.data in midwife.yaml" in text


def test_a_site_with_errors_is_refused_with_all_of_them(service: Make) -> None:
    running = service()
    (running.site / "hosts" / "a.yaml").write_text("macs: nonsense\n")
    (running.site / "hosts" / "b.yaml").write_text("image: nowhere\nmacs: 52:54:00:00:00:09\n")
    text = refused(running)
    assert "a.yaml:1" in text
    assert "b.yaml:1" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("midwife.db", "moving it away and starting again is safe"),
        ("keys/token.secret", "instead of 32; delete it"),
    ],
)
def test_a_broken_file_in_the_data_directory_ends_it_with_one_sentence(
    service: Make, name: str, words: str
) -> None:
    running = service()
    path = running.site / "data" / name
    path.parent.mkdir(parents=True)
    path.write_text("rubbish" * 1000 if name == "midwife.db" else "rubbish")
    text = refused(running)
    assert str(path) in text
    assert words in text


# seen to at every start


def test_a_killed_import_is_cleared_away_and_a_loader_that_cannot_work_is_told(
    service: Make, tmp_path: Path
) -> None:
    running = service()
    data = running.site / "data"
    import_iso(look_alike(tmp_path).path, Library(data, {}, running.site), "esxi")
    leftover = data / "images" / ".tmp-killed"
    leftover.mkdir()
    (leftover / "half.v00").write_bytes(bytes(1000))
    (running.site / "hosts" / f"{HOST}.yaml").write_text(f"macs: {MAC}\nimage: esxi\n")
    (running.site / "loaders").mkdir()
    pxelinux = running.site / "loaders" / "pxelinux.0"
    pxelinux.write_bytes(bytes(100) + b"PXELINUX 6.04" + bytes(100))
    child = running.start().running
    assert not leftover.exists()
    assert "which cannot load ESXi's mboot.c32" in child.text()
    pxelinux.write_bytes(bytes(100) + b"PXELINUX 3.86" + bytes(100))
    since = child.mark()
    child.signal(signal.SIGHUP)
    running.wait_event("reloaded", "")
    assert "mboot.c32" not in "\n".join(child.lines[since:]), "told no more once it is mended"


# deaths


def test_a_control_process_that_always_dies_before_it_serves_is_given_up(service: Make) -> None:
    running = service()
    child = running.launch()
    seen = set()
    for _ in range(3):

        def another() -> int:
            pid = process(child.pid, "midwife.serve.control")
            return pid if pid not in seen else 0

        pid = eventually(another, "the next control process")
        seen.add(pid)
        os.kill(pid, signal.SIGKILL)
    assert child.wait_end(30) == 1
    assert "the control process cannot start" in child.text()
    assert "Traceback" not in child.text()


def test_a_site_broken_on_disk_does_not_end_a_service_that_runs(service: Make) -> None:
    """The control process dies while somebody is in the middle of an edit: what is cached is still served, and
    the next reload brings everything back."""
    running = service().start()
    port = running.port("http")
    kernel = fetch(port, "/lab/vmlinuz").body
    half_done = running.site / "hosts" / "half.yaml"
    half_done.write_text("macs: 52:54:")
    since = running.running.mark()
    running.kill("control")
    running.running.wait_for(r"the site has errors.*half\.yaml", 20, since=since)
    running.running.wait_for("midwife reload tries again at once", 20, since=since)
    assert fetch(port, "/lab/vmlinuz").body == kernel
    half_done.unlink()
    assert running.cli("reload").returncode == 0
    assert running.configure(), "without waiting for the next try"


def test_a_reload_in_the_first_moment_neither_kills_nor_is_lost(service: Make) -> None:
    running = service()
    child = running.launch()
    eventually(lambda: process(child.pid, "midwife.serve.control"), "the control process")
    child.signal(signal.SIGHUP)
    child.wait_for("midwife serves", 30)
    assert running.wait_event("reloaded", "")
    assert "starting it again" not in child.text()


# a full disk


@pytest.fixture
def small_disk(service: Make) -> Iterator[Running]:
    """A service whose data directory is a file system of 2 MB, in a mount namespace of its own."""
    running = service()
    data = running.site / "data"
    data.mkdir()
    mount = f'mount -t tmpfs -o size=2m,mode=700 none "{data}" && exec "$@"'
    running.before = ("unshare", "-m", "--propagation", "private", "sh", "-c", mount, "sh")
    probe = subprocess.run([*running.before, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no mount namespace on this machine: {probe.stderr.strip()}")
    return running.start()


def fill(path: Path) -> None:
    """Until not one more page fits."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(path).f_bavail == 0


def test_boots_go_on_while_the_disk_is_full_and_history_is_written_afterwards(small_disk: Running) -> None:
    port = small_disk.port("http")
    filler = small_disk.data / "filler"
    fill(filler)
    log = small_disk.running
    where = small_disk.configure()
    with connect(port) as ipxe:
        for name in ("vmlinuz", "initrd"):
            assert ipxe.ask(f"/{where}/{name}").body == (small_disk.site / "images" / name).read_bytes()
    log.wait_for("the database cannot be written", 20)
    for number in range(40):  # others, too, and nobody fills the log
        fetch(port, f"/ipxe?mac=52:54:00:00:01:{number:02}")
    assert fetch(port, "/boot.ipxe").status == 200
    assert small_disk.state() == "armed", "nothing of it is on disk"
    filler.unlink()
    log.wait_for("the database can be written again", 20)
    small_disk.wait_event("booted")
    assert small_disk.state() == "booted"
    kinds = [kind for kind, _ in small_disk.timeline()]
    assert kinds.index("config") < kinds.index("booted")
    assert log.text().count("the database cannot be written") == 1
    assert "Traceback" not in log.text()


# systemd


def test_systemd_is_told_when_it_serves_reloads_and_stops(service: Make, tmp_path: Path) -> None:
    address = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(20)
        running = service()
        running.environ = {"NOTIFY_SOCKET": address}
        running.launch()
        assert systemd.recv(1000) == b"READY=1"
        assert fetch(running.port("http"), "/boot.ipxe").status == 200, "ready means ready"
        running.running.signal(signal.SIGHUP)
        assert systemd.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert systemd.recv(1000) == b"READY=1"
        running.running.signal(signal.SIGTERM)
        assert systemd.recv(1000) == b"STOPPING=1"
