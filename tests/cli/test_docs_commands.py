"""Every command that the documentation shows exists, with every option it is shown with."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from midwife.cli.main import cli

_ROOT = Path(__file__).parents[2]
_PAGES = sorted([*(_ROOT / "docs").rglob("*.md"), _ROOT / "README.md"])
_SPAN = re.compile(r"`(midwife [^`\n]+)`")
_BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _shown(text: str) -> Iterator[str]:
    yield from _SPAN.findall(text)
    for block in _BLOCK.findall(text):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            line = line.strip().removeprefix("$ ").removeprefix("# ").removeprefix("sudo ")
            if line.startswith("midwife ") and not line.startswith("midwife serves "):  # its own words
                yield line


def _words(shown: str) -> list[str]:
    """Up to whatever the shell would take for itself, or a person for a comment."""
    command = re.split(r"\s#|\s[|>&;(]|…|\s--\s|;", shown)[0].rstrip(",.:")
    try:
        return shlex.split(command)[1:]
    except ValueError:  # a quote that ends behind the comment
        return command.split()[1:]


def _wrong(words: list[str]) -> str:
    """What the command line does not know, "" if it knows all of it."""
    command: click.Command = cli
    context = click.Context(cli)
    words = list(words)
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-") or not re.fullmatch(r"[a-z][a-z-]*", words[0]):
            return ""  # "midwife image NAME", "midwife --version"
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            return f"no command {name!r}"
        command, context = found, click.Context(found)
    known = {opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    for word in words:
        option = re.match(r"--?[a-z][a-z-]*", word.strip("[]"))
        if option and word.strip("[]").startswith("-") and option[0] not in known:
            return f"{command.name} has no option {option[0]}"
    return ""


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_what_a_page_shows_can_be_typed(page: Path) -> None:
    found = ((shown, _wrong(_words(shown))) for shown in _shown(page.read_text()))
    assert not [f"{shown}: {reason}" for shown, reason in found if reason]


def test_this_test_sees_what_is_wrong() -> None:
    shown = list(_shown("text `midwife image fly NAME`\n```\nsudo midwife vib list --sideways x # so\n```\n"))
    assert [_wrong(_words(one)) for one in shown] == ["no command 'fly'", "list has no option --sideways"]
