"""Importing an ISO, against what one would type: sha256sum of the ISO, xorriso to unpack it, sha256sum of every
file, sync. Same work on all sides, in alternation, on a warm cache, in fresh processes; verified to be equal.
Debian's sha256sum leaves the processor's SHA instructions unused, so `openssl dgst` is measured too: that is the
fair comparison.

    python bench/iso.py [MiB] [rounds]
"""

import hashlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODULES = 120
IMPORT = """
import sys
from pathlib import Path
from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
import_iso(Path(sys.argv[1]), Library(Path(sys.argv[2]), {}, Path(".")), "x")
"""
PEER = """
set -e
$3 "$1"
xorriso -osirrox on -indev "$1" -extract / "$2/out" 2>/dev/null
find "$2/out" -type f -exec $3 {} +
find "$2/out" -type f -exec sync {} +
"""


def make_iso(folder: Path, mebibytes: int) -> Path:
    """An ISO with as many files as ESXi's, of random bytes."""
    dice = random.Random(1)
    tree = folder / "tree"
    tree.mkdir()
    names = ["b.b00", *(f"mod{number:03}.v00" for number in range(MODULES))]
    (tree / "boot.cfg").write_text(f"kernel=/b.b00\nmodules={' --- '.join(names[1:])}\nbuild=8.0.3-0.0.1\n")
    for name in names:
        (tree / name).write_bytes(dice.randbytes((mebibytes << 20) // len(names)))
    iso = folder / "bench.iso"
    subprocess.run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-o", str(iso), str(tree)], check=True, capture_output=True
    )
    shutil.rmtree(tree)
    return iso


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU (all children)."""
    os.sync()  # nobody pays for what the one before has not written yet
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def hashes(folder: Path) -> dict[str, str]:
    """Lower-case name to SHA-256."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name.lower(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Print every round, then medians and the ratios."""
    mebibytes = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    peers = {"sha256sum": "sha256sum", "openssl": "openssl dgst -sha256"}
    results: dict[str, list[tuple[float, float]]] = {side: [] for side in ("midwife", *peers)}
    with tempfile.TemporaryDirectory(prefix="bench-iso-") as scratch:
        folder = Path(scratch)
        iso = make_iso(folder, mebibytes)
        for number in range(rounds):
            outs = {side: folder / f"{side}{number}" for side in results}
            for out in outs.values():
                out.mkdir()
            commands = {"midwife": [sys.executable, "-c", IMPORT, str(iso), str(outs["midwife"])]}
            for side, hasher in peers.items():
                commands[side] = ["sh", "-c", PEER, "sh", str(iso), str(outs[side]), hasher]
            for side in list(commands) if number % 2 else list(reversed(commands)):
                results[side].append(timed(commands[side]))
            wanted = hashes(outs["midwife"] / "images/x/files")
            if any(hashes(outs[side] / "out") != wanted for side in peers):
                sys.exit("the sides did not unpack the same bytes")
            for out in outs.values():
                subprocess.run(["chmod", "-R", "u+w", str(out)], check=True)  # xorriso keeps read-only modes
                shutil.rmtree(out)
            print(f"round {number + 1}:", *(f"{s} {r[-1][0]:.2f} s" for s, r in results.items()))
    print(f"{mebibytes} MiB, {MODULES + 2} files, {rounds} rounds, {os.cpu_count()} cores")
    for side, measured in results.items():
        wall = [one[0] for one in measured]
        cpu = statistics.median(one[1] for one in measured)
        spread = f"({min(wall):.2f}..{max(wall):.2f})"
        print(f"{side:9} wall median {statistics.median(wall):.2f} s {spread}, cpu {cpu:.2f} s")
    for side in peers:
        ratio = [a[0] / b[0] for a, b in zip(results["midwife"], results[side], strict=True)]
        print(f"midwife / ({side} + xorriso): median of the rounds {statistics.median(ratio):.2f}")


if __name__ == "__main__":
    main()
