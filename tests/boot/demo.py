"""``make demo``: a machine with real firmware boots over a network of its own, calls midwife, and is customized.

What is shown comes from where a user would look: midwife's timeline and its status. The network is made of
namespaces; where those cannot be had, QEMU's user networking takes their place.
"""

import os
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from midwife.cli.observed import HostStatus, connect, data_dir, read_hosts
from midwife.cli.statustable import colour, next_event

from .guest import Guest, GuestError, build_guest
from .lab import Lab
from .process import WaitError
from .service import Ports, Service, write_site
from .usernet import UserNet, free_port
from .vm import Firmware, Identity, Machine, MachineError

__all__ = ["main"]

_HOST = "esx-01"
_MAC = "52:54:00:12:34:56"
_DEADLINE = 240.0
_CACHE = Path(__file__).parents[2] / ".cache"
_SITE = _CACHE / "demo" / "site"


class _Watch:
    """The timeline and the state of the host, as they are on the disk now."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._seen = 0
        self.status: HostStatus | None = None

    def new_lines(self) -> list[Text]:
        """Events since the last call, and a fresh status."""
        if not (data_dir(self._site) / "midwife.db").exists():
            return []
        db = connect(self._site)
        try:
            self.status = next(iter(read_hosts(db, (_HOST,))), None)
            rows = db.execute("SELECT * FROM events WHERE id > ? ORDER BY id", (self._seen,)).fetchall()
        finally:
            db.close()
        lines = []
        for row in rows:
            self._seen = row["id"]
            moment = time.strftime("%H:%M:%S", time.localtime(row["at"]))
            lines.append(Text.assemble((f"{moment}  ", "dim"), (f"{row['kind']:<13} ", "cyan"), row["text"]))
        return lines


def main() -> int:
    """0 if the machine ended ready."""
    console = Console(highlight=False)
    shutil.rmtree(_SITE.parent, ignore_errors=True)
    _SITE.mkdir(parents=True)
    console.print("[bold]midwife demo[/]: a machine boots over the network, calls home and is customized")
    try:
        with console.status(
            "building the guest, a Linux dressed as an ESXi host (once; some 35 MB of packages)"
        ):
            guest = build_guest(_CACHE / "lab")
        with ExitStack() as stack:
            return _demo(console, guest, stack)
    except (GuestError, MachineError, WaitError) as problem:
        console.print(f"[red]{problem}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def _demo(console: Console, guest: Guest, stack: ExitStack) -> int:
    possible, why_not = Lab.available()
    possible = possible and not os.environ.get("MIDWIFE_DEMO_USERNET")
    lab: Lab | UserNet
    if possible:
        lab = stack.enter_context(Lab(_SITE.parent / "logs"))
        console.print(
            "network: two namespaces and a bridge; dnsmasq at 192.168.77.1 hands out addresses and knows nothing "
            "of booting; midwife at 192.168.77.3 adds the boot information (proxyDHCP)",
            soft_wrap=True,
        )
        machine = lab.machine(_HOST, Firmware.EFI, identity=Identity(mac=_MAC))
        write_site(
            _SITE,
            guest,
            address=lab.service,
            proxydhcp={"enabled": "true"},
            hosts={_HOST: {"macs": _MAC}},
        )
    else:
        reason = why_not or "asked for by MIDWIFE_DEMO_USERNET"
        console.print(f"[yellow]no namespaces here ({reason}): falling back to QEMU's user networking[/]")
        console.print("every address looks the same there: the host is known by its token alone")
        lab = stack.enter_context(UserNet(_SITE.parent / "logs"))
        machine = _without_namespaces(lab, guest)
    service = Service(lab, _SITE)
    service.start()
    console.print(f"midwife serves {_SITE}\npower on: {machine.name}, UEFI firmware, MAC address {_MAC}\n")
    machine.start()
    code = _watch(console, machine)
    console.print(f"\n[bold]$ midwife status --site {_SITE}[/]")
    sys.stdout.write(service.cli("status"))
    console.print(f"\n[bold]$ midwife events {_HOST}[/]")
    sys.stdout.write(service.cli("events", _HOST))
    if code:
        console.print(service.story(_HOST, f"[red]{_HOST} is not ready[/]", machine), markup=False)
    return code


def _without_namespaces(lab: UserNet, guest: Guest) -> Machine:
    ports = Ports(tftp=free_port(), http=free_port(), callback=free_port(), bind="127.0.0.1")
    machine = lab.machine(
        _HOST,
        Firmware.EFI_IPXE,
        f"http://{lab.service}:{ports.http}/boot.ipxe",
        identity=Identity(mac=_MAC),
    )
    address, port = lab.ssh_endpoint(machine)
    write_site(
        _SITE,
        guest,
        address=lab.service,
        ports=ports,
        hosts={_HOST: {"macs": _MAC, "address": address, "ssh": {"port": str(port)}}},
    )
    return machine


def _watch(console: Console, machine: Machine) -> int:
    """Show what happens until the host rests, or the time is up."""
    watch = _Watch(_SITE)
    began = time.monotonic()
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while True:
            for line in watch.new_lines():
                live.console.print(line, soft_wrap=True)
            status = watch.status
            live.update(_footer(status, machine, time.monotonic() - began))
            if status and status.state in ("ready", "failed"):
                return 0 if status.state == "ready" else 1
            if time.monotonic() - began > _DEADLINE:
                live.console.print(f"[red]not ready after {_DEADLINE:.0f} s[/]")
                return 1
            time.sleep(0.1)  # the state is in another process' database: there is nothing to wait on


def _footer(status: HostStatus | None, machine: Machine, seconds: float) -> Group:
    state = status.state if status else "off"
    told = next_event(status, time.time()) if status else ""
    lines: list[Text | Table] = [
        Text.assemble(
            "\n", (f"{machine.name} ", "bold"), (state, colour(state) if status else "dim"), f"  {told}"
        )
    ]
    if status and status.bytes and state in ("loading", "booted"):
        row = Table.grid(padding=1)
        row.add_row(
            ProgressBar(total=status.bytes, completed=status.bytes_done, width=40),
            f"{status.files_done}/{status.files} files, {status.bytes_done / 1e6:.1f} MB",
        )
        lines.append(row)
    elif status and status.steps and state == "customizing":
        row = Table.grid(padding=1)
        row.add_row(
            ProgressBar(total=status.steps, completed=status.step or 0, width=40),
            f"{status.step}/{status.steps} {status.label}",
        )
        lines.append(row)
    lines.append(Text(f"{seconds:.0f} s since power on", style="dim"))
    return Group(*lines)


if __name__ == "__main__":
    sys.exit(main())
