"""Site directories as commands meet them, with observed state that somebody wrote."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from midwife.cli.main import cli
from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.store.records import Attempt, HostRow, RunRow
from midwife.store.store import Store

NOW = 1_700_000_000.0
MACS = {name: f"52:54:00:00:00:{number:02x}" for number, name in enumerate(("esx-01", "disk-03"), 1)}
STRANGER = "02:00:00:00:00:99"
FILES = {f"m{n}.v00": 1000 for n in range(136)} | {"b.b00": 1000}


def midwife(*words: str | Path, env: dict[str, str] | None = None) -> Result:
    """In this process; any exception but click's own fails the test: no user ever sees a traceback."""
    return CliRunner().invoke(cli, [str(word) for word in words], env=env, catch_exceptions=False)


def process(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """As a person runs it."""
    command = [sys.executable, "-m", "midwife", *(str(word) for word in words)]
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60)


def write_site(root: Path, more: str = "") -> Path:
    """One Linux image, one host that boots it, one that boots its own disk."""
    for folder in ("hosts", "host-configurations", "files"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "vmlinuz").write_text("a kernel")
    (root / "initrd.img").write_text("an initial RAM disk")
    (root / "midwife.yaml").write_text(
        "server:\n  address: 192.0.2.2\nimages:\n  rescue:\n    kernel: vmlinuz\n    initrd: initrd.img\n"
        + more
    )
    (root / "hosts/esx-01.yaml").write_text(f"macs: {MACS['esx-01']}\nimage: rescue\n")
    (root / "hosts/disk-03.yaml").write_text(f"macs: {MACS['disk-03']}\nboot: local\n")
    return root


def open_store(root: Path) -> Store:
    (root / "data").mkdir(exist_ok=True)
    return Store.open(root / "data" / "midwife.db")


def add_host(
    store: Store,
    name: str,
    state: State,
    age: float,
    *,
    sent: Sequence[str] = (),
    deadline: float | None = None,
    error: str = "",
    known: bool = True,
    note: str = "",
    image: str = "8.0U3-lab",
) -> None:
    """A host that has been in this state for so long; with a boot attempt where the state has one."""
    id_ = "" if state in (State.DISCOVERED, State.ARMED, State.LOCAL) else f"a-{name}"
    facts = Facts(macs=(name,) if ":" in name else ())
    row = HostRow(name, known, facts, state, NOW - age, id_, image, note)
    if not id_:
        store.save_host(row)
        return
    attempt = Attempt(
        id_,
        name,
        state,
        NOW - age - 100,
        NOW - age,
        deadline=None if deadline is None else NOW + deadline,
        files=FILES,
        sent={file: FILES[file] for file in sent},
        error=error,
    )
    store.save_attempt(attempt, row)


def add_run(store: Store, host: str, steps: int, step: int, label: str, **changes: Any) -> None:
    """A run of so many steps, with this one under way."""
    values: dict[str, Any] = {"state": "running", "started": NOW - 184.0, **changes}
    plan = {"steps": [{}] * steps}
    store.add_run(
        RunRow(id=f"a-{host}", host=host, attempt=f"a-{host}", plan=plan, target={}, step=step, label=label,
               memory={}, **values)
    )  # fmt: skip
