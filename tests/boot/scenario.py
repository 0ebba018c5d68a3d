"""What the boot tests have in common: a scene (network, service, machine) and the proof that a boot went well.

The proof looks from outside only: the commands' output, the database file, the console, and an SSH login of
its own to the guest.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from .dhcp import Boot
from .guest import Guest
from .lab import Lab
from .service import MIDWIFE, SECRET, STEPS, Ports, Service, write_site
from .usernet import UserNet, free_port
from .vm import Firmware, Machine

__all__ = ["BOOT_SECONDS", "HOST", "Scene", "in_lab", "in_usernet", "snippet"]

BOOT_SECONDS = 180.0
"""A boot may take so long; 20 on an idle machine."""
HOST = "esx-01"
_MAC = "52:54:00:77:00:01"  # of a lab's first machine


@dataclass(frozen=True, slots=True)
class Scene:
    """A service that serves one machine."""

    lab: Lab | UserNet
    service: Service
    machine: Machine
    guest: Guest
    steps: Sequence[Mapping[str, Any]]

    def boot(self) -> None:
        """Switch on, and wait until midwife calls it ready."""
        self.machine.start()
        self.wait_ready()

    def wait_ready(self) -> dict[str, Any]:
        """Its status then."""
        return self.service.wait_state(HOST, "ready", self.machine, BOOT_SECONDS)

    def wait_event(self, kind: str, *, since: int = 0, text: str = "") -> str:
        """The log's line about this event."""
        return self.service.wait_event(HOST, kind, BOOT_SECONDS, machine=self.machine, since=since, text=text)

    def story(self, what: str) -> str:
        """For the message of a failed assertion."""
        return self.service.story(HOST, what, self.machine)

    def kinds(self) -> list[str]:
        """The kinds of the timeline's events, in order."""
        return [event["kind"] for event in self.service.events(HOST)]

    def ssh(self, command: str) -> str:
        """What the command prints on the guest; its host key must be the one it was built with."""
        self.machine.wait_for("GUEST-SSHD Server listening", BOOT_SECONDS)
        transport = paramiko.Transport(self.lab.connect(*self.lab.ssh_endpoint(self.machine), timeout=20))
        try:
            transport.connect(username="root", password=self.guest.password)
            key = transport.get_remote_server_key()
            assert f"{key.get_name()} {key.get_base64()}" in self.guest.host_keys
            channel = transport.open_session()
            channel.exec_command(command)
            return channel.makefile().read().decode()
        finally:
            transport.close()

    def prove_ready(self, *, proto: str, proxied: bool, attempts: int = 1) -> None:
        """Everything that a boot which ended ready must have left behind.

        proto: what the image came over. proxied: whether midwife's proxyDHCP answered. attempts: how many there
        were, of which the last one ended ready.
        """
        status = self.service.status(HOST)
        assert status["state"] == "ready", self.story("not ready")
        assert status["files"] == len(self.guest.files) + 1, "kernel, initrds and the boot module are counted"
        assert (status["files_done"], status["bytes_done"]) == (status["files"], status["bytes"])
        assert status["bytes"] > sum(path.stat().st_size for path in self.guest.files)
        self._prove_timeline(status["attempt"], proto=proto, proxied=proxied)
        begun = [attempt for (attempt,) in self.service.rows("SELECT id FROM attempts ORDER BY started")]
        assert (len(begun), begun[-1]) == (attempts, status["attempt"]), self.story("other attempts")
        self.prove_customized()
        self.prove_silent()
        if proto == "tftp":
            self._prove_tftp_options()

    def prove_loader(self, name: str, proto: str) -> None:
        """The boot loader came from midwife, the timeline tells so, and TFTP's options were negotiated."""
        loaders = [event["text"] for event in self.service.events(HOST) if event["kind"] == "loader"]
        told = [
            text for text in loaders if text.startswith(f"{name} fetched by") and f"over {proto}," in text
        ]
        assert told, self.story(f"no word of {name} over {proto}")
        if proto == "tftp":
            # What EDK2 asks for: blocks of 1468 bytes, four in flight.
            self.service.log.wait_for(rf'event=served .*name={name} options="blksize=1468 windowsize=4"', 1)

    def _prove_timeline(self, attempt: str, *, proto: str, proxied: bool) -> None:
        everything = self.service.events(HOST)
        assert ("dhcp" in {event["kind"] for event in everything}) is proxied, self.story(
            "who answered DHCP?"
        )
        events = [event for event in everything if event["attempt"] == attempt]
        steps = ["step-done"] * len(self.steps)
        story = [
            "boot",
            "config",
            "loading",
            "booted",
            "callback",
            "customizing",
            "connected",
            *steps,
            "ready",
        ]
        told = [event["kind"] for event in events if event["kind"] in story]
        # A loader may fetch its configuration twice; everything else happens once, in this order.
        once = [kind for i, kind in enumerate(told) if kind != "config" or told[i - 1] != "config"]
        assert once == story, self.story("another order of events than that of a boot")
        (loading,) = (event for event in events if event["kind"] == "loading")
        assert f"over {proto} " in loading["text"], self.story(f"the image did not come over {proto}")
        # Authenticated: nothing but a good token makes this event, and only then are the keys pinned.
        (callback,) = (event for event in events if event["kind"] == "callback")
        assert "over tcp: VMware ESXi 8.0.3" in callback["text"]
        assert not [event for event in events if event["kind"].startswith("callback-")]
        ((pinned,),) = self.service.rows("SELECT pinned FROM attempts WHERE id = ?", attempt)
        assert sorted(json.loads(pinned)) == sorted(key.replace(" ", ":", 1) for key in self.guest.host_keys)

    def prove_customized(self) -> None:
        """Seen by a login of our own, not by midwife's word."""
        assert self.ssh("hostname").strip() == HOST
        assert f"Name: {HOST}.lab.example\n" in self.ssh("esxcli system hostname get")
        assert self.ssh("cat /etc/agent.token; stat -c %a /etc/agent.token") == f"{SECRET}\n600\n"
        assert "Disabled" in self.ssh("esxcli system maintenanceMode get")

    def prove_silent(self) -> None:
        """The site's secret and the boot's token are in nothing that midwife wrote or says."""
        line = self.machine.console.wait_for(r"kernel line: (.*)", 1)[1]
        token = next(word for word in line.split() if word.startswith("PBTOKEN=")).partition("=")[2]
        told = {
            "status": self.service.cli("status") + self.service.cli("status", "-o", "json"),
            "events": self.service.cli("events", "-o", "json"),
            "explain": self.service.cli("explain", self.machine.mac),
            "log": self.service.log.text(),
        }
        data = self.service.site / "data"
        told |= {str(path): path.read_bytes().decode("latin-1") for path in data.rglob("*") if path.is_file()}
        assert str(data / "midwife.db") in told
        for secret in (SECRET, token):
            assert [name for name, text in told.items() if secret in text] == []

    def _prove_tftp_options(self) -> None:
        """Every file of the image came with a block size that was asked for (RFC 2348) and its size (2349)."""
        attempt = self.service.status(HOST)["attempt"]
        served = [
            line
            for line in self.service.log.text().splitlines()
            if " event=served " in line and "proto=tftp" in line and f"attempt={attempt} " in line
        ]
        assert len(served) >= len(self.guest.files), self.story("not every file came over TFTP")
        for line in served:
            assert "blksize=1" in line, f"served in blocks of 512 bytes: {line}"
            assert "tsize=" in line, f"served without its size: {line}"


