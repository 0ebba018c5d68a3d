"""Connections to real servers: OpenSSH and dropbear, late ones, wrong ones, dying ones."""

import hashlib
import socket
import threading
import time
from pathlib import Path

import pytest

from midwife.customize.cancel import Cancel
from midwife.customize.connect import Login, connect
from midwife.customize.errors import (
    Cancelled,
    ConnectionLost,
    HostKeyError,
    LoginError,
    PermanentError,
    StepError,
    StepTimeout,
    UnreachableError,
)
from midwife.customize.hostkey import Pin, Pins
from midwife.customize.masking import Masker
from midwife.customize.ssh import Connection
from midwife.customize.transfer import present, put, source_of
from tests.peers.sshd import PASSWORD, HostMachine, OpenSsh, fingerprint_of, new_key, running


def login(host: HostMachine, **changes: object) -> Login:
    values: dict[str, object] = {
        "address": "127.0.0.1",
        "pins": Pins.parse(host.pins),
        "port": host.port,
        "user": host.user,
        "key": host.key,
    }
    return Login(**{**values, **changes})  # type: ignore[arg-type]


def dial(to: Login, masker: Masker | None = None, timeout: float = 20) -> Connection:
    return connect(to, cancel=Cancel(), masker=masker or Masker(), timeout=timeout)


def test_a_command_on_each_server(any_host: HostMachine) -> None:
    connection = dial(login(any_host))
    output = connection.run("echo out; echo err >&2; exit 3", timeout=10)
    assert (output.rc, output.stdout, output.stderr) == (3, "out\n", "err\n")
    assert connection.run("cat", timeout=10, stdin=b"to the end").stdout == "to the end"
    connection.close()


def test_a_large_file_through_standard_input_and_back(any_host: HostMachine) -> None:
    """Both windows fill, nobody waits for the other, and nothing of what came before the end is lost."""
    data = b"0123456789abcdef" * 250_000
    connection = dial(login(any_host))
    output = connection.run("tee /dev/stderr", timeout=20, stdin=data)
    connection.close()
    assert output.rc == 0
    assert f"[… {len(data) - 65536} bytes left out …]" in output.stdout
    assert output.stderr == output.stdout


def test_many_short_commands_do_not_kill_dropbear(any_host: HostMachine) -> None:
    """The quirk in ``_let_server_close``: without it, every second dropbear dies within 30 commands."""
    for _ in range(3):
        connection = dial(login(any_host))
        for number in range(15):
            assert connection.run(f"exit {number}", timeout=10).rc == number
        connection.close()


def test_a_flood_of_output_is_cut_in_the_middle(openssh: HostMachine) -> None:
    connection = dial(login(openssh))
    output = connection.run("echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last", timeout=20)
    connection.close()
    assert output.stdout.startswith("first\nxxx")
    assert output.stdout.endswith("xxx\nlast\n")
    assert "bytes left out" in output.stdout
    assert len(output.stdout) < 66_000


def test_output_cannot_play_with_the_terminal(openssh: HostMachine) -> None:
    connection = dial(login(openssh))
    output = connection.run(r"printf '\033[2Jgone\007\000\r\nnext\tcolumn\n'", timeout=10)
    connection.close()
    assert output.stdout == "�[2Jgone��\nnext\tcolumn\n"


def test_output_is_masked_unless_asked_otherwise(openssh: HostMachine, masker: Masker) -> None:
    masker.add("pw", "hunter2hunter2")
    connection = dial(login(openssh), masker)
    assert connection.run("echo hunter2hunter2 >&2", timeout=10).stderr == "<secret pw>\n"
    assert connection.run("echo hunter2hunter2", timeout=10, mask=False).stdout == "hunter2hunter2\n"
    connection.close()


def test_a_daemon_left_behind_does_not_hold_us(openssh: HostMachine) -> None:
    connection = dial(login(openssh))
    began = time.monotonic()
    output = connection.run("sleep 300 & echo started", timeout=60)
    assert output.stdout == "started\n"
    assert time.monotonic() - began < 30
    connection.close()


def test_a_slow_command_times_out_with_what_it_said(openssh: HostMachine) -> None:
    connection = dial(login(openssh))
    with pytest.raises(StepTimeout, match=r"not finished after 0\.5 s") as caught:
        connection.run("echo working; exec sleep 300", timeout=0.5)
    assert caught.value.output == "working\n"
    assert connection.run("echo still here", timeout=10).stdout == "still here\n"
    connection.close()


def test_a_command_ended_by_a_signal(any_host: HostMachine) -> None:
    connection = dial(login(any_host))
    with pytest.raises(StepError, match="signal"):
        connection.run("kill -9 $$", timeout=10)
    connection.close()


