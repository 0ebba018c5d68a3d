"""A small network of its own, with machines that boot from it: namespaces, a bridge, DHCP, and the place
where midwife runs.

    namespace <name>-net                        namespace <name>-mw
      br0 192.168.77.1/24, fd00:77::1/64  <---->  eth0 192.168.77.3/24, fd00:77::3/64
      dnsmasq (DHCP, router advertisement)        midwife, and whatever else the test runs there
      tap0, tap1, … of the machines

midwife has a namespace of its own because two servers cannot share UDP port 67, and because a DHCP server on
another machine is what it meets in the field. Two labs at once do not see each other.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .dhcp import Boot, configuration
from .netns import Namespace
from .process import Child
from .state import LabBase, LabError
from .vm import Firmware, Identity, Machine, Tap

__all__ = ["Lab"]


class Lab(LabBase):
    """The network. Everything in it is gone after ``close``; logs stay if a directory for them was given."""

    gateway = "192.168.77.1"
    """The bridge's address; the DHCP server."""
    service = "192.168.77.3"
    """The address at which hosts reach midwife."""
    service6 = "fd00:77::3"

    def __init__(
        self,
        logs: Path | None = None,
        *,
        boot: Boot | None = None,
        reservations: Mapping[str, str] | None = None,
    ) -> None:
        """boot: none for a DHCP server that knows nothing of booting. reservations: IPv4 addresses by MAC.

        Raises LabError.
        """
        super().__init__(logs)
        self._taps = 0
        try:
            self.net = Namespace.create(f"{self.name}-net")
            self.mw = Namespace.create(f"{self.name}-mw")
            self._wire()
            self.dhcp = self._dnsmasq(boot, reservations or {})
        except BaseException:
            self.close()
            raise

    @staticmethod
    def available() -> tuple[bool, str]:
        """Whether this machine can have such a lab and, if not, the reason, for a person."""
        if os.geteuid() != 0:
            return False, "network namespaces and tap devices need root"
        for command, package in (
            ("ip", "iproute2"),
            ("dnsmasq", "dnsmasq-base"),
            ("qemu-system-x86_64", "qemu-system-x86"),
        ):
            if shutil.which(command) is None:
                return False, f"no command {command}: install the package {package}"
        try:
            os.close(os.open("/dev/net/tun", os.O_RDWR))
        except OSError as problem:
            return False, f"/dev/net/tun cannot be opened: {problem.strerror}"
        # A container may let root make a namespace but not name it (a mount), nor a bridge in it.
        try:
            with LabBase() as probe:
                Namespace.create(f"{probe.name}-net").ip("link add br0 type bridge")
        except LabError as problem:
            return False, f"no network namespaces here: {problem}"
        return True, ""

    def machine(
        self,
        name: str,
        firmware: Firmware,
        *,
        identity: Identity | None = None,
        memory: int = 0,
        reboots: bool = True,
    ) -> Machine:
        """A machine on the network, switched off."""
        tap = f"tap{self._taps}"
        self._taps += 1
        self.net.ip(f"tuntap add {tap} mode tap")
        self.net.ip(f"link set {tap} master br0 up")
        machine = Machine(
            name=name,
            firmware=firmware,
            nic=Tap(tap),
            workdir=self.workdir,
            identity=identity or Identity(mac=f"52:54:00:77:00:{self._taps:02x}"),
            prefix=self.net.prefix,
            lab=self.name,
            memory=memory,
            reboots=reboots,
        )
        return self.keep(machine)

    def spawn(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Child:
        """Starts a command where midwife runs; it ends with the lab."""
        return self._spawn(self.mw, name, argv, env=env, cwd=cwd)

    def run(self, *argv: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Runs a command where midwife runs, to its end; the caller looks at the status."""
        return subprocess.run([*self.mw.prefix, *argv], capture_output=True, text=True, timeout=timeout)

    def connect(self, address: str, port: int, timeout: float = 5.0) -> socket.socket:
        """A TCP connection made from where midwife runs, for paramiko and http.client. Raises OSError."""
        return self.mw.connect(address, port, timeout)

    def ssh_endpoint(self, machine: Machine, deadline: float = 60.0) -> tuple[str, int]:
        """Where the booted guest's sshd is to be reached from midwife's namespace. Raises WaitError."""
        return machine.wait_address(deadline), 22

    def capture(self, path: Path, expression: str = "") -> Child:
        """Writes every packet on the bridge to a file, from when this returns. Needs tcpdump."""
        # Promiscuous, as unicast between a machine and midwife is invisible otherwise; unbuffered, as the
        # file is read while it is written.
        command = [
            "tcpdump",
            "--immediate-mode",
            "-U",
            "-n",
            "-i",
            "br0",
            "-w",
            str(path),
            *expression.split(),
        ]
        child = self._spawn(self.net, f"tcpdump {path.name}", command)
        child.wait_for("listening on br0", 10)
        return child

    def _wire(self) -> None:
        # Without the check for duplicates a link-local address counts at once; until it does, dnsmasq sends router
        # advertisements from another one, which nobody accepts, and iPXE waits 13 s for the next.
        self.net.set_ipv6("accept_dad", 0)
        self.mw.set_ipv6("accept_dad", 0)
        self.mw.set_ipv6("accept_ra", 0)
        # Forwarding at once and no snooping: a firmware's first DISCOVER must not be lost.
        self.net.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        self.net.ip(f"addr add {self.gateway}/24 dev br0")
        self.net.ip("addr add fd00:77::1/64 dev br0 nodad")
        self.net.ip("link set br0 up")
        self.net.ip(f"link add mw0 type veth peer name eth0 netns {self.mw.name}")
        self.net.ip("link set mw0 master br0 up")
        self.mw.ip(f"addr add {self.service}/24 dev eth0")
        self.mw.ip(f"addr add {self.service6}/64 dev eth0 nodad")
        self.mw.ip("link set eth0 up")
        self.mw.ip(f"route add default via {self.gateway}")

    def _dnsmasq(self, boot: Boot | None, reservations: Mapping[str, str]) -> Child:
        config = self.workdir / f"{self.name}-dnsmasq.conf"
        config.write_text(
            configuration(
                interface="br0",
                address=self.gateway,
                boot=boot,
                reservations=reservations,
                lease_file=str(self._home / "leases"),
            )
        )
        child = self._spawn(self.net, "dnsmasq", ["dnsmasq", f"--conf-file={config}"])
        child.wait_for(r"sockets bound", 10)
        return child

    def _spawn(
        self,
        namespace: Namespace,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        log = self.workdir / f"{name.replace(' ', '-')}.log"
        return self.keep(Child(name, [*namespace.prefix, *argv], log, lab=self.name, env=env, cwd=cwd))
