"""midwife itself in a lab: writes a site for the guest, starts ``midwife serve``, asks the command line.

Everything goes the way a user goes: files in a site directory, commands, their output. What is waited for are
lines of the service's log, which has every line of every timeline.
"""

import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .guest import Guest
from .lab import Lab
from .process import Child, WaitError
from .usernet import UserNet
from .vm import Machine

__all__ = ["MIDWIFE", "SECRET", "STEPS", "Ports", "Service", "write_site"]

MIDWIFE = (sys.executable, "-m", "midwife")
SECRET = "s3cret-of-the-agent"

STEPS: tuple[Mapping[str, Any], ...] = (
    {"name": "maintenance mode", "esxcli": "system maintenanceMode set --enable true"},
    {
        "name": "host name",
        "esxcli": "system hostname set --fqdn={{ host.name }}.lab.example",
        "check": "esxcli system hostname get | grep -q 'Name: {{ host.name }}.lab.example'",
        "verify": "esxcli system hostname get | grep -q 'Name: {{ host.name }}.lab.example'",
    },
    {"name": "NTP", "esxcli": "system ntp set --enabled=yes --server=192.168.77.1"},
    {
        "name": "no shell warning",
        "esxcli": "system settings advanced set -o /UserVars/SuppressShellWarning -i 1",
    },
    {"name": "banner", "content": "{{ host.name }} was brought to life by midwife\n", "to": "/etc/motd"},
    {
        "name": "root's secret",
        "content": "{{ secret('agent-token') }}\n",
        "to": "/etc/agent.token",
        "mode": "0600",
    },
    {"name": "leave maintenance", "esxcli": "system maintenanceMode set --enable false"},
)
"""What a lab pushes: the order and the commands are those that people use (and one secret)."""

# The event that tells of each state, in the log and in the timeline.
_SIGNS = {
    "loading": "loading",
    "booted": "booted",
    "called-back": "callback",
    "customizing": "customizing",
    "ready": "ready",
    "local": "local",
    "failed": "failed|stuck",
}


@dataclass(frozen=True, slots=True)
class Ports:
    """Where midwife listens; 0 for a port of the kernel's choice is not possible, as hosts are told them."""

    tftp: int = 69
    http: int = 8080
    callback: int = 3500
    bind: str = "*"


def write_site(
    root: Path,
    guest: Guest,
    *,
    address: str,
    ports: Ports | None = None,
    proxydhcp: Mapping[str, Any] | None = None,
    hosts: Mapping[str, Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]] = STEPS,
    options: str = "",
    netboot: bool = True,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """A site that boots the guest on these hosts and customizes it. options: further kernel words."""
    at = ports or Ports()
    main = {
        "server": {"address": address},
        "tftp": {"listen": f"{at.bind}:{at.tftp}"},
        "http": {"listen": f"{at.bind}:{at.http}"},
        "callback": {"listen": f"{at.bind}:{at.callback}"},
        "proxydhcp": dict(proxydhcp or {"enabled": "false"}),
        "secrets": {"agent-token": "env:LAB_AGENT_TOKEN"},
        "images": {
            "esxi-lookalike": {
                "kernel": str(guest.kernel),
                "initrd": [str(path) for path in guest.initrds],
                "options": f"{guest.options} {options}".strip(),
                "netboot": str(netboot).lower(),
            }
        },
        **(more or {}),
    }
    (root / "hosts").mkdir(parents=True)
    (root / "host-configurations").mkdir()
    (root / "bundles").mkdir()
    (root / "midwife.yaml").write_text(yaml.safe_dump(main))
    (root / "rules.yaml").write_text(
        yaml.safe_dump(
            {"rules": [{"name": "lab", "patterns": "all", "items": {"configuration": "lab"}}]},
            sort_keys=False,
        )
    )
    (root / "host-configurations" / "lab.yaml").write_text(yaml.safe_dump({"steps": list(steps)}))
    for name, host in hosts.items():
        (root / "hosts" / f"{name}.yaml").write_text(
            yaml.safe_dump({"image": "esxi-lookalike", **host}, sort_keys=False)
        )
    return root


