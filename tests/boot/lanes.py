"""Runs test files with virtual machines side by side, one pytest process each, and shows their output in turn.

``python -m tests.boot.lanes FILE…``: exit code 0 only if every lane passed. A machine with two cores bears two.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["main"]


def main(files: list[str]) -> int:
    """The lanes, and after them whatever other firmware tests there are."""
    lanes = [[file] for file in files]
    rest = [f"--ignore={file}" for file in files]
    code = _together(lanes)
    return code or _together([["tests", *rest]])


def _together(lanes: list[list[str]]) -> int:
    running = []
    for words in lanes:
        # The base directory is kept apart: pytest processes that start at once would clear each other's.
        base = Path(tempfile.mkdtemp(prefix="midwife-lane-")) / "tests"
        command = [sys.executable, "-m", "pytest", "-m", "firmware", "-v", "--durations=0"]
        output = tempfile.TemporaryFile("w+")
        child = subprocess.Popen(
            [*command, f"--basetemp={base}", *words], stdout=output, stderr=subprocess.STDOUT, text=True
        )
        running.append((words[0], child, output, time.monotonic()))
    code = 0
    for name, child, output, began in running:
        result = child.wait()
        print(f"== {name}: exit code {result} after {time.monotonic() - began:.0f} s", flush=True)
        output.seek(0)
        sys.stdout.write(output.read())
        sys.stdout.flush()
        code = code or result
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
