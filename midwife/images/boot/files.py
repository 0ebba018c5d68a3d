"""Which files of an image a boot needs: the names in its boot.cfg matched to stored names, and its loaders.

Source: the layout of ESXi's ISO (``efi/boot/``, modules in the root) and where mboot looks for its crypto
module. Works on names only.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from midwife.wire.bootcfg import BootCfg, Module, ascii_lower

__all__ = ["LOADERS", "BootFiles", "boot_files", "build_key"]

LOADERS: Mapping[str, tuple[str, ...]] = {
    "mboot.efi": ("mboot.efi", "efi/boot/bootx64.efi"),
    "mbootaa64.efi": ("efi/boot/bootaa64.efi",),
    "crypto64.efi": ("crypto64.efi", "efi/boot/crypto64.efi"),
    "mboot.c32": ("mboot.c32",),
}
"""ESXi's own loaders: name on the boot plane, and where an image has it. Since 7.0 U2 mboot.efi wants
crypto64.efi beside it."""


@dataclass(frozen=True, slots=True)
class BootFiles:
    """``cfg`` with every path replaced by the stored name; ``missing``: what the image lacks."""

    cfg: BootCfg
    missing: tuple[str, ...]


def boot_files(cfg: BootCfg, names: Collection[str]) -> BootFiles:
    """Match kernel and modules to stored names (lower case).

    A leading ``/`` means the root of the medium, any other name is relative to ``prefix`` or, on an ISO as it
    was shipped, to the root as well.
    """
    missing: list[str] = []

    def stored(path: str) -> str:
        name = ascii_lower(path).lstrip("/")
        below = f"{ascii_lower(cfg.prefix).strip('/')}/{name}"
        for candidate in (below, name):
            if candidate in names:
                return candidate
        missing.append(path)
        return name

    kernel = stored(cfg.kernel) if cfg.kernel else ""
    modules = [Module(stored(module.name), module.options) for module in cfg.modules]
    text = " --- ".join(map(str, modules))
    return BootFiles(cfg.replaced(kernel=kernel, modules=text, prefix=None), tuple(missing))


def build_key(build: str) -> tuple[int, ...]:
    """Orders builds: ``8.0.3-0.0.24022510`` after ``8.0.2-…``, before ``8.0.10-…``; () for none."""
    numbers = "".join(c if c in "0123456789" else " " for c in build).split()
    return tuple(int(number[:18]) for number in numbers)
