"""Builds ``mboot.c``, the stand-in for ESXi's loader that real UEFI firmware runs, into an EFI application.

The compiler makes a position-independent program without a single relocation; the header that UEFI wants (PE32+,
UEFI specification 2.10, section 2.1.1) is put in the place of its ELF header.
"""

import shutil
import struct
import subprocess
from pathlib import Path

from ..isoloaders import LoaderError

__all__ = ["mboot_efi"]

_SOURCE = Path(__file__).with_name("mboot.c")
_FLAGS = (
    *("-Os", "-ffreestanding", "-fno-builtin", "-nostdlib", "-fpie", "-static-pie", "-fvisibility=hidden"),
    *("-mno-red-zone", "-mno-sse", "-mno-mmx", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
    *("-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none,-e,efi_main"),
)
_PAGE = 0x1000
_LOAD, _RELOCATIONS = 1, (4, 9)  # ELF: PT_LOAD; SHT_RELA, SHT_REL


def mboot_efi(folder: Path) -> bytes:
    """The EFI application; ``folder`` is for what comes in between. Raises LoaderError without a compiler."""
    if shutil.which("gcc") is None:
        raise LoaderError("no command gcc: install the package gcc")
    program = folder / "mboot.elf"
    subprocess.run(["gcc", *_FLAGS, "-o", str(program), str(_SOURCE)], check=True, capture_output=True)
    return _application(program.read_bytes())


def _application(elf: bytes) -> bytes:
    (entry, segments, sections) = struct.unpack_from("<QQQ", elf, 24)
    size, segment_count, section_size, section_count = struct.unpack_from("<HHHH", elf, 54)
    for number in range(section_count):
        (kind,) = struct.unpack_from("<I", elf, sections + number * section_size + 4)
        assert kind not in _RELOCATIONS, "the loader has an absolute address in it"
    image = bytearray()
    for number in range(segment_count):
        at = segments + number * size
        (kind,) = struct.unpack_from("<I", elf, at)
        offset, address, _, in_file, in_memory = struct.unpack_from("<QQQQQ", elf, at + 8)
        if kind == _LOAD:
            image.extend(bytes(max(0, address + in_memory - len(image))))
            image[address : address + in_file] = elf[offset : offset + in_file]
    image.extend(bytes(-len(image) % _PAGE))
    image[:_PAGE] = _header(entry, len(image)).ljust(_PAGE, b"\0")
    return bytes(image)


def _header(entry: int, size: int) -> bytes:
    """One section that is code and data at once, at the same place in the file and in memory."""
    code = size - _PAGE
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x0022)
    standard = struct.pack("<HBBIIIII", 0x20B, 0, 0, code, 0, 0, entry, _PAGE)
    windows = struct.pack("<QIIHHHHHHIIIIHH", 0, _PAGE, _PAGE, 0, 0, 0, 0, 0, 0, 0, size, _PAGE, 0, 10, 0)
    windows += struct.pack("<QQQQII", 0, 0, 0, 0, 0, 16) + bytes(16 * 8)
    section = struct.pack("<8sIIIIIIHHI", b".text", code, _PAGE, code, _PAGE, 0, 0, 0, 0, 0xE0000060)
    return dos + coff + standard + windows + section
