"""Hosts to customize, and people who watch."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from midwife.customize.bundles import BundleFolder
from midwife.customize.cancel import Cancel
from midwife.customize.masking import Masker
from midwife.customize.runner import Patience, RunEvent
from tests.peers.sshd import DROPBEAR, SSHD, Dropbear, HostMachine, OpenSsh, can_unshare, running

HASTY = Patience(connect=20, backoff=0.01, longest_backoff=0.02, poll=0.05)


class Watcher:
    """An observer that keeps everything; ``on(kind)`` may do something when an event comes."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.deeds: list[tuple[str, int, Any]] = []

    def __call__(self, event: RunEvent) -> None:
        self.events.append(event)
        for kind, step, deed in self.deeds:
            if event.kind == kind and step == event.step:
                deed()

    def on(self, kind: str, step: int, deed: Any) -> None:
        self.deeds.append((kind, step, deed))

    def told(self) -> list[str]:
        """The story in short: ``step_done 0 changed``."""
        return [f"{e.kind} {e.step}" + (" changed" if e.changed else "") for e in self.events if e.step >= 0]

    def everything(self) -> str:
        return json.dumps([event.to_json() for event in self.events], ensure_ascii=False)


class Notebook:
    """The memory of a run."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    def recall(self, key: str) -> str | None:
        return self.notes.get(key)

    def remember(self, key: str, value: str) -> None:
        self.notes[key] = value


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def cancel() -> Cancel:
    return Cancel()


@pytest.fixture
def masker() -> Masker:
    return Masker()


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    folder.mkdir()
    return folder


@pytest.fixture
def bundles(bundle_dir: Path) -> BundleFolder:
    return BundleFolder(bundle_dir)


@pytest.fixture
def openssh(tmp_path: Path) -> Iterator[HostMachine]:
    if SSHD is None:
        pytest.skip("needs OpenSSH's sshd (apt-get install openssh-server)")
    with running(OpenSsh(tmp_path / "host")) as machine:
        yield machine


@pytest.fixture
def openssh_with_password(tmp_path: Path) -> Iterator[HostMachine]:
    """As ESXi: a private root password, and only keyboard-interactive to ask for it."""
    if SSHD is None or not can_unshare():
        pytest.skip("needs OpenSSH's sshd and root (a private /etc/shadow in a mount namespace)")
    extra = "UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes"
    with running(OpenSsh(tmp_path / "host", extra=extra)) as machine:
        yield machine


@pytest.fixture(params=["openssh", "dropbear"])
def any_host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HostMachine]:
    if request.param == "dropbear":
        if DROPBEAR is None or not shutil.which("dropbearkey") or not can_unshare():
            pytest.skip("needs dropbear and root (its home directory is in a mount namespace)")
        machine: HostMachine = Dropbear(tmp_path / "host")
    elif SSHD is None:
        pytest.skip("needs OpenSSH's sshd (apt-get install openssh-server)")
    else:
        machine = OpenSsh(tmp_path / "host")
    with running(machine):
        yield machine
