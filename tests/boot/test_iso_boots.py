"""An installer ISO of ours boots on BIOS and UEFI machines as far as its loader reading boot.cfg.

A look-alike image: its VIBs bring GRUB or ISOLINUX in the places of ESXi's loaders, and a Linux kernel in the
place of ESXi's. The ISO is written by midwife out of these VIBs; what the machine says is read from its console.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from midwife.images.depot.formats.profilexml import parse_profile
from midwife.images.export.iso import write_iso
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.container import VibFile
from midwife.images.vib.descriptor import parse_descriptor
from tests.peers.vibmaker import MadePayload, make_payload, vib

from .conftest import _unavailable
from .guest import Guest
from .isoloaders import LoaderError, efi_application, efi_image, eltorito_image, syslinux_file
from .process import Child
from .vm import MachineError, ovmf

pytestmark = [pytest.mark.firmware, pytest.mark.timeout(300)]

BUILD = "8.0.3-0.0.24022510"
PROFILE = "Lab-8.0U3-standard"
Payloads = list[MadePayload]


def iso_of(folder: Path, loaders: Payloads, guest: Guest) -> Path:
    """An ISO of a profile of two VIBs; ``loaders`` are payloads of the first."""
    everything = b"".join(path.read_bytes() for path in guest.initrds)
    base = vib(
        "esx-base",
        BUILD,
        provides=["esx-version = 8.0.3"],
        payloads=[
            MadePayload("b", "boot", guest.kernel.read_bytes(), boot_order=10),
            MadePayload("jumpstrt", "boot", everything, boot_order=47, vfat_name="jumpstrt.gz"),
            *loaders,
        ],
    )
    driver = vib(
        "i40en", "1.0-1", vendor="VMW", payloads=[make_payload("i40en", {"usr/lib/i40en": b"driver"})]
    )
    made = {one.id: one for one in (base, driver)}
    entries = "".join(f"<vib><vib-id>{one}</vib-id></vib>" for one in made)
    profile = parse_profile(
        f"<imageprofile><name>{PROFILE}</name><creator>Lab</creator><viblist>{entries}</viblist></imageprofile>".encode()
    )
    packages = {one.id: parse_descriptor(one.descriptor).package for one in made.values()}
    out = folder / "lab.iso"
    write_iso(
        out,
        ResolvedProfile(profile, packages),
        lambda vib_id: VibFile.from_stream(io.BytesIO(made[vib_id].data), vib_id),
    )
    return out


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts a machine from a CD; its console."""
    running: list[Child] = []

    def start(iso: Path, *board: str) -> Child:
        command = ["qemu-system-x86_64", "-accel", "tcg", "-m", "512", *board, "-nodefaults", "-no-reboot"]
        command += ["-display", "none", "-monitor", "none", "-serial", "stdio"]
        command += ["-drive", f"if=none,id=cd,media=cdrom,readonly=on,format=raw,file={iso}"]
        command += ["-device", "ide-cd,drive=cd,bootindex=1"]
        running.append(Child("iso", command, tmp_path / "iso.console", lab="iso"))
        return running[-1]

    yield start
    for child in running:
        child.stop()


def bios() -> tuple[str, ...]:
    return (
        "-machine",
        "pc,graphics=off",
    )  # SeaBIOS copies the screen to the serial port only without graphics


def efi(folder: Path) -> tuple[str, ...]:
    try:
        code, variables = ovmf()
    except MachineError as problem:
        _unavailable(str(problem))
        raise
    store = folder / "vars.fd"
    store.write_bytes(variables.read_bytes())
    drives = (f"unit=0,readonly=on,file={code}", f"unit=1,file={store}")
    return (
        "-machine",
        "q35",
        *(word for one in drives for word in ("-drive", f"if=pflash,format=raw,{one}")),
    )


def loaders_or_skip(make: Callable[[], Payloads]) -> Payloads:
    try:
        return make()
    except LoaderError as problem:
        _unavailable(str(problem))
        raise


def proves_boot_cfg(console: Child, root: str = "/") -> None:
    """The loader read boot.cfg, and loaded the kernel and the first module that it names."""
    console.wait_for(rf"title=Loading {PROFILE}", 120)
    console.wait_for(rf"kernel={root}b\.b00$", 20)
    console.wait_for(rf"modules={root}jumpstrt\.gz --- {root}i40en\.v00 --- {root}imgdb\.tgz", 20)


def proves_linux(console: Child) -> None:
    console.wait_for(rf"GRUB: kernel=/b\.b00 first=/jumpstrt\.gz build={BUILD}", 60)
    console.wait_for(r"Command line: .*from=/b\.b00 runweasel", 120)
    console.wait_for(r"Run /init as init process", 180)


def test_uefi(tmp_path: Path, guest: Guest, machine: Callable[..., Child]) -> None:
    """Firmware, efiboot.img by El Torito, bootx64.efi from the ISO's file system, boot.cfg, kernel and module."""
    loaders = loaders_or_skip(
        lambda: [
            MadePayload("efiboot.img", "eltorito_image_efi", efi_image(tmp_path)),
            MadePayload("BOOTx64.EFI", "boot_loader_efi", efi_application(tmp_path)),
        ]
    )
    console = machine(iso_of(tmp_path, loaders, guest), *efi(tmp_path))
    console.wait_for("GRUB: efiboot.img goes on to bootx64.efi", 120)
    proves_boot_cfg(console)
    proves_linux(console)


def test_bios(tmp_path: Path, guest: Guest, machine: Callable[..., Child]) -> None:
    """Firmware, the boot image by El Torito and its boot information table, boot.cfg, kernel and module."""
    loaders = loaders_or_skip(
        lambda: [
            MadePayload("isolinux.bin", "boot_iso_bios", eltorito_image(tmp_path)),
            MadePayload("mboot.c32", "boot_com32_bios", b"not needed: GRUB reads boot.cfg itself"),
        ]
    )
    console = machine(iso_of(tmp_path, loaders, guest), *bios())
    proves_boot_cfg(console)
    proves_linux(console)


def test_bios_with_isolinux(tmp_path: Path, guest: Guest, machine: Callable[..., Child]) -> None:
    """The real ISOLINUX takes our isolinux.cfg, shows the menu, and starts mboot.c32 with ``-c boot.cfg``.

    In mboot.c32's place is a program of SYSLINUX that takes its first word for a file, and says so.
    """
    loaders = loaders_or_skip(
        lambda: [
            MadePayload("isolinux.bin", "boot_iso_bios", syslinux_file("isolinux.bin")),
            MadePayload("mboot.c32", "boot_com32_bios", syslinux_file("cat.c32")),
            *(
                MadePayload(name, "boot_com32_bios", syslinux_file(name))
                for name in ("ldlinux.c32", "libcom32.c32", "libutil.c32", "menu.c32")
            ),
        ]
    )
    console = machine(iso_of(tmp_path, loaders, guest), *bios())
    console.wait_for("ESXi boot menu.*ESXi Installer.*Boot from local disk", 60)
    console.wait_for(r"mboot\.c32: -c: file not found", 60)
