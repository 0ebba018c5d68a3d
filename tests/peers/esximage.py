"""A miniature ESXi to compose, export and boot: the real names, relations and payload types, random contents.

    pki = Pki.make()
    content = look_alike_profile("8.0.3", pki=pki)               # 5.5.0, 6.7.0, 7.0.3, 8.0.3 or 9.0.1
    content.vib("i40en").id                                      # VMW_bootbank_i40en_1.11.3.5-1vmw.803.0.…
    content.profile_name, content.profiles, content.extras       # extras: OEM drivers, a community VIB, conflicts
    write_bundle(tmp_path / "depot.zip", content)                # also nested="stored", layout="v-front", …
    write_installer_iso(tmp_path / "esxi.iso", content)
    (tmp_path / "x.vib").write_bytes(make_vib("x", "1.0-1", payloads=[make_payload("x", {"opt/x": b"hello"})]))
    big_depot(tmp_path / "big.zip")                              # 2,000 VIBs, 20 valid profiles of 200

Shares no code with midwife. The same arguments give the same bytes (signatures aside).
"""

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.peers.depotmaker import (
    Content,
    imgdb_tgz,
    installer_files,
    media_names,
    module_order,
    write_bundle,
    write_installer_iso,
)
from tests.peers.pki import Pki
from tests.peers.vibmaker import MadePayload, MadeVib, ar, make_payload, make_vib, tar, vib, vmtar

__all__ = [
    "Content",
    "MadePayload",
    "MadeVib",
    "Pki",
    "ar",
    "big_depot",
    "imgdb_tgz",
    "installer_files",
    "look_alike_profile",
    "make_payload",
    "make_vib",
    "media_names",
    "module_order",
    "tar",
    "vib",
    "vmtar",
    "write_bundle",
    "write_installer_iso",
]

_BUILDS = {
    "5.5.0": "5.5.0-0.0.1331820",
    "6.7.0": "6.7.0-0.0.8169922",
    "7.0.3": "7.0.3-0.0.18644231",
    "8.0.3": "8.0.3-0.0.24022510",
    "9.0.1": "9.0.1-0.24957456",
}
_DRIVERS = [
    "atlantic",
    "bnxtnet",
    "i40en",
    "icen",
    "igbn",
    "ixgben",
    "lpfc",
    "lsi-mr3",
    "ne1000",
    "nvme-pcie",
]
_DRIVERS += ["nvmxnet3", "pvscsi", "rshim", "rshim-net", "vmkusb"]
_PLUGINS = ["lsu-lsi-lsi-mr3", "lsu-lsi-msgpt3", "lsu-lsi-mega-sas", "lsu-lsi-mpt2sas"]
_RAW = [
    ("mboot.c32", "boot_com32_bios"),
    ("menu.c32", "boot_com32_bios"),
    ("safeboot.c32", "boot_com32_bios"),
    ("isolinux.bin", "boot_iso_bios"),
    ("BOOTx64.EFI", "boot_loader_efi"),
    ("efiboot.img", "eltorito_image_efi"),
    ("precheck.py", "upgrade"),
    ("metadata.xml", "upgrade"),
    ("esximage.zip", "upgrade"),
    ("osl.txt", "text"),
    ("readme", "text"),
]
_ELF = b"\x7fELF\x02\x01\x01"


