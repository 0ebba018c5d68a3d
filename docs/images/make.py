"""Draws terminal pictures of real commands: runs them on a terminal of their own and writes what they show as SVG.

    python docs/images/make.py OUT.svg TITLE COMMAND… [--width N] [--until TEXT]

Every COMMAND is one argument, run by the shell; its line stands above its output, as on a screen. A live display
that erases itself (`make demo`) leaves what would be left on the screen. Fonts are the reader's own: the picture
loads nothing.
"""

import argparse
import os
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

_FONT_FACE = re.compile(r"@font-face \{\{.*?\n    \}\}\n", re.S)
_CONTROL = re.compile(r"\x1b\[(?:\?25[hl]|2K|1A|0?K)|\x1b\][^\x07]*\x07")


def run(command: str, width: int) -> str:
    """What the command writes to a terminal of that width."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(width)}
        os.execvp("/bin/sh", ["sh", "-c", command])  # noqa: S606 - the caller says what to run
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    said = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the last program on the terminal has ended
            chunk = b""
        if not chunk:
            os.waitpid(pid, 0)
            os.close(terminal)
            return said.decode(errors="replace")
        said += chunk


def settled(said: str) -> str:
    """The text that stays: "cursor up, erase the line" (rich's live display) takes lines back."""
    lines = [""]
    for piece in re.split(r"(\x1b\[1A|\x1b\[2K|\r?\n|\r)", said):
        if piece == "\x1b[1A":
            lines[-2:] = lines[-2:-1] or [""]
        elif piece in ("\x1b[2K", "\r"):
            lines[-1] = "" if piece == "\x1b[2K" else lines[-1]
        elif piece in ("\n", "\r\n"):
            lines.append("")
        else:
            lines[-1] += piece
    return _CONTROL.sub("", "\n".join(lines)).rstrip("\n")


def main() -> None:
    """Run, record, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("title")
    parser.add_argument("commands", nargs="+", metavar="COMMAND")
    parser.add_argument("--width", type=int, default=120, help="columns")
    parser.add_argument("--until", metavar="TEXT", help="leave out the line with this text and all after it")
    arguments = parser.parse_args()
    console = Console(record=True, width=arguments.width, file=sys.stderr, force_terminal=True)
    for number, command in enumerate(arguments.commands):
        shown = settled(run(command, arguments.width))
        if arguments.until and arguments.until in shown:
            shown = shown[: shown.index(arguments.until)].rpartition("\n")[0].rstrip()
        console.print(Text.assemble("\n" if number else "", ("$ ", "dim"), (command, "bold")))
        console.print(Text.from_ansi(shown), soft_wrap=False)
    picture = _FONT_FACE.sub("", CONSOLE_SVG_FORMAT).replace(
        "Fira Code, monospace", "ui-monospace, monospace"
    )
    svg = console.export_svg(title=arguments.title, code_format=picture)
    arguments.out.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
