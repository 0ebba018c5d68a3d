"""A file of the site in somebody's editor: on a copy, which is kept where the result cannot be used."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import fail, printable

if TYPE_CHECKING:
    from midwife.images.profile.file import ProfileFile

__all__ = ["edited"]


def edited(file: "ProfileFile", take: "Callable[[bytes], ProfileFile]") -> "ProfileFile":
    """The file as ``take`` stores it. Ends the command if nothing was changed, or with what is wrong in it.

    ``take`` raises ImageError for a text that cannot be used; on a terminal one may then edit again.
    """
    from midwife.images.errors import ImageError

    fd, name = tempfile.mkstemp(prefix=f"{Path(file.file).stem}-", suffix=".yaml")
    copy = Path(name)
    with os.fdopen(fd, "wb") as out:
        out.write(file.raw)
    while True:
        try:
            click.edit(filename=name)
            raw = copy.read_bytes()
        except (click.ClickException, OSError) as error:
            kept = _kept(copy, file.raw)
            advice = f"set EDITOR to one that works, or change {file.file} yourself"
            fail(f"the editor failed: {error}; {kept or advice}")
        if raw == file.raw:
            copy.unlink()
            fail(f"{file.file} was not changed in the editor; nothing was done")
        try:
            after = take(raw)
        except ImageError as error:
            for line in str(error).split("\n"):
                click.echo(printable(line), err=True)
            if sys.stdin.isatty() and click.confirm("Edit it again?", default=True, err=True):
                continue
            fail(f"{file.file} is not changed; your text is kept in {copy}")
        copy.unlink()
        return after


def _kept(copy: Path, raw: bytes) -> str:
    """Where somebody's work is, "" if there is none: it was saved, and then the editor was killed."""
    try:
        if copy.read_bytes() != raw:
            return f"your text is kept in {copy}"
        copy.unlink()
    except OSError:
        pass
    return ""