class _Maker:
    def __init__(
        self, kind: str, pki: Pki | None, payload_size: int, seed: int, replace: Mapping[str, bytes]
    ) -> None:
        self.kind, self.pki, self.size, self.replace = kind, pki, payload_size, replace
        self.build = _BUILDS[kind]
        self.major = int(kind.split(".")[0])
        self.number = self.build.rpartition(".")[2]
        self.dice = random.Random(f"{kind} {seed}")
        self.packed = "vzstd" if self.major >= 9 else "vgz"
        self.driver_release = f"1vmw.{kind.replace('.', '')}.0.0.{self.number}"

    def vib(self, name: str, version: str, payloads: Iterable[MadePayload], **how: object) -> MadeVib:
        depends = [str(one) for one in how.pop("depends", ())]  # type: ignore[attr-defined]
        payloads = list(payloads)
        if any(one.type == "vzstd" for one in payloads) and name != "esx-base":
            depends.append("zstd-compression = 1.0")
        how.setdefault("platforms", [f"{self.major}.*"] if self.major >= 7 else [])
        how |= {"sizes": self.build >= "8.0.3", "old_sums": self.major < 6, "depends": depends}
        how.setdefault("ar_mode", b"0o0" if self.major >= 8 else b"644")
        return vib(name, version, payloads=payloads, sign=self.pki, **how)  # type: ignore[arg-type]

    def noise(self, size: int) -> bytes:
        return self.dice.randbytes(size)

    def archive(
        self, name: str, files: Iterable[str], type_: str = "", boot_order: int | None = None
    ) -> MadePayload:
        """A payload that brings these files; the first is as big as asked for."""
        tree = {path: self.noise(300) for path in files}
        tree[next(iter(tree))] = _ELF + self.noise(self.size)
        level = 6 if self.size < 100_000 else 0
        return make_payload(name[:15], tree, type_ or self.packed, boot_order=boot_order, level=level)

    def boot(self, name: str, order: int, vfat: str | None = None, data: bytes | None = None) -> MadePayload:
        content = self.replace.get(name, _ELF + self.noise(self.size) if data is None else data)
        trailer = b"" if vfat else b"a signature follows the stream" + self.noise(50)
        level = 6 if len(content) < 100_000 else 0
        return make_payload(
            name, content, "boot", boot_order=order, vfat_name=vfat, trailer=trailer, level=level
        )

    def raw(self, name: str, type_: str) -> MadePayload:
        content = self.replace.get(name)
        return make_payload(name, self.noise(1500) if content is None else content, type_)

    def driver(self, name: str, version: str = "1.11.3.5", **how: object) -> MadeVib:
        release = str(how.pop("release", self.driver_release))
        files = [f"usr/lib/vmware/vmkmod/{name}", f"etc/vmware/default.map.d/{name}.map"]
        how = {"vendor": "VMW", "tags": ["driver", "module"], "depends": ["vmkapi_2_6_0_0"], **how}
        return self.vib(name, f"{version}-{release}", [self.archive(name, files)], **how)


def look_alike_profile(
    kind: str = "8.0.3",
    *,
    pki: Pki | None = None,
    payload_size: int = 700,
    seed: int = 1,
    replace: Mapping[str, bytes] | None = None,
) -> Content:
    """About 30 VIBs. ``payload_size``: bytes of the biggest file in each of about 40 payloads, random.

    ``replace``: payload name to contents, for loaders and boot modules that shall really work (``mboot.c32``,
    ``isolinux.bin``, ``efiboot.img``, ``BOOTx64.EFI``, ``b``). Without ``pki`` nothing is signed, and the levels
    are claimed all the same.
    """
    make = _Maker(kind, pki, payload_size, seed, replace or {})
    vibs = [_esx_base(make), *_system(make), *(make.driver(name) for name in _DRIVERS)]
    vibs += [
        make.vib(
            f"{name}-plugin",
            f"1.0.0-{make.driver_release}",
            [make.archive(name, [f"usr/lib/vmware/storage/{name}.so"])],
            depends=["esx-base >= 5.5.0"],
        )
        for name in _PLUGINS
    ]
    vibs += _for_dpus(make) if make.major >= 8 else []
    standard = f"ESXi-{make.build.replace('-0.0.', '-')}-standard"
    ids = tuple(sorted(one.id for one in vibs))
    no_tools = tuple(one for one in ids if "tools-light" not in one)
    profiles = {standard: ids, standard.replace("standard", "no-tools"): no_tools}
    return Content(kind, make.build, profiles, tuple(vibs), tuple(_extras(make)))