def in_lab(
    make_lab: Callable[..., Lab],
    guest: Guest,
    root: Path,
    firmware: Firmware,
    *,
    proxydhcp: Mapping[str, Any] | None = None,
    dhcp: Callable[[Path], Boot] | None = None,
    host: Mapping[str, Any] | None = None,
    steps: Sequence[Mapping[str, Any]] = STEPS,
    options: str = "",
    netboot: bool = True,
    reboots: bool = True,
) -> Scene:
    """A network of its own. dhcp: makes the DHCP server's boot options out of the site; none: it knows none.

    reboots=False: a reset switches the machine off, and the test switches it on again.
    """
    site = write_site(
        root / "site",
        guest,
        address=Lab.service,
        proxydhcp=proxydhcp,
        hosts={HOST: {"macs": _MAC, **(host or {})}},
        steps=steps,
        options=options,
        netboot=netboot,
    )
    lab = make_lab(boot=dhcp(site) if dhcp else None)
    machine = lab.machine(HOST, firmware, reboots=reboots)
    assert machine.mac == _MAC
    service = Service(lab, site)
    service.start()
    return Scene(lab, service, machine, guest, steps)


def in_usernet(
    usernet: UserNet,
    guest: Guest,
    root: Path,
    firmware: Firmware,
    *,
    steps: Sequence[Mapping[str, Any]] = STEPS,
) -> Scene:
    """QEMU's user network: every host has the address 127.0.0.1, so that only the token tells them apart."""
    ports = Ports(*(free_port(), free_port(), free_port()), bind="127.0.0.1")
    url = f"http://{UserNet.service}:{ports.http}/boot.ipxe"
    machine = usernet.machine(HOST, firmware, url)
    address, ssh_port = usernet.ssh_endpoint(machine)
    site = write_site(
        root / "site",
        guest,
        address=UserNet.service,
        ports=ports,
        hosts={HOST: {"macs": machine.mac, "address": address, "ssh": {"port": str(ssh_port)}}},
        steps=steps,
    )
    service = Service(usernet, site)
    service.start()
    return Scene(usernet, service, machine, guest, steps)


def snippet(*options: str, change: tuple[str, str] = ("", "")) -> Callable[[Path], Boot]:
    """The DHCP server's owner pastes in what ``midwife dhcp-snippet dnsmasq`` prints for the site.

    change: a text of it that he replaces, and by what.
    """

    def pasted(site: Path) -> Boot:
        command = [*MIDWIFE, "dhcp-snippet", "dnsmasq", *options, "--site", str(site)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stdout
        old, new = change
        assert old in done.stdout
        return Boot(server=Lab.service, extra=tuple(done.stdout.replace(old, new).splitlines()))

    return pasted
