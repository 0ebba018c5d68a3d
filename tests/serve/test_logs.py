"""What is written to standard error, by a process of its own: logging is set up once per process."""

import os
import pty
import subprocess
import sys
from pathlib import Path

PRELUDE = "import logging, os, sys, structlog\nfrom midwife.serve.logs import configure\nconfigure()\n"


def said(script: str, **environ: str) -> str:
    """Standard error of the script; it must end in order."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        check=True,
        timeout=60,
    )
    return done.stderr


def test_one_event_is_one_line_for_grep() -> None:
    text = said("structlog.get_logger().bind(part='http', host='esx-01').warning('broken', name='a\\nb')")
    assert text.count("\n") == 1
    assert "level=warning event=broken part=http host=esx-01" in text


def test_a_hostile_name_cannot_steer_the_readers_terminal() -> None:
    text = said(r"structlog.get_logger().info('refused', name='\x1b]0;owned\x07\x9b2J‮')")
    assert text.rstrip("\n").isprintable()
    assert r"\x1b]0;owned\x07\x9b2J\u202e" in text


def test_the_level_comes_from_the_environment() -> None:
    script = "log = structlog.get_logger(); log.debug('fine'); log.warning('bad')"
    assert "fine" in said(script, MIDWIFE_LOG="debug")
    assert "fine" not in said(script)
    assert "fine" not in said(script, MIDWIFE_LOG="nonsense")
    assert "fine" not in said(script, MIDWIFE_LOG="handlers")


def test_what_libraries_say_comes_out_the_same_way() -> None:
    script = """
try:
    secret = "hunter" + str(2)
    raise KeyError("lost")
except KeyError:
    logging.getLogger("asyncio").exception("Task exception was never retrieved")
logging.getLogger("aiohttp.access").info("chatter")
"""
    text = said(script)
    assert text.count("\n") == 1
    assert "part=asyncio" in text
    assert "KeyError: 'lost'" in text
    assert "hunter2" not in text
    assert "chatter" not in text


def test_a_terminal_shows_no_local_variables_either() -> None:
    script = """
def deep():
    secret = "hunter" + str(2)
    raise KeyError("lost")
try:
    deep()
except KeyError:
    structlog.get_logger().exception("bug")
"""
    master, terminal = pty.openpty()
    try:
        environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        command = [sys.executable, "-c", PRELUDE + script]
        subprocess.run(command, stderr=terminal, env=environ, check=True, timeout=60)
        text = os.read(master, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(master)
    assert "KeyError" in text
    assert "hunter2" not in text


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    script = """
for _ in range(3):
    structlog.get_logger().error("lost")
logging.getLogger("x").error("lost, too")
open(sys.argv[1], "w").write("still here")
os._exit(0)
"""
    for target in ("/dev/full", None):
        witness = tmp_path / str(target).strip("/").replace("/", "-")
        reader, writer = os.pipe()
        os.close(reader)  # a terminal or a `head` that went away
        with open(target, "wb") if target else os.fdopen(writer, "wb") as sink:  # noqa: PTH123
            command = [sys.executable, "-c", PRELUDE + script, str(witness)]
            subprocess.run(command, stderr=sink, check=True, timeout=60)
        assert witness.read_text() == "still here"
