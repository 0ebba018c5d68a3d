"""``midwife vib extract``: the files of a VIB into a directory, or its payloads as they are stored.

The VIB may be hostile: the directory is a new one, and nothing gets out of it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from midwife.cli.common import fail, printable, site_option
from midwife.cli.completion import depot_names
from midwife.cli.tables import count
from midwife.cli.vib.source import OpenedVib, VibSource, vib_arguments
from midwife.cli.workshop import told

__all__ = ["extract"]


@click.command()
@click.argument("vib", metavar="VIB|FILE.vib", shell_complete=vib_arguments)
@click.option(
    "-d",
    "--directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to; it is made, or it is empty.",
)
@click.option("--depot", metavar="NAME", shell_complete=depot_names, help="The VIB of this depot.")
@click.option("--payload", metavar="NAME", help="This payload only.")
@click.option("--raw", is_flag=True, help="Payloads as they are stored, with descriptor and signature.")
@site_option
def extract(vib: str, directory: Path, depot: str | None, payload: str | None, raw: bool, site: Path) -> None:
    """The files of a VIB, as they appear on a host, into a directory."""
    with told(), VibSource(site).open(vib, depot) as opened:
        known = {one.name: one for one in opened.known.package.payloads}
        if payload is not None and payload not in known:
            names = ", ".join(map(printable, known)) or "none"
            fail(f"{printable(vib)} has no payload {printable(payload)}; it has: {names}")
        wanted = [payload] if payload is not None else list(known)
        with _filling(directory) as draft:
            write = _write_raw if raw else _write_files
            done, notes = write(opened, wanted, draft)
    for note in notes:
        click.echo(f"note: {printable(note)}", err=True)
    what = count(done, "file") if raw else f"{done} files and directories"
    click.echo(f"{what} of {printable(opened.known.package.id)} in {directory}")


def _write_raw(opened: OpenedVib, names: list[str], directory: Path) -> tuple[int, list[str]]:
    vib = opened.known
    files: dict[str, Iterator[bytes]] = {"descriptor.xml": iter([vib.descriptor])}
    if vib.signature:
        files["sig.pkcs7"] = iter([vib.signature])
    for name in names:
        if name in ("descriptor.xml", "sig.pkcs7"):
            fail(f"a payload is called {name}, which no honest VIB has; name another one with --payload")
        files[name] = vib.chunks(name)
    for name, chunks in files.items():
        with (directory / name).open("xb") as out:
            out.writelines(chunks)
    return len(files), []


def _write_files(opened: OpenedVib, names: list[str], directory: Path) -> tuple[int, list[str]]:
    from midwife.images.vib.archives.archive import ARCHIVES, extract
    from midwife.images.vib.archives.payload import check_payload

    vib, done, notes = opened.known, 0, []
    for payload in vib.package.payloads:
        if payload.name not in names:
            continue
        if payload.type not in ARCHIVES:
            notes.append(
                f"payload {payload.name} is of type {payload.type}: no archive; --raw writes it as it is"
            )
            continue
        check_payload(vib, payload)  # before anything is written
        made = extract(vib, payload, directory)
        done += made.files
        notes += made.skipped
    return done, notes


@contextmanager
def _filling(directory: Path) -> Iterator[Path]:
    """An empty directory that becomes ``directory`` when it is complete, and is gone otherwise."""
    try:
        if directory.exists() and any(directory.iterdir()):
            fail(f"{directory} is not empty; name a directory that is not there yet")
    except OSError as error:
        fail(f"{directory} cannot be used: {error.strerror}; name a directory that is not there yet")
    draft = directory.absolute().with_name(f".{directory.absolute().name}.{os.getpid()}.part")
    try:
        try:
            draft.mkdir(parents=True)
            yield draft
            with suppress(FileNotFoundError):
                directory.rmdir()
            draft.rename(directory)
        except OSError as error:
            fail(f"{directory}: {error.filename or 'files'} cannot be written: {error.strerror or error}")
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
