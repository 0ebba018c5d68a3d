"""One virtual machine: QEMU with real firmware, a network card to boot from, and its serial console.

Always without hardware acceleration: on some nested hypervisors /dev/kvm opens and the kernel then never
starts, so that there is nothing to fall back from. Knows nothing of what it boots.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import UUID, uuid5

from .process import Child

__all__ = ["Firmware", "Identity", "Machine", "MachineError", "Nic", "Tap", "User", "ovmf"]

_QEMU = "qemu-system-x86_64"
_NAMESPACE = UUID("6f1d3c02-3a55-4d0a-9d55-1e0a3f4d9c11")
# Code and variable store of OVMF, by distribution. The 4M build is what Debian 12 documents as the default.
_OVMF = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
)


class MachineError(Exception):
    """A machine of this kind cannot be had here; the message says which package is missing."""


class Firmware(StrEnum):
    """What the machine starts with, and how that boots from the network."""

    BIOS = "bios"
    """SeaBIOS; the network card's ROM is iPXE."""
    EFI = "efi"
    """OVMF and its own PXE stack, which drives virtio cards only."""
    EFI_HTTP = "efi-http"
    """OVMF and its own HTTP boot; PXE is switched off, as the firmware would try it for a minute first."""
    EFI_IPXE = "efi-ipxe"
    """OVMF with the card's own ROM, which is iPXE for UEFI; the way to boot UEFI on a user network."""
    NONE = "none"
    """No boot from the network: QEMU starts the kernel that it is given."""


@dataclass(frozen=True, slots=True)
class Tap:
    """A network card on a tap device that exists already."""

    interface: str

    def backend(self) -> str:
        return f"tap,id=n0,ifname={self.interface},script=no,downscript=no"


@dataclass(frozen=True, slots=True)
class User:
    """A network card on QEMU's user network: nobody's privileges, 10.0.2.2 is this machine's loopback."""

    bootfile: str = ""
    """What QEMU's own DHCP server tells the firmware to load."""
    forwards: tuple[tuple[int, int], ...] = ()
    """Pairs of a port of 127.0.0.1 here and a TCP port of the guest."""

    def backend(self) -> str:
        words = ["user,id=n0"]
        if self.bootfile:
            words.append(f"bootfile={self.bootfile.replace(',', ',,')}")
        words += [f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in self.forwards]
        return ",".join(words)


Nic = Tap | User


@dataclass(frozen=True, slots=True)
class Identity:
    """What SMBIOS and the network card say of the machine."""

    mac: str = "52:54:00:12:34:56"
    uuid: str = ""
    """Empty: derived from the MAC address."""
    serial: str = ""
    """Empty: derived from the MAC address."""
    vendor: str = "Lab Systems"
    model: str = "Crib 1"

    def completed(self) -> "Identity":
        """With UUID and serial number filled in."""
        return Identity(
            mac=self.mac,
            uuid=self.uuid or str(uuid5(_NAMESPACE, self.mac)),
            serial=self.serial or "LAB" + self.mac.replace(":", "").upper(),
            vendor=self.vendor,
            model=self.model,
        )


def ovmf() -> tuple[Path, Path]:
    """OVMF's code and its empty variable store. Raises MachineError."""
    for code, variables in _OVMF:
        if Path(code).is_file() and Path(variables).is_file():
            return Path(code), Path(variables)
    raise MachineError("no OVMF firmware found: install the package ovmf (Fedora: edk2-ovmf)")


