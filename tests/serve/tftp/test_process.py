"""The process and its two neighbours: the control process that dies, the supervisor that leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from midwife.serve.messages import Ask, Report
from midwife.wire.tftp import Data, Error, OptionAck

from .conftest import ENVIRONMENT, Control, Host, Server, eventually

NewHost = Callable[..., Host]
StartServer = Callable[..., Server]
STEADY = {"timeout": 30}


def asks(control: Control, name: str) -> int:
    return control.count(lambda message: isinstance(message, Ask) and message.name.endswith(name))


class TestControlProcess:
    def test_is_asked_once_for_an_image_file_whatever_the_attempt(
        self, own_server: StartServer, own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server()
        for attempt in ("a1", "b2", "c3"):
            new_host(server.address).loads(f"a/{attempt}/boot.cfg")
            own_control.report("served", "boot.cfg", attempt=attempt)
        assert asks(own_control, "boot.cfg") == 1

    def test_is_asked_each_time_for_what_it_renders(
        self, own_server: StartServer, own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server()
        own_control.knows("default", body="one")
        assert new_host(server.address).loads("default") == b"one"
        own_control.knows("default", body="two")
        assert new_host(server.address).loads("default") == b"two"

    def test_may_say_that_answers_are_no_longer_true(
        self, own_server: StartServer, own_control: Control, new_host: NewHost, tmp_path: Path
    ) -> None:
        server = own_server()
        folder = tmp_path / "image"
        folder.mkdir()
        (folder / "k.b00").write_bytes(b"old" * 1000)
        own_control.knows("k.b00", path=str(folder / "k.b00"), cache=True)
        running = new_host(server.address)
        running.asks("k.b00", blksize=1000, **STEADY)
        running.hears()
        running.acks(0)
        assert running.hears().payload == (b"old" * 1000)[:1000]
        folder.rename(tmp_path / "away")
        folder.mkdir()
        (folder / "k.b00").write_bytes(b"new")
        own_control.says('{"op":"flush"}')
        own_control.knows("flushed", body="yes")
        new_host(server.address).loads("flushed")  # answered after the flush was heard
        assert new_host(server.address).loads("k.b00") == b"new"
        own_control.report("served", "k.b00", size=3)
        assert asks(own_control, "k.b00") == 2
        running.acks(1)
        assert running.hears().payload == (b"old" * 1000)[1000:2000], "a running transfer keeps its file"

    def test_dies_and_cached_files_and_running_transfers_go_on(
        self, own_server: StartServer, own_control: Control, new_host: NewHost, tree: Path
    ) -> None:
        server = own_server()
        new_host(server.address).loads("boot.cfg")
        running = new_host(server.address)
        running.asks("exact", **STEADY)
        running.hears()
        running.acks(0)
        assert running.hears().block == 1
        own_control.kill()
        eventually(lambda: "lost the control process" in server.log, "the loss in the log")

        stranger = new_host(server.address)
        for _ in range(5):
            stranger.asks("mboot.efi")  # not cached: dropped
        assert new_host(server.address).loads("a/k3v9/boot.cfg") == (tree / "boot.cfg").read_bytes()
        for block in (1, 2, 3):
            running.acks(block)
            assert running.hears().block == block + 1
        running.acks(4)
        eventually(lambda: "name=exact" in server.log, "the end of the running transfer in the log")
        assert server.log.count("the control process is away and the name is not cached") == 1

        own_control.start()
        assert own_control.report("served", "exact").sent == 1536, "told when it is back"
        assert own_control.report("served", "boot.cfg", attempt="k3v9").sent == 700
        assert stranger.loads("mboot.efi") == (tree / "mboot.efi").read_bytes()

    def test_is_asked_again_after_it_was_away(
        self, own_server: StartServer, own_control: Control, new_host: NewHost
    ) -> None:
        """A Flush may have been missed, so its first word empties the cache."""
        server = own_server()
        new_host(server.address).loads("boot.cfg")
        own_control.kill()
        eventually(lambda: "lost the control process" in server.log, "the loss in the log")
        own_control.start()
        eventually(lambda: server.log.count("connected to the control process") == 2, "the new connection")
        new_host(server.address).loads("mboot.efi")
        new_host(server.address).loads("a/again/boot.cfg")
        own_control.report("served", "boot.cfg", attempt="again")
        assert asks(own_control, "boot.cfg") == 2

    def test_that_does_not_answer_stops_nobody_else(
        self, own_server: StartServer, own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server()
        own_control.never_answers("slow")
        waiting = new_host(server.address)
        for _ in range(3):
            waiting.asks("slow")
        own_control.asked("slow")
        assert len(new_host(server.address).loads("boot.cfg")) == 700
        own_control.report("served", "boot.cfg")
        assert asks(own_control, "slow") == 1

    def test_that_talks_nonsense_is_left_and_called_again(
        self, own_server: StartServer, own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server()
        new_host(server.address).loads("boot.cfg")
        own_control.says("password=hunter2")
        eventually(lambda: "that is no message" in server.log, "the complaint in the log")
        assert "hunter2" not in server.log
        assert len(new_host(server.address).loads("boot.cfg")) == 700


class TestProgress:
    def test_is_told_while_a_file_is_loading(
        self, own_server: StartServer, own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server()
        host = new_host(server.address)
        host.asks("a/k3v9/mboot.efi", blksize=1000, **STEADY)
        host.hears()
        host.acks(0)
        for block in range(1, 51):
            assert host.hears().block == block
            host.acks(block)
        progress = own_control.report("progress", "mboot.efi", attempt="k3v9")
        assert 0 < progress.sent <= 50_000
        assert progress.size == 201_024
        assert own_control.count(lambda m: isinstance(m, Report) and m.kind == "progress") <= 2


class TestSupervisor:
    @pytest.mark.parametrize("how", ["lifeline", "SIGTERM"])
    def test_goes_and_running_transfers_are_finished(
        self, how: str, own_server: StartServer, own_control: Control, new_host: NewHost
    ) -> None:
        server = own_server()
        host = new_host(server.address)
        host.asks("exact", **STEADY)
        host.hears()
        host.acks(0)
        assert host.hears().block == 1
        if how == "lifeline":
            server.process.stdin.close()
        else:
            server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "event=stopping" in server.log, "the word of the end in the log")
        for block in (1, 2, 3):
            host.acks(block)
            assert isinstance(host.hears(), Data)
        host.acks(4)
        assert server.ends() == 0
        assert own_control.report("served", "exact").sent == 1536

    def test_closes_the_port_at_once(self, own_server: StartServer, new_host: NewHost) -> None:
        server = own_server()
        host = new_host(server.address)
        host.asks("s.v00", **STEADY)
        host.hears()
        server.process.stdin.close()
        eventually(lambda: "event=stopping" in server.log, "the word of the end in the log")
        late = new_host(server.address)
        late._sock.connect(server.address)
        late._sock.send(b"\0\1boot.cfg\0octet\0")
        with pytest.raises(ConnectionRefusedError):
            late._sock.recv(100)
        host.sends(Error(0, ""))
        assert server.ends() == 0

    def test_a_second_sigterm_ends_it_now(self, own_server: StartServer, new_host: NewHost) -> None:
        server = own_server()
        host = new_host(server.address)
        host.asks("s.v00", **STEADY)
        assert isinstance(host.hears(), OptionAck)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "event=stopping" in server.log, "the word of the end in the log")
        server.process.send_signal(signal.SIGTERM)
        assert host.hears() == Error(0, "the server stops")
        assert server.ends() == 0

    @pytest.mark.parametrize(
        ("fds", "why"), [("0", "file descriptor 0 is no socket"), ("77", "Bad file descriptor"), ("x", "x")]
    )
    def test_that_passes_no_socket_is_told(self, fds: str, why: str, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "midwife.serve.tftp", "--control", tmp_path / "none", "--fds", fds],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=30,
            check=False,
        )
        assert done.returncode == 2
        assert why in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_many_transfers_leave_no_descriptor_behind(
    own_server: StartServer, own_control: Control, new_host: NewHost
) -> None:
    server = own_server()
    host = new_host(server.address)

    def open_files() -> int:
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))  # noqa: PTH208

    host.loads("boot.cfg")
    own_control.report("served", "boot.cfg")
    eventually(lambda: "event=served" in server.log, "the first transfer in the log")
    before = open_files()
    for number in range(200):
        host.tid = None
        host.loads(f"a/{number}/boot.cfg")
    own_control.report("served", "boot.cfg", attempt="199")
    assert open_files() == before
