"""A look-alike of ESXi's installer ISO: the real layout and names, random bytes for contents.

Made with pycdlib as VMware's own are laid out (plain ISO 9660, upper-case names with ``;1``), with Joliet or
Rock Ridge beside it, or with xorriso, which knows nothing of pycdlib.
"""

import gzip
import io
import random
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pycdlib.pycdlib import PyCdlib

__all__ = ["BUILD", "Content", "esxi_content", "look_alike", "write_iso", "write_iso_with_xorriso"]

BUILD = "8.0.3-0.0.24022510"
Content = Mapping[str, bytes]
Names = Literal["plain", "joliet", "rock-ridge"]

# The head and the tail of a real 8.0.3 list, and enough of the middle to look like it.
_NAMES = """
jumpstrt.gz useropts.gz features.gz k.b00 uc_intel.b00 uc_amd.b00 uc_hygon.b00 procfs.b00 vmx.v00 vim.v00
tpm.v00 sb.v00 s.v00 atlantic.v00 bcm_mpi3.v00 bnxtnet.v00 brcmfcoe.v00 elxiscsi.v00 elxnet.v00 i40en.v00
iavmd.v00 icen.v00 igbn.v00 irdman.v00 iser.v00 ixgben.v00 lpfc.v00 lsi_mr3.v00 lsuv2_ls.v00 mtip32xx.v00
ne1000.v00 nhpsa.v00 nmlx5_cc.v00 nvmxnet3.v00 pvscsi.v00 qlnative.v00 rshim_ne.v00 rshim.v00 tools.t00
xorg.v00 gc.v00 imgdb.tgz basemisc.tgz resvibs.tgz esxiodpt.tgz imgpayld.tgz
"""
MODULES = _NAMES.split()


@dataclass(frozen=True, slots=True)
class LookAlike:
    """An ISO and what is in it, by stored name."""

    path: Path
    content: Content


def boot_cfg(build: str = BUILD, modules: list[str] | None = None, extra: str = "") -> bytes:
    """The root's boot.cfg of an installer ISO: paths with a leading slash, CD words on the kernel line."""
    text = (
        "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=\nkernel=/b.b00\n"
        "kernelopt=runweasel cdromBoot\n"
        f"modules={' --- '.join('/' + name for name in modules or MODULES)}\n"
        f"build={build}\nupdated=0\n{extra}"
    )
    return text.encode()


def esxi_content(build: str = BUILD, seed: int = 1, module_size: int = 3000) -> dict[str, bytes]:
    """Stored name to bytes; the same for the same arguments."""
    dice = random.Random(seed)
    files = {name: gzip.compress(dice.randbytes(module_size), 1, mtime=0) for name in ["b.b00", *MODULES]}
    files |= {
        name: dice.randbytes(2000)
        for name in (
            "mboot.c32",
            "menu.c32",
            "isolinux.bin",
            "efiboot.img",
            "efi/boot/bootx64.efi",
            "efi/boot/crypto64.efi",
            "efi/boot/safeboot.efi",
            "upgrade/esximage.zip",
        )
    }
    number = build.rpartition(".")[2]
    files |= {
        "boot.cfg": boot_cfg(build),
        "efi/boot/boot.cfg": boot_cfg(build),
        "isolinux.cfg": b"DEFAULT menu.c32\n",
        "upgrade/profile.xml": f"<imageprofile><name>ESXi-8.0U3-{number}-standard</name>".encode(),
    }
    return files


def write_iso(path: Path, content: Content, names: Names = "plain") -> Path:
    """With pycdlib. Plain ISO 9660 has the names in upper case with a version."""
    iso = PyCdlib()
    iso.new(
        interchange_level=3,
        joliet=3 if names == "joliet" else None,
        rock_ridge="1.09" if names == "rock-ridge" else None,
        vol_ident="ESXI-8.0",
    )
    made: set[str] = set()
    for name in sorted(content):
        for parent in reversed(Path(name).parents[:-1]):
            if str(parent) not in made:
                made.add(str(parent))
                iso.add_directory(**_paths(str(parent), names, directory=True))
        data = content[name]
        iso.add_fp(io.BytesIO(data), len(data), **_paths(name, names, directory=False))
    iso.write(str(path))
    iso.close()
    return path


def write_iso_with_xorriso(path: Path, content: Content, tree: Path) -> Path:
    """With xorriso: Rock Ridge and Joliet, names as they are in ``tree``, which is filled first."""
    for name, data in content.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    command = ["xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-V", "ESXI", "-o", str(path), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    return path


def look_alike(folder: Path, build: str = BUILD, file_name: str = "", seed: int = 1) -> LookAlike:
    """The usual case: a plain ISO named as VMware names them."""
    version = build.split("-")[0]
    number = build.rpartition(".")[2]
    file_name = file_name or f"VMware-VMvisor-Installer-{version}-{number}.x86_64.iso"
    content = esxi_content(build, seed)
    return LookAlike(write_iso(folder / file_name, content), content)


def _paths(name: str, names: Names, *, directory: bool) -> dict[str, Any]:
    upper = "/" + name.upper()
    last = upper.rpartition("/")[2]
    if not directory:
        upper += ";1" if "." in last else ".;1"
    paths = {"iso_path": upper}
    if names == "joliet":
        paths["joliet_path"] = "/" + name
    if names == "rock-ridge":
        paths["rr_name"] = name.rpartition("/")[2]
    return paths
