"""Tables in a pipe and on a terminal."""

import os
import pty
import subprocess
import sys

from midwife.cli.tables import aligned, count

SCRIPT = """
from midwife.cli.tables import print_table
print_table(("Name", "Vendor"), [("[red]i40en[/red]", "Intel\\x1b[2J"), ("x", "y" * 60)])
"""


def test_in_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "Name              Vendor",
        "[red]i40en[/red]  Intel [2J",
        f"x                 {'y' * 60}",
    ]


def test_on_a_terminal_long_cells_are_folded_and_nothing_is_obeyed() -> None:
    terminal, other_end = pty.openpty()
    environ = {**os.environ, "COLUMNS": "40", "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=other_end, env=environ) as running:
        os.close(other_end)
        shown = b""
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:  # how Linux says that the other end is closed
            running.wait(30)
        os.close(terminal)
    lines = shown.decode().splitlines()
    assert any("[red]i40en[/red]" in line for line in lines)
    assert sum(line.count("y") for line in lines) == 60
    assert len([line for line in lines if "yyy" in line]) > 1
    assert "\x1b[2J" not in shown.decode()


def test_small_words() -> None:
    assert aligned([("a", "b"), ("long", "")]) == ["a     b", "long"]
    assert (count(1, "VIB"), count(2, "VIB")) == ("1 VIB", "2 VIBs")
