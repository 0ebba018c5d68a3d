"""``midwife serve`` on loopback high ports, for tests of the service as a whole.

The site has one host with a tiny "Linux" of random bytes: nothing boots it, but every byte of it can be checked.
"""

import itertools
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..boot.process import Child
from ..boot.usernet import free_port
from .waiting import ended, eventually, process
from .web import fetch

__all__ = ["HOST", "MAC", "MIDWIFE", "Running", "make_site"]

MIDWIFE = (sys.executable, "-m", "midwife")
HOST = "esx-01"
MAC = "52:54:00:12:34:56"
_START = 30.0


def make_site(root: Path, **main: Any) -> Path:
    """A site; ``main`` replaces sections of midwife.yaml."""
    (root / "hosts").mkdir(parents=True)
    (root / "files").mkdir()
    (root / "images").mkdir()
    dice = random.Random(7)
    (root / "images" / "vmlinuz").write_bytes(dice.randbytes(300_000))
    (root / "images" / "initrd").write_bytes(dice.randbytes(2_000_000))
    sections = {
        "server": {"address": "127.0.0.1"},
        "tftp": {"listen": f"127.0.0.1:{free_udp_port()}"},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "callback": {"listen": f"127.0.0.1:{free_port()}"},
        "images": {"lab": {"kernel": "images/vmlinuz", "initrd": "images/initrd"}},
        **main,
    }
    (root / "midwife.yaml").write_text(yaml.safe_dump(sections))
    (root / "hosts" / f"{HOST}.yaml").write_text(yaml.safe_dump({"macs": MAC, "image": "lab"}))
    return root


def free_udp_port() -> int:
    """A UDP port that nobody has."""
    import socket

    return free_port(socket.SOCK_DGRAM)


_READER = """
import json, sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=10)
print(json.dumps(db.execute(sys.argv[2], json.loads(sys.argv[3])).fetchall()))
"""


def read_rows(path: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """One query, without a lock that outlives it."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return db.execute(query, values).fetchall()
    finally:
        db.close()


@dataclass(slots=True)
class Running:
    """A service, started and stopped by the test. The supervisor is ``child``."""

    site: Path
    logs: Iterator[Path]
    before: Sequence[str] = ()
    """Words in front of the command: unshare, setpriv."""
    environ: Mapping[str, str] = field(default_factory=dict)
    child: Child | None = None

    def launch(self) -> Child:
        """Start it and do not wait."""
        command = [*self.before, *MIDWIFE, "serve", str(self.site)]
        self.child = Child("midwife serve", command, next(self.logs), env=self.environ)
        return self.child

    def start(self) -> "Running":
        """Start it; returns when it says that it serves."""
        self.launch().wait_for("midwife serves", _START)
        return self

    @property
    def running(self) -> Child:
        """The supervisor."""
        assert self.child is not None
        return self.child

    @property
    def data(self) -> Path:
        """The data directory, as the service sees it: it may have mounts of its own."""
        seen = self.site / "data"
        return Path(f"/proc/{self.running.pid}/root{seen}") if self.before else seen

    def section(self, name: str) -> Any:
        """A section of midwife.yaml as it is now."""
        return yaml.safe_load((self.site / "midwife.yaml").read_text())[name]

    def port(self, name: str) -> int:
        """Where tftp, http or callback listens."""
        return int(self.section(name)["listen"].rpartition(":")[2])

    def pid(self, plane: str) -> int:
        """The living process of a plane (control, tftp, http)."""
        supervisor = self.running.pid
        return eventually(lambda: process(supervisor, f"midwife.serve.{plane}"), f"a {plane} process")

    def kill(self, plane: str) -> None:
        """kill -9, and until it is really gone."""
        pid = self.pid(plane)
        os.kill(pid, 9)
        eventually(lambda: ended(pid), f"the {plane} process to be gone")

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A midwife command on this site."""
        command = [*MIDWIFE, *words, "--site", str(self.site)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Straight from the database file, as ``midwife status`` reads it."""
        path = str(self.site / "data" / "midwife.db")
        if not self.before:
            return read_rows(path, query, *values)
        # SQLite follows /proc/…/root to our own root, so the reader must be where the service is.
        command = ["nsenter", "-m", "-t", str(self.running.pid), sys.executable, "-c", _READER]
        words = [path, query, json.dumps(values)]
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=True, timeout=60)
        return [tuple(row) for row in json.loads(done.stdout)]

    def timeline(self, host: str = HOST) -> list[tuple[Any, ...]]:
        """Kind and text of the host's events."""
        return self.rows("SELECT kind, text FROM events WHERE host = ? ORDER BY id", host)

    def wait_event(self, kind: str, host: str = HOST) -> str:
        """The newest event of this kind, once there is one."""
        query = "SELECT text FROM events WHERE host = ? AND kind = ? ORDER BY id DESC LIMIT 1"
        found = eventually(lambda: self.rows(query, host, kind), f"the event {kind} of {host or 'no host'}")
        return str(found[0][0])

    def state(self, host: str = HOST) -> str:
        """The host's state."""
        found = self.rows("SELECT state FROM hosts WHERE id = ?", host)
        return str(found[0][0]) if found else ""

    def attempt(self) -> dict[str, Any]:
        """Bytes sent of each file in the host's present attempt."""
        query = "SELECT a.sent FROM hosts h JOIN attempts a ON a.id = h.attempt WHERE h.id = ?"
        found = self.rows(query, HOST)
        sent: dict[str, Any] = json.loads(found[0][0]) if found else {}
        return sent

    def configure(self, mac: str = MAC) -> str:
        """The prefix of the attempt's files, as iPXE learns it from its script: ``a/<attempt>/lab``."""
        answer = fetch(self.port("http"), f"/ipxe?mac={mac}&platform=efi")
        assert answer.status == 200, answer.body
        found = re.search(rb"(a/[0-9a-f]+/lab)/vmlinuz", answer.body)
        assert found, answer.body.decode()
        return found[1].decode()

    def stop(self) -> None:
        """SIGTERM, as systemd does; kill -9 if that does not help."""
        if self.child is not None:
            self.child.stop(20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Makes services; ``service(main sections…)``. They are stopped at the end."""
    made: list[Running] = []
    logs = (tmp_path / f"serve-{number}.log" for number in itertools.count())

    def make(site: Path | None = None, **main: Any) -> Running:
        where = site or make_site(tmp_path / f"site-{len(made)}", **main)
        made.append(Running(where, logs))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for all tests of a module that leave it as they found it."""
    folder = tmp_path_factory.mktemp("shared")
    running = Running(make_site(folder / "site"), (folder / f"{number}.log" for number in itertools.count()))
    yield running.start()
    running.stop()
