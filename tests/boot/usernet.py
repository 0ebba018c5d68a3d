"""The lab for machines without root: QEMU's user network instead of namespaces.

The guest sees midwife at 10.0.2.2, which is this machine's loopback; midwife sees every guest as 127.0.0.1
and reaches its sshd through a forwarded port. There is no proxyDHCP and no PXE or HTTP boot of the UEFI
firmware's own: QEMU's DHCP server names the boot file, and it must be a URL with a port, as the well-known
ports are not ours.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .process import Child
from .state import LabBase
from .vm import Firmware, Identity, Machine, User

__all__ = ["UserNet", "free_port"]


class UserNet(LabBase):
    """No network of its own, but the same methods as ``Lab`` where they make sense."""

    service = "10.0.2.2"
    """The address at which hosts reach midwife; it listens on 127.0.0.1."""

    def __init__(self, logs: Path | None = None) -> None:
        super().__init__(logs)
        self._ssh: dict[str, int] = {}

    @staticmethod
    def available() -> tuple[bool, str]:
        """Whether this machine can have such a lab and, if not, the reason, for a person."""
        if shutil.which("qemu-system-x86_64") is None:
            return False, "no command qemu-system-x86_64: install the package qemu-system-x86"
        return True, ""

    def machine(
        self,
        name: str,
        firmware: Firmware,
        bootfile: str,
        *,
        identity: Identity | None = None,
        memory: int = 0,
        reboots: bool = True,
    ) -> Machine:
        """A machine, switched off. bootfile: a URL at 10.0.2.2, such as http://10.0.2.2:8080/boot.ipxe or
        tftp://10.0.2.2:6969/pxelinux.0 (iPXE honours the port, and pxelinux goes on using it).

        Raises ValueError for firmware that cannot boot here.
        """
        if firmware not in (Firmware.BIOS, Firmware.EFI_IPXE):
            raise ValueError(f"{firmware} cannot boot from a user network; bios and efi-ipxe can")
        machine = Machine(
            name=name,
            firmware=firmware,
            nic=self._card(name, bootfile),
            workdir=self.workdir,
            identity=identity or Identity(),
            lab=self.name,
            memory=memory,
            reboots=reboots,
        )
        return self.keep(machine)

    def direct(
        self,
        name: str,
        kernel: Path,
        initrds: Sequence[Path],
        append: str,
        *,
        identity: Identity | None = None,
    ) -> Machine:
        """A machine that starts this kernel without booting from the network: for tests of what comes after."""
        machine = Machine(
            name=name,
            firmware=Firmware.NONE,
            nic=self._card(name, ""),
            workdir=self.workdir,
            identity=identity or Identity(),
            lab=self.name,
            kernel=kernel,
            initrds=initrds,
            append=append,
        )
        return self.keep(machine)

    def _card(self, name: str, bootfile: str) -> User:
        self._ssh[name] = free_port()
        return User(bootfile=bootfile, forwards=((self._ssh[name], 22),))

    def spawn(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Child:
        """Starts a command that ends with the lab."""
        log = self.workdir / f"{name.replace(' ', '-')}.log"
        return self.keep(Child(name, argv, log, lab=self.name, env=env, cwd=cwd))

    def run(self, *argv: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; the caller looks at the status."""
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env={**os.environ})

    def connect(self, address: str, port: int, timeout: float = 5.0) -> socket.socket:
        """A TCP connection. Raises OSError."""
        return socket.create_connection((address, port), timeout=timeout)

    def ssh_endpoint(self, machine: Machine, deadline: float = 60.0) -> tuple[str, int]:
        """Where the guest's sshd is to be reached: known before it boots, so nothing is waited for."""
        return "127.0.0.1", self._ssh[machine.name]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