@dataclass(slots=True)
class Service:
    """A running ``midwife serve`` in a lab."""

    lab: Lab | UserNet
    site: Path
    environ: Mapping[str, str] = field(default_factory=lambda: {"LAB_AGENT_TOKEN": SECRET})
    child: Child | None = None

    @property
    def log(self) -> Child:
        """Its log. Raises RuntimeError before the first start."""
        if self.child is None:
            raise RuntimeError("the service was never started")
        return self.child

    def start(self, deadline: float = 40.0) -> Child:
        """Returns when it says that it serves."""
        self.child = self.lab.spawn("midwife", [*MIDWIFE, "serve", str(self.site)], env=self.environ)
        self.child.wait_for("midwife serves", deadline)
        return self.child

    def cli(self, *words: str, timeout: float = 30.0) -> str:
        """Output of a midwife command on this site; the exit code is not looked at."""
        done = self.lab.run(*MIDWIFE, *words, "--site", str(self.site), timeout=timeout)
        return done.stdout + done.stderr

    def status(self, host: str) -> dict[str, Any]:
        """``midwife status HOST -o json``, {} before there is anything to see."""
        done = self.lab.run(*MIDWIFE, "status", host, "-o", "json", "--site", str(self.site))
        found: list[dict[str, Any]] = json.loads(done.stdout) if done.stdout.startswith("[") else []
        return found[0] if found else {}

    def events(self, host: str) -> list[dict[str, Any]]:
        """The host's timeline."""
        out = self.lab.run(
            *MIDWIFE, "events", host, "-o", "json", "-n", "1000", "--site", str(self.site)
        ).stdout
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says, for what no command shows."""
        with closing(sqlite3.connect(f"file:{self.site / 'data/midwife.db'}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchall()

    def process(self, part: str) -> int:
        """The process id of a part of the service (``control``, ``tftp``, ``http``)."""
        parent = self.log.pid
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                status = (directory / "status").read_text()
                words = (directory / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has just ended
                continue
            if f"\nPPid:\t{parent}\n" in status and f"midwife.serve.{part}".encode() in words:
                return int(directory.name)
        raise AssertionError(f"midwife serve (process {parent}) has no {part} process")

    def wait_event(
        self,
        host: str,
        kind: str,
        deadline: float,
        *,
        machine: Machine | None = None,
        since: int = 0,
        text: str = "",
    ) -> str:
        """The log's line about such an event of the host; kind and text are regular expressions.

        Ends at once, with the whole story, if the host fails before it comes. since: a mark of the log.
        """
        of_host = rf" event=(?:KIND) .*\bhost={re.escape(host)} "
        wanted = of_host.replace("KIND", kind) + (f".*{text}" if text else "")
        failed = of_host.replace("KIND", "failed|stuck")
        try:
            line = self.log.wait_for(f"(?:{wanted})|(?:{failed})", deadline, since=since).string
        except WaitError:
            what = f"waited {deadline:g} s for the event {kind} {text}".rstrip() + f" of {host}"
            raise AssertionError(self.story(host, what, machine)) from None
        if not re.search(wanted, line):
            what = f"waited for the event {kind} {text}".rstrip() + f" of {host}, but it failed"
            raise AssertionError(self.story(host, what, machine))
        return line

    def wait_state(
        self, host: str, wanted: str, machine: Machine, deadline: float, *, since: int = 0
    ) -> dict[str, Any]:
        """The host's status once it is in the state; fails at once if it fails, with its whole story."""
        self.wait_event(host, _SIGNS[wanted], deadline, machine=machine, since=since)
        now = self.status(host)
        if now.get("state") != wanted:
            what = f"the log says that {host} is {wanted}, but its status is {now.get('state')}"
            raise AssertionError(self.story(host, what, machine))
        return now

    def story(self, host: str, what: str, machine: Machine | None = None) -> str:
        """Everything one wants to see when a boot went wrong."""
        parts = [what, self.cli("status"), self.cli("events", host)]
        if machine is not None:
            parts.append("console:\n" + "\n".join(machine.console.text().splitlines()[-40:]))
        if self.child is not None:
            parts.append("service:\n" + "\n".join(self.child.text().splitlines()[-40:]))
        parts.append(f"load average {os.getloadavg()[0]:.1f}, {time.strftime('%H:%M:%S')}")
        return "\n\n".join(parts)
