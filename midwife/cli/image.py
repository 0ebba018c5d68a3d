"""``midwife image``: bring ESXi installer ISOs into the image library, list, show and remove them.

Works on a site whose hosts or rules still have errors: an image that they name must be imported first.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import fail, open_site, site_option

if TYPE_CHECKING:
    from midwife.images.iso import Progress
    from midwife.images.library import Library

__all__ = ["command"]

_output = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)


@click.group("image")
def command() -> None:
    """Import, list, show and remove images.

    Kernel and initrd pairs are described in midwife.yaml; `list` and `show` have them too.
    """


@command.command("import")
@click.argument("iso", metavar="FILE.iso", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the image.  [default: made from the file name, as in 8.0U3-24022510]")
@_output
@site_option
def import_(iso: Path, name: str | None, output: str, site: Path) -> None:
    """Unpack an ESXi installer ISO into the image library, checked and hashed."""
    from midwife.images.iso import import_iso

    library = _library(site)
    with _told(), _progress(iso.name, quiet=output == "json") as progress:
        manifest = import_iso(iso, library, name, progress)
    if output == "json":
        click.echo(json.dumps(_summary(library, manifest.name), indent=2))
        return
    what = " ".join(filter(None, [manifest.profile or manifest.title, manifest.build]))
    click.echo(f"{manifest.name}: {what}")
    click.echo(
        f"{len(manifest.files)} files, {_size(manifest.size)}; sha256 of the ISO {manifest.iso_sha256}"
    )
    click.echo(f"Hosts get it with `image: {manifest.name}` in a host file or a rule.")


@command.command("list")
@_output
@site_option
def list_(output: str, site: Path) -> None:
    """All images of the site, imported and described."""
    library = _library(site)
    rows = [_summary(library, name) for name in library.names()]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("no images yet; `midwife image import FILE.iso` brings one")
        return
    cells = [("NAME", "KIND", "BUILD", "LOADS", "MODULE", "FROM")]
    for row in rows:
        if "error" in row:
            cells.append((row["name"], "broken", "-", "-", "-", row["error"]))
        else:
            module = "yes" if row["netboot"] else "-"
            build, loads = row["build"] or "-", _size(row["load_size"])
            cells.append((row["name"], row["kind"], build, loads, module, row["source"]))
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    for *columns, last in cells:
        left = "  ".join(cell.ljust(width) for cell, width in zip(columns, widths, strict=True))
        click.echo(f"{left}  {last}")


@command.command()
@click.argument("name")
@_output
@site_option
def show(name: str, output: str, site: Path) -> None:
    """What an image is, what it loads, which boot loaders it brings."""
    library = _library(site)
    with _told():
        library.describe(name)
    found = _summary(library, name)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    for key in ("name", "kind", "title", "profile", "build", "source", "iso_sha256", "imported", "options"):
        if found.get(key):
            click.echo(f"{key + ':':12} {found[key]}")
    click.echo(f"{'netboot:':12} {'yes: the boot module is added' if found['netboot'] else 'no'}")
    if found["loaders"]:
        click.echo(f"{'loaders:':12} {', '.join(found['loaders'])}")
    click.echo(f"{'loads:':12} {len(found['loads'])} files, {_size(found['load_size'])}")
    for loaded in found["loads"]:
        click.echo(f"  {loaded['size']:>12}  {loaded['name']}")


@command.command()
@click.argument("name")
@site_option
def remove(name: str, site: Path) -> None:
    """Take an imported image out of the library."""
    from midwife.images import shelf

    library = _library(site)
    with _told():
        shelf.remove(library.images_dir, name)
    click.echo(f"{name} is removed; a running service forgets it with `midwife reload`")


@command.command()
@click.argument("name")
@click.option("--off", is_flag=True, help="Serve it without the boot module again.")
@site_option
def netboot(name: str, off: bool, site: Path) -> None:
    """Add the boot module to an imported image: callback client, start script, the service's public key.

    For images that run from memory (stateless). Secure Boot and execInstalledOnly have a word in it:
    docs/how-to/secure-boot.md.
    """
    from midwife.images import shelf

    library = _library(site)
    with _told():
        shelf.set_netboot(library.images_dir, name, not off)
    click.echo(f"{name} is served {'without' if off else 'with'} the boot module from the next boot on")


def _library(site: Path) -> "Library":
    """The site's library; errors outside midwife.yaml do not matter here."""
    from midwife.images.library import Library
    from midwife.site.draft import read_draft

    draft = read_draft(site)
    if draft.main is None:
        open_site(site)
        fail(f"{site} has no usable midwife.yaml")
    images = {name: found.value for name, found in draft.images.items()}
    return Library(draft.data, images, draft.root)


def _summary(library: "Library", name: str) -> dict[str, Any]:
    """An image as plain data, for JSON and the table."""
    from midwife.images.bootfiles import LOADERS
    from midwife.images.errors import ImageError

    try:
        image = library.describe(name)
        manifest = library.manifest(name)
    except ImageError as error:
        return {"name": name, "error": str(error)}
    found: dict[str, Any] = {
        "name": name,
        "kind": image.kind,
        "title": image.title,
        "build": image.build,
        "netboot": image.netboot,
        "options": image.options,
        "source": "midwife.yaml",
        "loaders": [loader for loader in LOADERS if loader in image.files],
        "load_size": image.load_size,
        "loads": [
            {"name": loaded, "size": image.files[loaded].size, "sha256": image.files[loaded].sha256}
            for loaded in image.loads
        ],
    }
    if manifest is not None:
        wanted = ("profile", "source", "iso_sha256", "imported")
        found |= {key: value for key, value in asdict(manifest).items() if key in wanted}
    return found


def _size(count: int) -> str:
    from midwife.images.isofs import told_size

    return told_size(count)


@contextmanager
def _told() -> Iterator[None]:
    from midwife.images.errors import ImageError

    try:
        yield
    except ImageError as error:
        fail(str(error))


@contextmanager
def _progress(name: str, *, quiet: bool) -> "Iterator[Progress | None]":
    """A bar on a terminal; elsewhere a line at the start and one every tenth, for logs."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(name), BarColumn(), DownloadColumn(True), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _Lines(name)


class _Lines:
    """Progress for logs: no more than one line every two seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = time.monotonic()
        self._done = -1

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if (now >= self._next or done == total) and done != self._done:
            self._next = now + 2
            self._done = done
            click.echo(f"{self._name}: {done * 100 // max(total, 1)} %", err=True)
