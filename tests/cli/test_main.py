"""The command line as a whole: its help costs nothing, and the reference tells the truth about it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from midwife import __version__
from midwife.cli.main import COMMANDS, cli

from .sites import midwife, open_store, process, write_site

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
HEAVY = (
    "aiohttp", "alembic", "asyncio", "cryptography", "jinja2", "paramiko", "pycdlib", "pydantic", "rich",
    "sqlalchemy", "structlog", "tftpy",
)  # fmt: skip


def loaded_by(*words: str) -> set[str]:
    """Heavy modules in a fresh process that runs this command."""
    script = (
        "import sys\nfrom midwife.cli.main import cli\n"
        f"try:\n    cli.main({list(words)!r})\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by("--help") == set()


def test_help_of_a_command_loads_next_to_nothing() -> None:
    """All of them in one process: it is about the imports at the top of their modules."""
    script = (
        "import sys\nfrom midwife.cli.main import cli, COMMANDS\nimport click\n"
        "for name in COMMANDS:\n    cli.get_command(click.Context(cli), name)\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"asyncio"}, "serve and nobody else needs an event loop"


@pytest.mark.parametrize("command", ["status", "events"])
def test_what_is_asked_often_loads_nothing_heavy(tmp_path: Path, command: str) -> None:
    site = write_site(tmp_path)
    open_store(site).close()
    assert loaded_by(command, "--site", str(site)) == set()


def test_the_list_of_commands() -> None:
    shown = midwife("--help").output
    for name, (_, text) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text[:20])}", shown, re.MULTILINE)
    assert midwife("--version").output == f"midwife, version {__version__}\n"
    unknown = midwife("statsu")
    assert unknown.exit_code == 2
    assert "No such command 'statsu'" in unknown.output


def test_python_m_midwife() -> None:
    done = process("--version")
    assert (done.returncode, done.stdout) == (0, f"midwife, version {__version__}\n")


def every_command() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                found = command.get_command(context, sub)
                assert found
                yield f"midwife {name} {sub}", found
        else:
            yield f"midwife {name}", command


def sections() -> dict[str, str]:
    parts = re.split(r"^## (midwife .+)$", REFERENCE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_reference_has_every_command_and_no_other() -> None:
    assert sections().keys() == dict(every_command()).keys()


@pytest.mark.parametrize(("name", "command"), list(every_command()))
def test_the_reference_has_every_option_and_no_other(name: str, command: click.Command) -> None:
    section = sections()[name]
    options = {
        word
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for word in (*parameter.opts, *parameter.secondary_opts)
    } - {"-h", "--help"}
    told = {
        word
        for row in re.findall(r"^\| (`-.+?) \|", section, re.MULTILINE)
        for word in re.findall("`(-.+?)`", row)
    }
    assert told == options
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice):
            assert all(str(choice) in section for choice in parameter.type.choices), parameter.name
        if isinstance(parameter, click.Argument):
            word = parameter.make_metavar(click.Context(command)).strip("[]….").partition("|")[0].strip("{")
            assert word.partition("]")[0] in section, f"{name} {word}"
