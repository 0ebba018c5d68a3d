"""Image profiles, depots and exports, against the bare work in the same run: unzip, sha256sum, openssl, xorriso,
zip, cp. All sides in alternation, in fresh processes, on a warm cache, after a sync; the results are compared.
Debian's sha256sum leaves the processor's SHA instructions unused, so `openssl dgst` is measured too.

    python bench/images.py [depot] [import] [verify] [iso] [bundle] [netboot] [--mebibytes 400] [--rounds 5]
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("depot", "import", "verify", "iso", "bundle", "netboot")

# Each of ours ends with a line of JSON on standard output; ``peak`` is the process's own high water of memory.
OURS = """
import json, sys, time
from pathlib import Path
def report(**what):
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(json.dumps({"peak": peak / 1024, **what}))
"""
GENERATE = """
from tests.peers.esximage import big_depot, look_alike_profile, write_bundle, installer_files
folder, mebibytes = Path(sys.argv[1]), int(sys.argv[2])
big_depot(folder / "big.zip")
content = look_alike_profile("8.0.3", payload_size=(mebibytes << 20) // 48)
write_bundle(folder / "image.zip", content)
(folder / "vibs").mkdir()
for one in content.standard:
    (folder / "vibs" / f"{one.id}.vib").write_bytes(one.data)
for name, data in installer_files(content).items():
    target = folder / "tree" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
"""
DEPOT = """
from midwife.images.depot.sources.bundle import OfflineBundle
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.validate import validate
with OfflineBundle(Path(sys.argv[1])) as depot:
    catalogue = Catalogue([depot])
    resolved = [catalogue.resolve(profile) for profile in depot.profiles]
    validated = []
    for one in resolved:
        start = time.process_time()
        findings = validate(one)
        validated.append(time.process_time() - start)
        if findings or len(one.packages) != 200:
            sys.exit(f"{one.profile.name}: {len(one.packages)} VIBs, {findings[:3]}")
    report(vibs=len(depot.packages), profiles=len(resolved), validate=sorted(validated)[len(validated) // 2],
           slowest=max(validated))
"""
BARE_XML = """
import sys, zipfile
from lxml import etree
with zipfile.ZipFile(sys.argv[1]) as archive:
    for name in archive.namelist():
        etree.fromstring(archive.read(name))
"""
IMPORT = """
from midwife.images.depot.kept.library import DepotLibrary
DepotLibrary(Path(sys.argv[2])).add(sys.argv[1], "bench")
report()
"""
LIST = """
from midwife.images.depot.kept.library import DepotLibrary
report(vibs=len(DepotLibrary(Path(sys.argv[1])).get("bench").packages))
"""
VERIFY = """
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.vib.verify import verify_vib
depot = DepotLibrary(Path(sys.argv[1])).get("bench")
problems = [problem for id in depot.packages for problem in verify_vib(depot.vib(id), signature=False)]
if problems:
    sys.exit(str(problems[:3]))
report(vibs=len(depot.packages))
"""
PREPARE = """
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.profile.catalogue import Catalogue
depot = DepotLibrary(Path(sys.argv[1])).get("bench")
profile = next(one for one in depot.profiles if one.name.endswith("standard"))
resolved = Catalogue([depot]).resolve(profile)
out = Path(sys.argv[2])
"""
ISO = (
    PREPARE
    + """
from midwife.images.export.iso import write_iso
write_iso(out / "x.iso", resolved, depot.vib)
report()
"""
)
BUNDLE = (
    PREPARE
    + """
from midwife.images.export.bundle import write_bundle
write_bundle(out / "x.zip", resolved, depot.vib)
report()
"""
)
NETBOOT = (
    PREPARE
    + """
from midwife.images.export.tree import write_tree
write_tree(out / "netboot", resolved, depot.vib)
report()
"""
)


@dataclass(frozen=True, slots=True)
class Run:
    """One process: seconds of wall clock and CPU (children too), and what it reported."""

    wall: float
    cpu: float
    said: dict[str, float]


def run(command: list[str]) -> Run:
    """After a sync: nobody pays for what the one before has not written yet."""
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        sys.exit(f"{command[:1]} failed with {process.returncode}: {command[-3:]}")
    last = output.splitlines()[-1] if output.strip() else b""
    said = json.loads(last) if last.startswith(b"{") else {}
    return Run(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, said)


def ours(code: str, *arguments: Path | str) -> list[str]:
    """A fresh interpreter."""
    return [sys.executable, "-c", OURS + code, *map(str, arguments)]


def shell(script: str, *arguments: Path | str) -> list[str]:
    """A peer."""
    return ["sh", "-ec", script, "sh", *map(str, arguments)]


def compare(
    title: str,
    sides: dict[str, Callable[[Path], list[str]]],
    folder: Path,
    rounds: int,
    check: Callable[[dict[str, Path]], None] = lambda outs: None,
) -> None:
    """Run all sides in each round, each into a folder of its own; print medians and ratios of the rounds."""
    results: dict[str, list[Run]] = {side: [] for side in sides}
    for number in range(rounds):
        outs = {side: folder / f"out-{index}" for index, side in enumerate(sides)}
        for out in outs.values():
            out.mkdir()
        for side in list(sides) if number % 2 else reversed(list(sides)):
            results[side].append(run(sides[side](outs[side])))
        check(outs)
        for out in outs.values():
            shutil.rmtree(out)
    print(f"\n{title}")
    first, *peers = sides
    for side, runs in results.items():
        wall = [one.wall for one in runs]
        cpu = statistics.median(one.cpu for one in runs)
        spread = f"({min(wall):.2f}..{max(wall):.2f})"
        line = f"  {side:28} wall {statistics.median(wall):6.2f} s {spread}  cpu {cpu:6.2f} s"
        keys = list(runs[0].said)
        said = ", ".join(f"{key} {statistics.median(one.said[key] for one in runs):.4g}" for key in keys)
        print(line + (f"  {said}" if said else ""))
    for side in peers:
        pairs = list(zip(results[first], results[side], strict=True))
        wall_ratio = statistics.median(a.wall / b.wall for a, b in pairs)
        cpu_ratio = statistics.median(a.cpu / b.cpu for a, b in pairs if b.cpu)
        print(f"  {first} / {side}: wall {wall_ratio:.2f}, cpu {cpu_ratio:.2f}")


def hashes(folder: Path) -> dict[str, str]:
    """Lower-case name to SHA-256 of all files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name.lower(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def modules(tree: Path) -> dict[str, str]:
    """Of the boot modules only: what both sides of an export have."""
    names = re.compile(r"(?!isolinux).+\.([bvt][0-9a-f]{2}|gz)")
    return {name: sum_ for name, sum_ in hashes(tree).items() if names.fullmatch(name)}


def bench_depot(folder: Path, rounds: int) -> None:
    """Open a bundle of 2,000 VIBs and validate its 20 profiles."""
    big = folder / "big.zip"
    bare = 'unzip -p "$1" metadata.zip > "$2/m.zip"; "$3" -c "$4" "$2/m.zip"'
    sides = {
        "midwife open + validate": lambda out: ours(DEPOT, big),
        "unzip + lxml, parse only": lambda out: shell(bare, big, out, sys.executable, BARE_XML),
    }
    compare("2,000 VIBs, 20 profiles of 200", sides, folder, rounds)
    data = folder / "biglib"
    imported = run(ours(IMPORT, big, data))
    print(f"  import into the library: {imported.wall:.2f} s, cpu {imported.cpu:.2f} s, {imported.said}")
    listed = run(ours(LIST, data))
    print(f"  list from the library: {listed.wall:.2f} s, cpu {listed.cpu:.2f} s, {listed.said}")


def bench_import(folder: Path, rounds: int) -> None:
    """A bundle into the depot library."""
    bundle = folder / "image.zip"
    unpack = 'unzip -q "$1" -d "$2/o"; find "$2/o" -type f -exec $3 {} +; find "$2/o" -type f -exec sync {} +'

    def check(outs: dict[str, Path]) -> None:
        blobs = {path.name for path in (outs["midwife import"] / "depots/blobs").rglob("*") if path.is_file()}
        if missing := set(modules(folder / "tree").values()) - blobs:
            sys.exit(f"{len(missing)} payloads are not in the library")

    sides = {
        "midwife import": lambda out: ours(IMPORT, bundle, out),
        "sha256sum": lambda out: shell('sha256sum "$1"', bundle),
        "openssl dgst": lambda out: shell('openssl dgst -sha256 "$1"', bundle),
        "unzip + sha256sum + sync": lambda out: shell(unpack, bundle, out, "sha256sum"),
        "unzip + openssl + sync": lambda out: shell(unpack, bundle, out, "openssl dgst -sha256"),
        "cp + sync": lambda out: shell('cp "$1" "$2/x"; sync "$2/x"', bundle, out),
    }
    compare(f"import of {bundle.stat().st_size >> 20} MiB", sides, folder, rounds, check)


def bench_verify(folder: Path, rounds: int) -> None:
    """Every payload's sum, of all VIBs in the library."""
    data = folder / "lib"
    sums = 'find "$1/depots/blobs" -type f -exec $2 {} +'
    sides = {
        "midwife verify": lambda out: ours(VERIFY, data),
        "sha256sum": lambda out: shell(sums, data, "sha256sum"),
        "openssl dgst": lambda out: shell(sums, data, "openssl dgst -sha256"),
    }
    compare("verification of every VIB", sides, folder, rounds)


def bench_iso(folder: Path, rounds: int) -> None:
    """An ISO out of the library, against xorriso over a tree that is unpacked already."""
    tree, data = folder / "tree", folder / "lib"
    make = (
        "xorriso -as mkisofs -quiet -V ESXI -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 "
        '-boot-info-table -eltorito-alt-boot -e efiboot.img -no-emul-boot -o "$2/x.iso" "$1" 2>/dev/null; '
        'sync "$2/x.iso"'
    )

    def check(outs: dict[str, Path]) -> None:
        unpacked = []
        for out in outs.values():
            command = [
                "xorriso",
                "-osirrox",
                "on",
                "-indev",
                str(out / "x.iso"),
                "-extract",
                "/",
                str(out / "o"),
            ]
            subprocess.run(command, check=True, capture_output=True)
            subprocess.run(["chmod", "-R", "u+w", str(out)], check=True)
            unpacked.append(modules(out / "o"))
        if unpacked[0] != unpacked[1]:
            sys.exit(f"the ISOs differ: {sorted(set(unpacked[0].items()) ^ set(unpacked[1].items()))[:6]}")

    sides = {
        "midwife iso": lambda out: ours(ISO, data, out),
        "xorriso": lambda out: shell(make, tree, out),
        "xorriso + sha256sum": lambda out: shell(make + '; sha256sum "$2/x.iso"', tree, out),
    }
    compare("export to ISO", sides, folder, rounds, check)


def bench_bundle(folder: Path, rounds: int) -> None:
    """An offline bundle out of the library, against zip and cp over the VIB files."""
    data, vibs = folder / "lib", folder / "vibs"

    def check(outs: dict[str, Path]) -> None:
        with zipfile.ZipFile(outs["midwife bundle"] / "x.zip") as archive:
            inside = [name for name in archive.namelist() if name.endswith(".vib")]
            found = {
                Path(name).name.lower(): hashlib.sha256(archive.read(name)).hexdigest() for name in inside
            }
        if found != hashes(vibs):
            sys.exit("a VIB of the bundle is not the original file")

    copy = 'cp -r "$1" "$2/v"; find "$2/v" -type f -exec $3 {} +; find "$2/v" -type f -exec sync {} +'
    sides = {
        "midwife bundle": lambda out: ours(BUNDLE, data, out),
        "zip -0": lambda out: shell('cd "$1"; zip -q -0 -r "$2/x.zip" .; sync "$2/x.zip"', vibs, out),
        "zip -0 + sha256sum": lambda out: shell(
            'cd "$1"; zip -q -0 -r "$2/x.zip" .; sha256sum "$2/x.zip"; sync "$2/x.zip"', vibs, out
        ),
        "cp + sha256sum + sync": lambda out: shell(copy, vibs, out, "sha256sum"),
        "cp + openssl + sync": lambda out: shell(copy, vibs, out, "openssl dgst -sha256"),
    }
    compare("export to an offline bundle", sides, folder, rounds, check)


def bench_netboot(folder: Path, rounds: int) -> None:
    """A netboot tree out of the library, against cp and a sum over a tree that is unpacked already."""
    tree, data = folder / "tree", folder / "lib"
    copy = 'cp -r "$1" "$2/o"; find "$2/o" -type f -exec $3 {} +; find "$2/o" -type f -exec sync {} +'

    def check(outs: dict[str, Path]) -> None:
        made, whole = modules(outs["midwife netboot"]), modules(tree)
        loaded = re.search(r"modules=(.*)", next(outs["midwife netboot"].rglob("boot.cfg")).read_text())
        count = 1 + len(loaded[1].split(" --- ")) if loaded else 0  # imgdb.tgz is one of them, and no payload
        # The ISO also has what only a DPU loads.
        if len(made) != count - 1 or any(whole.get(name) != sum_ for name, sum_ in made.items()):
            sys.exit("the netboot tree has other modules")

    sides = {
        "midwife netboot": lambda out: ours(NETBOOT, data, out),
        "cp + sha256sum + sync": lambda out: shell(copy, tree, out, "sha256sum"),
        "cp + openssl + sync": lambda out: shell(copy, tree, out, "openssl dgst -sha256"),
        "cp + sync": lambda out: shell(copy, tree, out, "true"),
    }
    compare("export to a netboot tree", sides, folder, rounds, check)


def main() -> None:
    """Generate, then each part that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--mebibytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    parts = options.parts or PARTS
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="bench-images-") as scratch:
        folder = Path(scratch)
        run(ours(GENERATE, folder, str(options.mebibytes)))
        if set(parts) & {"verify", "iso", "bundle", "netboot"}:
            run(ours(IMPORT, folder / "image.zip", folder / "lib"))
        for part in parts:
            globals()[f"bench_{part}"](folder, options.rounds)
    print(f"\n{options.mebibytes} MiB, {options.rounds} rounds, {os.cpu_count()} cores; peak in MiB")


if __name__ == "__main__":
    main()
