"""``midwife depot``: where VIBs and image profiles come from; PowerCLI has Add-, Get- and Remove-EsxSoftwareDepot.

What is added is kept in the data directory, each payload once. Works on a site whose hosts or rules still have
errors.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, fail, output_option, printable, site_option
from midwife.cli.completion import depot_names
from midwife.cli.progress import progress_shown
from midwife.cli.tables import count, print_table
from midwife.cli.workshop import Workshop, told
from midwife.images.disk import told_size

if TYPE_CHECKING:
    from midwife.images.depot.kept.library import AddReport
    from midwife.images.depot.kept.stored import StoredDepot

__all__ = ["command"]


@click.group("depot")
def command() -> None:
    """Add, list, show, refresh and remove depots: offline bundles, VIBs, ISOs, addresses."""


@command.command()
@click.argument("source")
@click.option(
    "--name", help="Name of the depot.  [default: made from the file name, or the host of the address]"
)
@click.option("--replace", is_flag=True, help="In place of the depot that has this name.")
@click.option("--download", is_flag=True, help="All VIBs of an online depot now, not when they are needed.")
@output_option
@site_option
def add(source: str, name: str | None, replace: bool, download: bool, output: str, site: Path) -> None:
    """Bring in an offline bundle (zip or unpacked), VIBs, an installer ISO, an imgdb.tgz, or an http(s) address.

    Every payload is compared with its checksum. Nothing is kept of a source that is damaged.
    """
    library = Workshop(site).depot_library
    with told(), progress_shown(_label(source), quiet=output == "json") as progress:
        report = library.add(source, name, progress, replace=replace, download=download)
        added = library.get(report.record.name)
    _print_report(added, report, output)


@command.command("list")
@output_option
@site_option
def list_(output: str, site: Path) -> None:
    """All depots of the library."""
    library = Workshop(site).depot_library
    with told():
        rows = [_row(library.root / name) for name in library.names()]
    if output == "json":
        echo_json(rows)
    elif not rows:
        click.echo("no depots yet; `midwife depot add SOURCE` brings one")
    else:
        print_table(
            ("NAME", "KIND", "VIBS", "PROFILES", "SIZE", "ADDED", "FROM"), [_cells(row) for row in rows]
        )


@command.command()
@click.argument("name", shell_complete=depot_names)
@output_option
@site_option
def show(name: str, output: str, site: Path) -> None:
    """What a depot has: image profiles, numbers, and what was odd about it."""
    with told():
        depot = Workshop(site).depot_library.get(name)
        found = _summary(depot)
    if output == "json":
        echo_json(found)
        return
    for key in ("name", "kind", "source", "sha256", "added"):
        if found[key]:
            click.echo(f"{key + ':':12} {printable(found[key])}")
    here = "" if found["downloaded"] == found["vibs"] else f", {found['downloaded']} of them here"
    click.echo(f"{'VIBs:':12} {found['vibs']}{here}")
    click.echo(f"{'payloads:':12} {told_size(found['size'])}")
    click.echo(f"{'bulletins:':12} {found['bulletins']}")
    click.echo(f"{'profiles:':12} {len(found['profiles'])}")
    for profile in found["profiles"]:
        vibs = count(len(profile["VibList"]), "VIB")
        click.echo(f"  {printable(profile['Name'])} ({printable(profile['Vendor'])}, {vibs})")
    for warning in found["warnings"]:
        click.echo(f"{'warning:':12} {printable(warning)}")


@command.command()
@click.argument("name", shell_complete=depot_names)
@click.option("--force", is_flag=True, help="Also if an image profile of the site takes VIBs from it.")
@site_option
def remove(name: str, force: bool, site: Path) -> None:
    """Take a depot out of the library, and every payload that no other depot has."""
    workshop = Workshop(site)
    users = [
        f"{found.value.name} ({found.place.document.file})"
        for found in workshop.files()
        if name in found.value.depots or any(vib.depot == name for vib in found.value.vibs)
    ]
    if users and not force:
        fail(
            f"image profiles take VIBs from {name}: {printable(', '.join(users))}; change them first, or "
            "remove it all the same with --force"
        )
    with told():
        freed = workshop.depot_library.remove(name)
    click.echo(f"{name} is removed; {told_size(freed)} are free again")


@command.command()
@click.argument("name", shell_complete=depot_names)
@output_option
@site_option
def refresh(name: str, output: str, site: Path) -> None:
    """Ask the server of an online depot what is new. What was downloaded and is the same stays."""
    library = Workshop(site).depot_library
    with told(), progress_shown(name, quiet=output == "json") as progress:
        report = library.refresh(name, progress)
        refreshed = library.get(name)
    _print_report(refreshed, report, output)


@command.command()
@click.argument("name", shell_complete=depot_names)
@click.argument("vibs", metavar="[VIB]...", nargs=-1)
@output_option
@site_option
def download(name: str, vibs: Sequence[str], output: str, site: Path) -> None:
    """Bring VIBs of an online depot here (by id), all by default. An interrupted download goes on."""
    library = Workshop(site).depot_library
    with told(), progress_shown(name, quiet=output == "json") as progress:
        brought = library.download(name, vibs, progress)
    if output == "json":
        echo_json({"name": name, "downloaded": list(brought)})
    else:
        click.echo(f"{name}: {count(len(brought), 'VIB')} downloaded, everything else was here")


def _print_report(depot: "StoredDepot", report: "AddReport", output: str) -> None:
    record = depot.record
    if output == "json":
        with told():
            data = _summary(depot) | {"already": report.already, "new_bytes": report.new_bytes}
        echo_json(data)
        return
    for warning in record.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    numbers = f"{count(record.vibs, 'VIB')}, {count(record.profiles, 'image profile')}"
    source = printable(record.source)
    if report.already:
        click.echo(f"{record.name} is there already, with the same content: {numbers} from {source}")
        return
    click.echo(f"{record.name}: {numbers} from {source}")
    if record.kind == "online":
        click.echo(
            f"VIBs are downloaded when they are needed, or with `midwife depot download {record.name}`"
        )
    else:
        click.echo(
            f"{told_size(record.size)} of payloads, {told_size(report.new_bytes)} of them new in the library"
        )
    if record.sha256:
        click.echo(f"sha256 of the file {record.sha256}")


def _row(directory: Path) -> dict[str, Any]:
    from midwife.images.depot.formats.records import read_manifest
    from midwife.images.errors import ImageError

    try:
        record = read_manifest(directory)
    except ImageError as error:
        return {"name": directory.name, "error": str(error)}
    return {
        "name": record.name,
        "kind": record.kind,
        "source": record.source,
        "sha256": record.sha256,
        "added": record.added,
        "vibs": record.vibs,
        "profiles": record.profiles,
        "bulletins": record.bulletins,
        "size": record.size,
        "warnings": list(record.warnings),
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return (row["name"], "broken", "-", "-", "-", "-", row["error"])
    numbers = (str(row["vibs"]), str(row["profiles"]), told_size(row["size"]))
    return (row["name"], row["kind"], *numbers, row["added"][:10], row["source"])


def _summary(depot: "StoredDepot") -> dict[str, Any]:
    """With the profiles themselves, by their documented names."""
    profiles = [profile.documented() for profile in depot.profiles]
    downloaded = sum(record.here for record in depot.records())
    return _row(depot.directory) | {"downloaded": downloaded, "profiles": profiles}


def _label(source: str) -> str:
    from midwife.images.depot.sources.urls import is_url, shown_url

    return shown_url(source) if is_url(source) else Path(source).name
