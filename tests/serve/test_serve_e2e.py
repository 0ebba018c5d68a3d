"""``midwife serve`` as a whole: three real processes, their files and their ports.

What happens when one of them dies, when the site changes, when the disk is full, and what a stranger on the boot
network gets to see.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tftpy
import yaml

from .conftest import HOST, MAC, MIDWIFE, Running
from .waiting import children_of, ended, eventually
from .web import connect, fetch

_LARGE = 24 << 20


@pytest.fixture(scope="module")
def lab(shared_service: Running) -> Running:
    """A service with a large file, which takes a slow reader some time."""
    (shared_service.site / "files" / "large").write_bytes(os.urandom(_LARGE))
    (shared_service.site / "files" / "ks.cfg").write_text("install\n")
    return shared_service


def tftp_get(
    running: Running, name: str, into: Path, hook: Callable[[object], None] = lambda _packet: None
) -> bytes:
    """With an independent client; the hook is called for every packet."""
    client = tftpy.TftpClient("127.0.0.1", running.port("tftp"), {"blksize": 1400})
    client.download(name, str(into), packethook=hook, timeout=5)
    return into.read_bytes()


# a boot, and what is in the way of one


def test_a_host_loads_its_image_and_the_timeline_says_so(lab: Running) -> None:
    kernel = (lab.site / "images" / "vmlinuz").read_bytes()
    initrd = (lab.site / "images" / "initrd").read_bytes()
    where = lab.configure()
    with connect(lab.port("http")) as ipxe:
        assert ipxe.ask(f"/{where}/vmlinuz").body == kernel
        assert ipxe.ask(f"/{where}/initrd").body == initrd
    assert "all 2 files served" in lab.wait_event("booted")
    assert lab.state() == "booted"
    kinds = [kind for kind, _ in lab.timeline()]
    assert kinds.index("boot") < kinds.index("config") < kinds.index("loading") < kinds.index("booted")
    assert lab.attempt() == {"vmlinuz": len(kernel), "initrd": len(initrd)}


def test_the_same_names_over_tftp(lab: Running, tmp_path: Path) -> None:
    assert tftp_get(lab, "lab/vmlinuz", tmp_path / "out") == (lab.site / "images" / "vmlinuz").read_bytes()
    assert tftp_get(lab, "files/ks.cfg", tmp_path / "ks") == b"install\n"


@pytest.mark.parametrize(
    "target",
    [
        "/files/../midwife.yaml",
        "/files/%2e%2e/midwife.yaml",
        "/files/..%2f..%2f..%2f..%2fetc/passwd",
        "/files/..%5cmidwife.yaml",
        "/files//../data/keys/token.secret",
        "/data/keys/token.secret",
        "/midwife.yaml",
        "//etc/passwd",
        "/files/%2fetc/passwd",
        "/lab/../../midwife.yaml",
        "/a/x/../../midwife.yaml",
        "/files/" + "x" * 300,
        "/files/" + "/".join(["d"] * 900),
        "/files",
        "/files/",
        "/files/.",
        "/api/hosts",
        "/status",
    ],
)
def test_nothing_but_the_boot_plane_can_be_fetched(lab: Running, target: str) -> None:
    answer = fetch(lab.port("http"), target)
    assert answer.status in (403, 404), answer.body
    assert b"root:" not in answer.body
    assert b"listen" not in answer.body


def test_a_symbolic_link_out_of_files_leads_nowhere(lab: Running) -> None:
    files = lab.site / "files"
    (files / "passwd").symlink_to("/etc/passwd")
    (files / "up").symlink_to(lab.site)
    (files / "round").symlink_to("round")
    (files / "inside").symlink_to("ks.cfg")
    os.mkfifo(files / "pipe")
    for name in ("passwd", "up/midwife.yaml", "up", "pipe"):
        assert fetch(lab.port("http"), f"/files/{name}").status == 403, name
    assert fetch(lab.port("http"), "/files/round").status in (403, 404)
    assert fetch(lab.port("http"), "/files/inside").body == b"install\n"


def test_whatever_is_in_loaders_is_served(lab: Running, tmp_path: Path) -> None:
    loaders = lab.site / "loaders"
    loaders.mkdir()
    (loaders / "wimboot").write_bytes(b"a loader that we never heard of")
    (loaders / "passwd").symlink_to("/etc/passwd")
    assert fetch(lab.port("http"), "/wimboot").body == b"a loader that we never heard of"
    assert tftp_get(lab, "boot/wimboot", tmp_path / "out") == b"a loader that we never heard of"
    assert fetch(lab.port("http"), "/passwd").status == 404


# deaths


@pytest.mark.parametrize("plane", ["http", "tftp"])
def test_a_killed_data_plane_is_back_at_once_and_its_port_was_never_closed(
    lab: Running, plane: str, tmp_path: Path
) -> None:
    before = lab.pid(plane)
    lab.kill(plane)
    if plane == "http":
        # Asked at once; the connection waits in the supervisor's socket until somebody answers.
        assert fetch(lab.port("http"), "/files/ks.cfg").body == b"install\n"
    else:
        assert tftp_get(lab, "files/ks.cfg", tmp_path / "ks") == b"install\n"
    assert lab.pid(plane) != before


def test_downloads_outlive_the_control_process_and_history_is_as_it_was(lab: Running) -> None:
    where = lab.configure()
    port = lab.port("http")
    with connect(port) as ipxe:
        kernel = ipxe.ask(f"/{where}/vmlinuz").body
    eventually(lambda: "vmlinuz" in lab.attempt(), "the kernel to be counted")
    large = (lab.site / "files" / "large").read_bytes()
    with connect(port, buffer=4096) as slow:
        slow.send("GET /files/large HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.head()
        first = slow.read(100_000)
        known, sent, state = lab.timeline(), lab.attempt(), lab.state()
        control = lab.pid("control")
        os.kill(control, signal.SIGSTOP)  # dead, and not yet restarted: nobody answers
        assert fetch(port, f"/{where}/vmlinuz").body == kernel, "a cached file needs no control process"
        os.kill(control, signal.SIGKILL)
        assert fetch(port, "/boot.ipxe").status == 200, "what needs it waits until it is back"
        assert lab.pid("control") != control
        assert first + slow.read(_LARGE - 100_000) == large
    assert lab.timeline()[: len(known)] == known
    assert (lab.attempt(), lab.state()) == (sent, state)
    with connect(port) as ipxe:
        ipxe.ask(f"/{where}/initrd")
    eventually(lambda: lab.state() == "booted", "the same attempt to go on")


def test_a_killed_supervisor_takes_its_children_along_and_the_next_one_starts(
    service: Callable[..., Running],
) -> None:
    first = service().start()
    children = list(children_of(first.running.pid))
    assert len(children) == 3
    os.kill(first.running.pid, signal.SIGKILL)
    first.start()  # at once, on the same ports: it waits until they are let go
    for pid in children:
        eventually(lambda pid=pid: ended(pid), "the orphan to end")  # type: ignore[misc]
    assert first.configure()


def test_sigterm_ends_everything_in_order(service: Callable[..., Running], tmp_path: Path) -> None:
    """The supervisor is gone in seconds; a data plane ends when its last transfer has."""
    running = service().start()
    (running.site / "files" / "large").write_bytes(os.urandom(_LARGE))
    children = list(children_of(running.running.pid))
    begun, go_on = threading.Event(), threading.Event()

    def pause(packet: object) -> None:
        if isinstance(packet, tftpy.TftpPacketTypes.TftpPacketDAT):
            begun.set()
            go_on.wait(30)

    over_tftp: list[bytes] = []
    slow_tftp = threading.Thread(
        target=lambda: over_tftp.append(tftp_get(running, "lab/vmlinuz", tmp_path / "out", pause))
    )
    slow_tftp.start()
    assert begun.wait(20)
    with connect(running.port("http"), buffer=4096) as slow, connect(running.port("http")) as idle:
        idle.ask("/boot.ipxe")
        slow.send("GET /files/large HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.head()
        got = slow.read(100_000)
        running.running.signal(signal.SIGTERM)
        eventually(lambda: running.running.returncode is not None, "the supervisor to end", 10)
        assert running.running.returncode == 0
        go_on.set()
        got += slow.read(_LARGE - len(got))
        assert got == (running.site / "files" / "large").read_bytes(), "the running download was not cut"
    slow_tftp.join()
    assert over_tftp == [(running.site / "images" / "vmlinuz").read_bytes()]
    for pid in children:
        eventually(lambda pid=pid: ended(pid), "the process to end")  # type: ignore[misc]
    assert not (running.site / "data" / "control.sock").exists()
    assert "Traceback" not in running.running.text()


# a second one


def test_a_second_service_on_the_same_data_directory_is_refused(lab: Running) -> None:
    command = [*MIDWIFE, "serve", str(lab.site)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"in use by another midwife serve (process {lab.running.pid})" in second.stderr
    assert "server.data" in second.stderr
    assert "Traceback" not in second.stderr


# reload


def test_a_new_host_is_served_after_a_reload(lab: Running) -> None:
    new = "52:54:00:00:00:02"
    path = lab.site / "hosts" / "esx-02.yaml"
    path.write_text(yaml.safe_dump({"macs": new, "image": "lab"}))
    told = lab.cli("reload")
    assert told.returncode == 0, told.stderr
    eventually(lambda: lab.state("esx-02") == "armed", "the new host to be shown")
    assert lab.configure(new)
    assert "hosts" in lab.wait_event("reloaded", "")


def test_after_a_reload_cached_answers_are_forgotten(lab: Running) -> None:
    kernel = lab.site / "images" / "vmlinuz"
    other = lab.site / "images" / "vmlinuz-2"
    assert fetch(lab.port("http"), "/lab/vmlinuz").body == kernel.read_bytes()
    other.write_bytes(b"another kernel")
    main = yaml.safe_load((lab.site / "midwife.yaml").read_text())
    main["images"]["lab"]["kernel"] = "images/vmlinuz-2"
    good = (lab.site / "midwife.yaml").read_text()
    (lab.site / "midwife.yaml").write_text(yaml.safe_dump(main))
    lab.cli("reload")
    port = lab.port("http")
    eventually(lambda: fetch(port, "/lab/vmlinuz-2").status == 200, "the new kernel to be served")
    assert fetch(port, "/lab/vmlinuz").status == 404
    (lab.site / "midwife.yaml").write_text(good)
    lab.cli("reload")
    eventually(lambda: fetch(port, "/lab/vmlinuz").status == 200, "the old kernel to be back")


def test_a_site_with_errors_is_not_taken_and_the_old_one_stays(lab: Running) -> None:
    broken = lab.site / "hosts" / "broken.yaml"
    broken.write_text("macs: not a mac\nimage: nowhere\n")
    refused = lab.cli("reload")
    assert refused.returncode == 1
    assert "broken.yaml" in refused.stderr
    assert not any(kind == "reload-refused" for kind, _ in lab.timeline("")), "the service was not even asked"
    since = lab.running.mark()
    lab.running.signal(signal.SIGHUP)  # whoever does not ask the command first
    assert "problems" in lab.wait_event("reload-refused", "")
    lab.running.wait_for(r"site not taken.*broken\.yaml", 10, since=since)
    assert lab.configure(MAC)
    broken.unlink()


def test_what_a_reload_cannot_change_is_told_and_stays(lab: Running) -> None:
    path = lab.site / "midwife.yaml"
    good = path.read_text()
    main = yaml.safe_load(good)
    port = lab.port("http")
    main["http"]["listen"] = "127.0.0.1:1"
    main["callback"]["listen"] = "127.0.0.1:2"
    path.write_text(yaml.safe_dump(main))
    lab.running.signal(signal.SIGHUP)
    told = lab.wait_event("restart-needed", "")
    path.write_text(good)
    assert "http.listen, callback.listen" in told
    script = fetch(port, f"/ipxe?mac={MAC}").body.decode()
    assert f"PBHOST=127.0.0.1:{lab.port('callback')}" in script, "hosts are told the port that is open"
    lab.running.signal(signal.SIGHUP)


def test_reload_without_a_service_says_so(service: Callable[..., Running]) -> None:
    stopped = service()
    told = stopped.cli("reload")
    assert told.returncode == 1
    assert "no midwife serve is running" in told.stderr


def test_the_log_of_all_this_holds_no_traceback_and_no_token(lab: Running) -> None:
    """The last test of the module, on the service that all of them shared."""
    script = fetch(lab.port("http"), f"/ipxe?mac={MAC}").body.decode()
    token = script.partition("PBTOKEN=")[2].split()[0]
    text = lab.running.text()
    assert HOST in text
    assert "Traceback" not in text
    assert len(token) > 20
    assert token not in text