def _esx_base(make: _Maker) -> MadeVib:
    payloads = [
        make.boot("b", 10),
        make.boot("jumpstrt", 47, "jumpstrt.gz", b""),
        make.boot("useropts", 48, "useropts.gz", b""),
        make.boot("features", 49, "features.gz", b""),
        make.boot("k", 50),
        make.boot("procfs", 101),
    ]
    trees = {"s": ["bin/busybox", "lib64/libz.so"], "sb": ["usr/lib/boot/sb"], "vim": ["bin/hostd"]}
    if make.major >= 8:
        trees["tpm"] = ["usr/lib/vmware/tpm"]
    trees["vmx"] = ["bin/vmx"]
    payloads += [make.archive(name, trees[name], boot_order=100) for name in sorted(trees)]
    payloads += [make.archive("btldr", ["usr/lib/bootloader/mboot"], "tgz")]
    raw = list(_RAW)
    if make.major >= 7:
        raw += [("crypto64.efi", "boot_loader_efi"), ("safeboot.efi", "boot_loader_efi")]
    payloads += [make.raw(name, type_) for name, type_ in raw]
    version = make.build.split("-")[0]
    provides = [f"esx-version = {version}", "vmkapi_2_6_0_0", "vmkapi_incompat_2_6_0_0", "esx-abi = 1.1"]
    provides += ["zstd-compression = 1.0"] if make.major >= 9 else []
    return make.vib(
        "esx-base",
        make.build,
        payloads,
        provides=provides,
        depends=["esx-update >= 5.0", "vsan << 99.0"],
        stateless_ready=True,
        maintenance_mode='<maintenance-mode on-install="true" on-remove="true"/>',
        urls=[("qq group", "http://example.com/")],
    )


def _system(make: _Maker) -> list[MadeVib]:
    version = make.build.split("-")[0]
    microcode = [make.boot(f"uc_{maker}", 100) for maker in ("intel", "amd", "hygon")]
    weasel = make.archive("weaselin", ["usr/lib/vmware/weasel/main.py"], "tgz")
    tools = make.archive("tools", ["packages/vmtools/linux.iso"], "tgz")
    overlay = make.archive("gc", ["lib64/libz.so", "usr/share/gc"])
    return [
        make.vib("cpu-microcode", make.build, microcode),
        make.vib(
            "esx-update",
            make.build,
            [make.archive("esxupdt", ["usr/sbin/esxupdate"])],
            provides=["esximage"],
            depends=[f"esx-version >= {version}", f"esx-version << {version}.1"],
        ),
        make.vib(
            "esx-ui", f"2.14.0-{make.number}", [make.archive("esx_ui", ["usr/lib/vmware/hostd/docroot/ui/a"])]
        ),
        make.vib("esx-xserver", make.build, [make.archive("xorg", ["usr/bin/Xorg"])], overlay=True),
        make.vib("gc", make.build, [overlay], overlay=True, depends=["esx-base"]),
        make.vib("loadesx", make.build, [make.archive("loadesx", ["bin/loadESXEnable"])]),
        make.vib(
            "vsan", make.build, [make.archive("vsan", ["usr/lib/vmware/vsan/vsan"])], depends=["esx-base"]
        ),
        make.vib(
            "tools-light",
            f"12.4.0.23259341-{make.number}",
            [tools],
            type="locker",
            depends=["esx-version >= 5.0.0"],
            release_date="2024-05-01T00:00:00",
        ),
        make.vib("weaselin", make.build, [weasel]),
    ]


def _for_dpus(make: _Maker) -> list[MadeVib]:
    """A second ESXi, for ARM, in the same profile: other VIBs with the same files, boot orders and 8.3 names."""
    base = [make.boot("b", 10), make.boot("jumpstrt", 47, "jumpstrt.gz", b""), make.boot("k", 50)]
    base += [make.archive("s", ["bin/busybox", "lib64/libz.so"], boot_order=100)]
    base += [make.raw("mbootaa64.efi", "boot_loader_efi"), make.raw("crypto64.efi", "boot_loader_efi")]
    how = {"product": "esxio", "depends": ["esxio-base"]}
    return [
        make.vib("esxio-base", make.build, base, **(how | {"depends": [], "provides": ["vmkapi_2_6_0_0"]})),
        make.driver("nvmxnet3-esxio", **how),
        make.vib("gc-esxio", make.build, [make.archive("gc-esxio", ["usr/share/gc"])], overlay=True, **how),
    ]


