"""Boot loaders for a look-alike installer ISO: GRUB and ISOLINUX from Debian's packages, in ESXi's places.

ESXi's own may not enter the repository. These find the ISO as ESXi's do (El Torito, boot information table, a FAT
image that chain-loads efi/boot/bootx64.efi), read the boot.cfg that midwife wrote, and load what it names.
GRUB's script language takes the lines of a boot.cfg for assignments; of a value with blanks it keeps the first
word.
"""

import shutil
import subprocess
from pathlib import Path

__all__ = ["LoaderError", "efi_application", "efi_image", "eltorito_image", "syslinux_file"]

_SYSLINUX = {
    "isolinux.bin": "/usr/lib/ISOLINUX/isolinux.bin",
    **{
        name: f"/usr/lib/syslinux/modules/bios/{name}"
        for name in ("ldlinux.c32", "libcom32.c32", "libutil.c32", "menu.c32", "cat.c32")
    },
}
_LOAD = """
serial --unit=0 --speed=115200
terminal_output serial
search --no-floppy --file --set=root /boot.cfg
echo "GRUB: boot.cfg follows"
cat /boot.cfg
source /boot.cfg
echo "GRUB: kernel=$kernel first=$modules build=$build title=$title"
linux $kernel console=ttyS0 from=$kernel $kernelopt
initrd $modules
boot
"""
_BOUNCE = """
serial --unit=0 --speed=115200
terminal_output serial
search --no-floppy --file --set=root /efi/boot/bootx64.efi
echo "GRUB: efiboot.img goes on to bootx64.efi"
chainloader /efi/boot/bootx64.efi
boot
"""
_MODULES = (
    "iso9660",
    "search",
    "search_fs_file",
    "serial",
    "terminal",
    "normal",
    "configfile",
    "cat",
    "echo",
)
_MODULES += ("linux", "test", "boot")


class LoaderError(Exception):
    """A loader cannot be made here; the message says which package is missing."""


def efi_application(folder: Path) -> bytes:
    """In place of mboot.efi."""
    return _grub(folder, "x86_64-efi", "load", _LOAD, ("part_gpt", "fat", "efi_gop"))


def efi_image(folder: Path) -> bytes:
    """In place of efiboot.img: a FAT file system with a loader that goes on to that of the ISO."""
    program = folder / "bounce.efi"
    program.write_bytes(_grub(folder, "x86_64-efi", "bounce", _BOUNCE, ("chain", "fat")))
    image = folder / "efiboot.img"
    image.unlink(missing_ok=True)
    for words in (
        ("mformat", "-i", str(image), "-C", "-T", "8192", "::"),
        ("mmd", "-i", str(image), "::/EFI", "::/EFI/BOOT"),
        ("mcopy", "-i", str(image), str(program), "::/EFI/BOOT/BOOTX64.EFI"),
    ):
        _run("mtools", *words)
    return image.read_bytes()


def eltorito_image(folder: Path) -> bytes:
    """In place of isolinux.bin; finds itself by the boot information table."""
    return _grub(folder, "i386-pc-eltorito", "bios", _LOAD, ("biosdisk",))


def syslinux_file(name: str) -> bytes:
    """ISOLINUX itself, or one of its programs."""
    path = Path(_SYSLINUX[name])
    if not path.is_file():
        raise LoaderError(f"{path} is not there: install the packages isolinux and syslinux-common")
    return path.read_bytes()


def _grub(folder: Path, platform: str, name: str, script: str, modules: tuple[str, ...]) -> bytes:
    config, image = folder / f"{name}.cfg", folder / f"{name}.img"
    config.write_text(script)
    package = "grub-efi-amd64-bin" if platform.endswith("efi") else "grub-pc-bin"
    if not Path("/usr/lib/grub", platform.removesuffix("-eltorito")).is_dir():
        raise LoaderError(f"no GRUB for {platform}: install the package {package}")
    command = ["grub-mkimage", "-O", platform, "-o", str(image), "-p", "/", "-c", str(config)]
    _run("grub-common", *command, *_MODULES, *modules)
    return image.read_bytes()


def _run(package: str, *words: str) -> None:
    if shutil.which(words[0]) is None:
        raise LoaderError(f"no command {words[0]}: install the package {package}")
    subprocess.run(words, check=True, capture_output=True)
