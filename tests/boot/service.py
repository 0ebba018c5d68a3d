"""midwife itself in a lab: writes a site for the guest, starts ``midwife serve``, asks the command line.

Everything goes the way a user goes: files in a site directory, commands, their output.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .guest import Guest
from .lab import Lab
from .process import Child
from .usernet import UserNet
from .vm import Machine

__all__ = ["Ports", "Service", "write_site"]

MIDWIFE = (sys.executable, "-m", "midwife")

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
    more: Mapping[str, Any] | None = None,
) -> Path:
    """A site that boots the guest on these hosts and customizes it."""
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
                "options": guest.options,
                "netboot": "true",
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
            {"rules": [{"name": "lab", "patterns": "all", "items": {"configuration": "lab"}}]}, sort_keys=False
        )
    )
    (root / "host-configurations" / "lab.yaml").write_text(yaml.safe_dump({"steps": list(steps)}))
    for name, host in hosts.items():
        (root / "hosts" / f"{name}.yaml").write_text(
            yaml.safe_dump({"image": "esxi-lookalike", **host}, sort_keys=False)
        )
    return root


SECRET = "s3cret-of-the-agent"


@dataclass(slots=True)
class Service:
    """A running ``midwife serve`` in a lab."""

    lab: Lab | UserNet
    site: Path
    environ: Mapping[str, str] = field(default_factory=lambda: {"LAB_AGENT_TOKEN": SECRET})
    child: Child | None = None

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
        out = self.lab.run(*MIDWIFE, "events", host, "-o", "json", "-n", "1000", "--site", str(self.site)).stdout
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

    def wait_state(self, host: str, wanted: str, machine: Machine, deadline: float) -> dict[str, Any]:
        """Until the host is in the state; fails at once in another resting state, with its whole story."""
        end = time.monotonic() + deadline
        now: dict[str, Any] = {}
        while time.monotonic() < end:
            now = self.status(host)
            if now.get("state") == wanted:
                return now
            if now.get("state") == "failed":
                break
            time.sleep(0.3)  # the state is in another process' database: there is nothing to wait on
        raise AssertionError(self.story(host, f"waited for {wanted}, saw {now.get('state')}", machine))

    def story(self, host: str, what: str, machine: Machine | None = None) -> str:
        """Everything one wants to see when a boot went wrong."""
        parts = [what, self.cli("status"), self.cli("events", host)]
        if machine is not None:
            parts.append("console:\n" + "\n".join(machine.console.text().splitlines()[-40:]))
        if self.child is not None:
            parts.append("service:\n" + "\n".join(self.child.text().splitlines()[-40:]))
        return "\n\n".join(parts)