def _extras(make: _Maker) -> list[MadeVib]:
    oem = f"1OEM.{make.kind.replace('.', '')}.0.0.{make.number}"
    acme = {"vendor": "ACME", "acceptance": "partner", "release": oem}
    plain = [
        make.driver("i40en", "2.5.11.0", **(acme | {"vendor": "INT"})),
        make.driver("acme-net", "3.1.0", **acme, replaces=["bnxtnet"]),
        make.driver("acme-antidote", "1.0.0", **acme, conflicts=["acme-net >= 3.0"]),
        make.driver("acme-lib", "1.0.0", **acme, provides=["libacme = 1.0"]),
        make.driver("acme-lib", "1.4.0", **acme, provides=["libacme = 1.4"]),
        make.driver("acme-tools", "1.2.0", **acme, depends=["acme-agent >= 1.0", "libacme >= 1.2"]),
        make.driver("acme-agent", "1.1.0", **acme, depends=["libacme"]),
        make.driver("acme-orphan", "1.0.0", **acme, depends=["not-in-any-depot >= 7"]),
        make.driver("acme-blade", "1.0.0", **acme, hwplatforms=["ACME Corp"]),
        make.driver("vmkusb-nic-fling", "2.1", acceptance="accepted"),
    ]
    agent = make_payload(
        "labagent", {"opt/lab/agent.sh": b"#!/bin/sh\n", "etc/init.d/lab": b"#!/bin/sh\n"}, "tgz"
    )
    newer = f"{make.build[:-1]}{int(make.build[-1]) + 1 if make.build[-1] < '9' else '99'}"
    plain += [
        make.vib("lab-agent", "1.0.0-1", [agent], vendor="Lab", acceptance="community", live=True),
        make.vib("loadesx", newer, [make.archive("loadesx", ["bin/loadESXEnable"])]),
    ]
    return plain


def big_depot(path: Path, vibs: int = 2000, profiles: int = 20, names: int = 200, files: int = 40) -> Content:
    """An unsigned bundle of ``vibs`` VIBs: ``names`` of them in ever newer versions; valid profiles of ``names``.

    Each VIB has a tiny payload, ``files`` paths, three or four dependencies, a few provides and tags.
    """
    rounds = vibs // names
    by_round: list[list[MadeVib]] = []
    for number in range(rounds):
        build = f"8.0.{number}-0.{number * 5}.{24_000_000 + number}"
        by_round.append([_big_base(build)])
        by_round[-1] += [_big_driver(index, number, build, files) for index in range(1, names)]
    made = {}
    for number in range(profiles):
        newest = number * rounds // profiles
        # The base is the newest; of the others, some stayed on the round before, as in real patch releases.
        chosen = [
            by_round[max(0, newest - (index % 3 == number % 3 and index > 0))][index].id
            for index in range(names)
        ]
        made[f"ESXi-8.0.{newest}-{24_000_000 + number}-{'no-tools' if number % 2 else 'standard'}"] = tuple(
            chosen
        )
    everything = tuple(one for group in by_round for one in group)
    content = Content("8.0.3", f"8.0.{rounds - 1}", made, everything)
    write_bundle(path, content)
    return content


def _big_base(build: str) -> MadeVib:
    payloads = [
        make_payload("b", _ELF, "boot", boot_order=10),
        make_payload("k", _ELF, "boot", boot_order=50),
    ]
    payloads.append(make_payload("s", {"bin/busybox": _ELF}, boot_order=100))
    provides = [f"esx-version = {build.split('-')[0]}", "esx-abi = 1.1"]
    provides += [f"vmkapi_2_{number}_0_0" for number in range(12)]
    listed = ["bin/busybox", *(f"usr/lib/vmware/base/file{number:05}" for number in range(2000))]
    return vib(
        "esx-base", build, payloads=payloads, provides=provides, files=listed, depends=["big-driver-001"]
    )


def _big_driver(index: int, number: int, build: str, files: int) -> MadeVib:
    name = f"big-driver-{index:03}"
    listed = [f"usr/lib/vmware/{name}/lib{file:03}.so" for file in range(files)]
    depends = [f"vmkapi_2_{index % 12}_0_0", "esx-base >= 8.0.0", "esx-abi = 1.1"]
    if index > 10:
        depends.append(f"libbig{index // 2} >= 1.0")
    return vib(
        name,
        f"1.{number}.{index}-1vmw.80{number}.0.0.{24_000_000 + number}",
        vendor="VMW" if index % 4 else "VMware",
        payloads=[make_payload(f"big{index:03}", {listed[0]: build.encode()})],
        files=listed,
        depends=depends,
        provides=[f"libbig{index} = 1.{number}", f"com.example.big.{index}"],
        conflicts=[f"big-enemy-{index}"] if index % 7 == 0 else [],
        tags=["driver", "module", f"PCIID 8086{index:04x}", f"PCIID 10ec{index:04x}"],
        platforms=["8.*"],
    )
