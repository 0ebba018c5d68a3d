"""Runs test files with virtual machines side by side, one pytest process each, and shows their output in turn.

``python -m tests.boot.lanes FILE…``: exit code 0 only if every lane passed. A machine with two cores bears two.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["main"]


@dataclass(frozen=True, slots=True)
class _Lane:
    name: str
    child: subprocess.Popen[bytes]
    log: Path
    began: float

    def end(self) -> int:
        """Wait for it and show what it said."""
        code = self.child.wait()
        print(f"== {self.name}: exit code {code} after {time.monotonic() - self.began:.0f} s")
        print(self.log.read_text(errors="replace"), flush=True)
        return code


def main(files: Sequence[str]) -> int:
    """The lanes side by side, and after them whatever other firmware tests there are."""
    with tempfile.TemporaryDirectory(prefix="midwife-lanes-") as folder:
        root = Path(folder)
        lanes = [_start(root / str(number), file) for number, file in enumerate(files)]
        codes = [lane.end() for lane in lanes]
        codes.append(_start(root / "rest", "tests", *(f"--ignore={file}" for file in files)).end())
    return max(codes)


def _start(folder: Path, *words: str) -> _Lane:
    # A base directory for each: pytest processes that start at once would clear each other's.
    folder.mkdir()
    log = folder / "log"
    command = [sys.executable, "-m", "pytest", "-m", "firmware", "-v", "--durations=0"]
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*command, f"--basetemp={folder / 'tests'}", *words], stdout=output, stderr=subprocess.STDOUT
        )
    return _Lane(words[0], child, log, time.monotonic())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