def test_the_server_dies_under_a_command(openssh: HostMachine) -> None:
    connection = dial(login(openssh))
    started = openssh.folder / "started"
    killer = threading.Thread(target=lambda: (wait_for(started), openssh.kill_sessions()))
    killer.start()
    with pytest.raises(ConnectionLost):
        connection.run(f"touch {started}; sleep 300", timeout=30)
    killer.join()
    assert not connection.alive
    connection.close()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert path.exists()


def test_cancel_ends_a_command_within_a_second(openssh: HostMachine) -> None:
    cancel = Cancel()
    connection = connect(login(openssh), cancel=cancel, masker=Masker(), timeout=20)
    started = openssh.folder / "started"
    said = []

    def stop() -> None:
        wait_for(started)
        said.append(time.monotonic())
        cancel.stop("enough")

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Cancelled, match="enough"):
        connection.run(f"touch {started}; sleep 60", timeout=50)
    assert time.monotonic() - said[0] < 1.0
    stopper.join()
    connection.close()


# --- who is it? ---------------------------------------------------------------------------------------------


def test_another_host_key_is_refused_before_anything_is_sent(openssh: HostMachine, tmp_path: Path) -> None:
    other = fingerprint_of(new_key(tmp_path / "other").with_suffix(".pub"))
    with pytest.raises(HostKeyError) as caught:
        dial(login(openssh, pins=Pins.parse([other])))
    assert other in str(caught.value)
    assert openssh.pins[0] in str(caught.value)
    assert "Accepted" not in openssh.log.read_text()
    assert "Failed" not in openssh.log.read_text()


def test_no_pins_is_not_the_same_as_pins_of_nothing(openssh: HostMachine) -> None:
    with pytest.raises(HostKeyError, match="named no host key"):
        dial(login(openssh, pins=Pins.parse([])))
    dial(login(openssh, pins=None)).close()


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_the_kind_of_key_that_is_pinned_is_asked_for(tmp_path: Path, kind: str) -> None:
    """The callback may tell of one key, the server prefer another."""
    with running(OpenSsh(tmp_path / "host", host_keys=("ed25519", "ecdsa", "rsa"))) as host:
        public = (host.folder / f"host_{kind}.pub").read_text().split()
        bare = fingerprint_of(host.folder / f"host_{kind}.pub")
        dial(login(host, pins=Pins.parse([bare]))).close()
        tries = host.connections
        for pin in (f"{public[0]}:{public[1]}", f"{public[0]} {public[1]}", f"{public[0]} {bare}"):
            dial(login(host, pins=Pins.parse([pin]))).close()
        assert host.connections == tries + 3  # a pin that tells its kind needs one connection


def test_a_pin_that_is_none_is_an_error() -> None:
    for text in (
        "",
        "SHA256:",
        "SHA256:abc",
        "MD5:00:11",
        "ssh-ed25519",
        "ssh-ed25519:AAAA*",
        "SHA256:" + "A" * 80,
    ):
        with pytest.raises(ValueError, match="is not a host key"):
            Pin.parse(text)


def test_a_password_by_keyboard_interactive_as_esxi_asks_for_it(openssh_with_password: HostMachine) -> None:
    connection = dial(login(openssh_with_password, key=None, password=PASSWORD))
    assert connection.run("echo in", timeout=10).stdout == "in\n"
    connection.close()


def test_a_password_on_each_server(any_host: HostMachine) -> None:
    connection = dial(login(any_host, key=None, password=PASSWORD))
    assert connection.run("echo in", timeout=10).stdout == "in\n"
    connection.close()


def test_a_wrong_password_is_tried_once(any_host: HostMachine) -> None:
    before = any_host.connections
    with pytest.raises(LoginError, match="password: refused") as caught:
        dial(login(any_host, key=None, password="wrong password"))
    assert "wrong password" not in str(caught.value)
    assert any_host.connections == before + 1


def test_a_password_never_goes_to_an_unpinned_host(openssh: HostMachine) -> None:
    with pytest.raises(LoginError, match="not pinned"):
        dial(login(openssh, pins=None, password=PASSWORD))
    assert openssh.connections == 0


def test_a_key_that_the_host_does_not_know(openssh: HostMachine, tmp_path: Path) -> None:
    with pytest.raises(LoginError, match="authorized_keys"):
        dial(login(openssh, key=new_key(tmp_path / "stranger")))


