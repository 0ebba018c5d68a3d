"""What systemd is told, as its own datagram socket hears it. The whole service: test_supervisor.py."""

import os
import socket
import time
from pathlib import Path

import pytest

from midwife.serve.systemd import notify, notify_reloading


@pytest.mark.parametrize("abstract", [False, True])
def test_both_kinds_of_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"\0midwife-test-{os.getpid()}" if abstract else str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
        before = time.monotonic_ns() // 1000
        notify_reloading()
        kind, since = systemd.recv(100).decode().splitlines()
    assert kind == "RELOADING=1"
    assert before <= int(since.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_without_systemd_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is None
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone.sock"))
    assert notify("READY=1") is None, "a systemd that went away stops nobody"