@dataclass(slots=True)
class Machine:
    """A machine that can be switched on and off; the console is in ``console`` while and after it runs."""

    name: str
    firmware: Firmware
    nic: Nic
    workdir: Path
    identity: Identity = field(default_factory=Identity)
    prefix: Sequence[str] = ()
    """Words before the command, such as ``ip netns exec NAME``."""
    lab: str = ""
    memory: int = 0
    """Megabytes; 0: what the firmware and the lab's guest need."""
    reboots: bool = True
    """False: a reset ends the machine."""
    kernel: Path | None = None
    """For Firmware.NONE: kernel, initrds and command line."""
    initrds: Sequence[Path] = ()
    append: str = ""
    smbios: Sequence[str] = ()
    """Further SMBIOS tables, in QEMU's words: ``type=11,value=TEXT``."""
    _child: Child | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.identity = self.identity.completed()

    @property
    def mac(self) -> str:
        return self.identity.mac

    @property
    def console(self) -> Child:
        """The serial console of the present or last run. Raises RuntimeError before the first start."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was never switched on")
        return self._child

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Switches on. Raises MachineError if QEMU or the firmware is missing."""
        if self.running:
            raise RuntimeError(f"{self.name} is switched on already")
        if shutil.which(_QEMU) is None:
            raise MachineError(f"no {_QEMU} here: install the package qemu-system-x86")
        self.workdir.mkdir(parents=True, exist_ok=True)
        self._child = Child(
            f"{self.name} ({self.firmware})",
            [*self.prefix, *self.command()],
            self.workdir / f"{self.name}.console",
            lab=self.lab,
        )

    def stop(self) -> None:
        """Switches off, as if the plug were pulled."""
        if self._child is not None:
            self._child.stop()

    def wait_for(self, pattern: str, deadline: float, *, since: int = 0) -> re.Match[str]:
        """A line of the console; see ``Child.wait_for``. Raises WaitError with its last 30 lines."""
        return self.console.wait_for(pattern, deadline, since=since)

    def wait_address(self, deadline: float, *, since: int = 0) -> str:
        """The IPv4 address that the booted guest got. Raises WaitError."""
        return self.wait_for(r"GUEST\[.*address ([0-9.]+)/", deadline, since=since)[1]

    def command(self) -> list[str]:
        """QEMU's command line; for UEFI firmware it also lays out a fresh variable store."""
        who = self.identity
        boots_itself = self.firmware is not Firmware.NONE
        card = f"virtio-net-pci,netdev=n0,mac={who.mac}" + (",bootindex=1" if boots_itself else ",romfile=")
        if self.firmware in (Firmware.EFI, Firmware.EFI_HTTP):
            card += ",romfile="  # without the card's iPXE, so that the firmware's own stack boots
        about = {"manufacturer": who.vendor, "product": who.model, "serial": who.serial}
        system = ",".join(["type=1", *(f"{key}={_smbios(value)}" for key, value in about.items())])
        return [
            _QEMU, "-name", self.name, "-accel", "tcg", "-m", str(self.memory or self._memory()),
            *self._board(),
            "-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio",
            *([] if self.reboots else ["-no-reboot"]),
            "-netdev", self.nic.backend(), "-device", card,
            "-device", "virtio-rng-pci",  # sshd waits seconds for randomness without it
            "-uuid", who.uuid, "-smbios", system,
            *(word for table in self.smbios for word in ("-smbios", table)),
            *self._direct(),
        ]  # fmt: skip

    def _memory(self) -> int:
        # SeaBIOS and the guest need 128 MB; UEFI and a kernel with an EFI stub need 192 (128 crashes it).
        return 160 if self.firmware in (Firmware.BIOS, Firmware.NONE) else 256

    def _board(self) -> list[str]:
        if self.firmware in (Firmware.BIOS, Firmware.NONE):
            return [
                "-machine",
                "pc,graphics=off",
            ]  # SeaBIOS and iPXE speak on the serial port only without graphics
        code, variables = ovmf()
        store = self.workdir / f"{self.name}.vars"
        shutil.copyfile(variables, store)
        switches = {"IPv6PXESupport": "no"}
        if self.firmware is Firmware.EFI_HTTP:
            switches = {"IPv4PXESupport": "no", "IPv6Support": "no"}
        words = [
            "-machine", "q35",
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}",
            "-drive", f"if=pflash,format=raw,unit=1,file={store}",
        ]  # fmt: skip
        for switch, value in switches.items():
            words += ["-fw_cfg", f"name=opt/org.tianocore/{switch},string={value}"]
        return words

    def _direct(self) -> list[str]:
        if self.firmware is not Firmware.NONE:
            return []
        if self.kernel is None:
            raise ValueError(f"{self.name}: Firmware.NONE needs a kernel to start")
        words = ["-kernel", str(self.kernel), "-append", self.append]
        if self.initrds:
            # QEMU takes one initrd; archives laid end to end are what the boot loaders make of several, too.
            joined = self.workdir / f"{self.name}.initrd"
            joined.write_bytes(b"".join(path.read_bytes() for path in self.initrds))
            words += ["-initrd", str(joined)]
        return words


def _smbios(text: str) -> str:
    """QEMU separates fields with commas and reads a double one as one."""
    return text.replace(",", ",,")