def test_useless_key_files(openssh: HostMachine, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_text("not a key")
    for path, says in ((tmp_path / "missing", "No such file"), (tmp_path / "garbage", "cannot be read")):
        with pytest.raises(PermanentError, match=says):
            dial(login(openssh, key=path))


# --- is it there yet? ---------------------------------------------------------------------------------------


def test_a_server_that_comes_late(tmp_path: Path) -> None:
    """The callback arrives first: connections are refused, then accepted and dropped, then served."""
    host = OpenSsh(tmp_path / "host")
    host.refuse = 2
    refused = threading.Event()

    class Patient(Cancel):
        def pause(self, seconds: float) -> None:
            refused.set()
            super().pause(0.01)

    def boot() -> None:
        refused.wait(20)
        host.start()

    booting = threading.Thread(target=boot)
    booting.start()
    try:
        connection = connect(login(host), cancel=Patient(), masker=Masker(), timeout=20)
        assert connection.run("echo up", timeout=10).stdout == "up\n"
        connection.close()
    finally:
        booting.join()
        host.close()
    assert refused.is_set()
    assert host.connections == 3


def test_nobody_there(tmp_path: Path) -> None:
    host = OpenSsh(tmp_path / "host")
    try:
        with pytest.raises(UnreachableError, match=r"within 0\.3 s .*connection refused .*sshd enabled"):
            dial(login(host), timeout=0.3)
    finally:
        host.close()


def test_something_that_is_not_ssh() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answered = []

        def serve() -> None:
            while not answered or answered[-1]:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 200)
                    answered.append(True)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(UnreachableError, match="no SSH login"):
            dial(Login("127.0.0.1", None, server.getsockname()[1]), timeout=0.5)
        server.shutdown(socket.SHUT_RDWR)
        assert answered


def test_a_silent_server_does_not_outlive_a_cancel() -> None:
    """It accepts (the backlog does) and never says a word."""
    cancel = Cancel()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Timer(0.3, lambda: cancel.stop("stop")).start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            connect(
                Login("127.0.0.1", None, server.getsockname()[1]), cancel=cancel, masker=Masker(), timeout=60
            )
        assert time.monotonic() - began < 1.3


def test_a_name_is_not_an_address() -> None:
    with pytest.raises(PermanentError, match="not an IPv4 or IPv6 address"):
        dial(Login("esx-01.lab", None))


# --- files --------------------------------------------------------------------------------------------------


def upload(connection: Connection, data: bytes, to: Path, mode: int = 0o640) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    return put(connection, source_of(data), str(to), sha256=sha256, mode=mode, timeout=20)


def test_a_file_arrives_whole_with_its_mode(any_host: HostMachine, tmp_path: Path) -> None:
    connection = dial(login(any_host))
    data = bytes(range(256)) * 8000
    to = tmp_path / "on the host" / "new dir" / "it's.bin"
    sha256 = hashlib.sha256(data).hexdigest()
    assert not present(connection, str(to), sha256=sha256, mode=0o640, timeout=10)
    assert "2048000 bytes by SFTP, mode 0640" in upload(connection, data, to)
    assert to.read_bytes() == data
    assert to.stat().st_mode & 0o7777 == 0o640
    assert present(connection, str(to), sha256=sha256, mode=0o640, timeout=10)
    assert not present(connection, str(to), sha256=sha256, mode=0o600, timeout=10)
    assert upload(connection, b"", to)
    assert to.read_bytes() == b""
    assert [path.name for path in to.parent.iterdir()] == ["it's.bin"]
    connection.close()


def test_a_server_without_sftp(tmp_path: Path) -> None:
    with running(OpenSsh(tmp_path / "host", sftp=False)) as host:
        connection = dial(login(host))
        data = bytes(range(256)) * 4000
        assert "by cat" in upload(connection, data, tmp_path / "there")
        assert (tmp_path / "there").read_bytes() == data
        assert (tmp_path / "there").stat().st_mode & 0o777 == 0o640
        connection.close()


def test_a_directory_in_the_way(openssh: HostMachine, tmp_path: Path) -> None:
    connection = dial(login(openssh))
    with pytest.raises(StepError, match="it is a directory"):
        upload(connection, b"x", tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StepError, match="cannot write"):
        upload(connection, b"x", tmp_path / "file" / "below")
    connection.close()


def test_a_damaged_file_never_gets_its_name(openssh: HostMachine, tmp_path: Path) -> None:
    """The host's sha256sum sees other bytes than were sent."""
    openssh.shim("sha256sum", "echo 0000000000000000000000000000000000000000000000000000000000000000  -")
    (tmp_path / "there").write_text("old")
    connection = dial(login(openssh))
    with pytest.raises(StepError, match="arrived damaged"):
        upload(connection, b"new", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "old"
    assert not (tmp_path / ".there.midwife").exists()
    connection.close()


def test_a_link_in_the_way_of_the_temporary_file_is_not_followed(
    openssh: HostMachine, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".there.midwife").symlink_to(tmp_path / "victim")
    connection = dial(login(openssh))
    upload(connection, b"new", tmp_path / "there")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "there").read_text() == "new"
    connection.close()
