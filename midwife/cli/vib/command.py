"""``midwife vib``: list, show, verify, extract and build VIBs, from depots or as files.

PowerCLI's Get-EsxSoftwarePackage, and what it has no command for.
"""

import fnmatch
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from midwife.cli.common import echo_json, output_option, printable, site_option
from midwife.cli.completion import depot_names
from midwife.cli.image.report import UNCHECKED
from midwife.cli.progress import progress_shown
from midwife.cli.tables import count, print_table
from midwife.cli.vib.build import build
from midwife.cli.vib.extract import extract
from midwife.cli.vib.source import VibSource, vib_arguments
from midwife.cli.workshop import told

if TYPE_CHECKING:
    from midwife.images.objects.package import SoftwarePackage
    from midwife.images.profile.catalogue import Found
    from midwife.images.vib.content import Vib
    from midwife.images.vib.signing.trust import Anchors

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])
_LARGE = 16 << 20
"""Bytes of payloads from which on verifying shows a bar."""
_HEADINGS = ("Name", "Version", "Vendor", "AcceptanceLevel", "ReleaseDate", "Depot", "Summary")

_anchor = click.option(
    "--anchor",
    "anchors",
    multiple=True,
    metavar="FILE[=LEVEL]",
    help="A certificate that is believed for this level; without one, it fills a gap in a chain.",
)


def _depot(what: str) -> Callable[[F], F]:
    return click.option("--depot", metavar="NAME", shell_complete=depot_names, help=what)


@click.group("vib")
def command() -> None:
    """List, show, verify, extract and build VIBs.

    VIB is an id, a NAME (the newest), NAME=VERSION, or the path of a .vib file; a file needs no site.
    """


@command.command("list")
@click.argument("pattern", required=False, default="")
@_depot("VIBs of this depot only.")
@click.option("--vendor", help="VIBs of this vendor only.")
@click.option("--newest", is_flag=True, help="Of each name the newest version only.")
@output_option
@site_option
def list_(pattern: str, depot: str | None, vendor: str | None, newest: bool, output: str, site: Path) -> None:
    """VIBs of all depots, by name, the newest first.

    PATTERN is a part of id or summary, or a pattern for the name or id, as in 'nvme*'.
    """
    source = VibSource(site)
    with told():
        found = _search(source, pattern, depot, vendor, newest=newest)
        if output == "json":
            depots = source.workshop.depots
            echo_json(
                [one.package.documented([depots[one.depot].source]) | {"Depot": one.depot} for one in found]
            )
            return
    if found:
        print_table(_HEADINGS, (_row(one) for one in found))
    elif pattern or vendor or depot:
        click.echo("no such VIBs")
    else:
        click.echo("no VIBs yet; `midwife depot add SOURCE` brings some")


def _search(
    source: VibSource, pattern: str, depot: str | None, vendor: str | None, *, newest: bool
) -> "list[Found]":
    wild = any(c in pattern for c in "*?[")
    found = list(source.workshop.catalogue.search("" if wild else pattern, vendor=vendor, depot=depot))
    if wild:
        found = [
            one
            for one in found
            if any(fnmatch.fnmatchcase(text, pattern) for text in (one.package.name, one.package.id))
        ]
    return list({one.package.name: one for one in reversed(found)}.values())[::-1] if newest else found


def _row(one: "Found") -> tuple[str, ...]:
    package = one.package
    date = "-" if package.release_date is None else package.release_date.date().isoformat()
    level = package.acceptance_level.documented
    return package.name, package.version, package.vendor, level, date, one.depot, package.summary


@command.command()
@click.argument("vib", metavar="VIB|FILE.vib", shell_complete=vib_arguments)
@_depot("The VIB of this depot.")
@click.option("--files", is_flag=True, help="Show the list of files too.")
@_anchor
@output_option
@site_option
def show(vib: str, depot: str | None, files: bool, anchors: tuple[str, ...], output: str, site: Path) -> None:
    """What a VIB says of itself, what is in it, and what its signature proves."""
    source = VibSource(site)
    with told(), source.look(vib, depot) as (package, opened):
        found = package.documented([opened.source])
        found |= _more(package) | {"Depot": opened.depot or None}
        found["Signature"] = _signature(opened.vib, source.anchors(anchors))
        for warning in opened.warnings:
            click.echo(f"warning: {printable(warning)}", err=True)
    if output == "json":
        echo_json(found)
        return
    hidden = {"Payloads", "Files", "Signature"}
    for key, value in found.items():
        if key in hidden or value in (None, "", [], ()):
            continue
        click.echo(f"{key + ':':18} {_shown(value)}")
    signature = found["Signature"]
    click.echo(f"{'Signature:':18} {printable(signature['State'])}")
    click.echo(f"{'Files:':18} {len(package.files)}")
    if files:
        for path in package.files:
            click.echo(f"  {printable(path)}")
    if package.payloads:
        click.echo()
        rows = [
            (payload.name, payload.type, str(payload.size), str(payload.boot_order or "-"), sums)
            for payload in package.payloads
            for sums in [", ".join(" ".join(filter(None, (s.kind, s.process))) for s in payload.checksums)]
        ]
        print_table(("Payload", "Type", "Size", "BootOrder", "Checksums"), rows)


def _more(package: "SoftwarePackage") -> dict[str, Any]:
    """What PowerCLI does not show."""
    return {
        "Type": package.type,
        "Overlay": package.overlay,
        "CimomRestart": package.cimom_restart,
        "HardwarePlatforms": [
            " ".join(filter(None, (one.vendor, one.model))) for one in package.hardware_platforms
        ],
        "SoftwarePlatforms": [
            " ".join(filter(None, (one.product, one.version))) for one in package.software_platforms
        ],
        "CompatibleWith": [str(one) for one in package.compatible_with],
        "Files": list(package.files),
        "Payloads": [
            {
                "Name": payload.name,
                "Type": payload.type,
                "Size": payload.size,
                "BootOrder": payload.boot_order,
                "VfatName": payload.vfat_name,
                "Checksums": [
                    {"Kind": one.kind, "Process": one.process, "Value": one.value}
                    for one in payload.checksums
                ],
            }
            for payload in package.payloads
        ],
    }


def _signature(vib: "Vib | None", anchors: "Anchors") -> dict[str, Any]:
    from midwife.images.vib.signing.signature import prove

    if vib is None:
        return {"Proven": None, "State": "not downloaded yet; `midwife vib verify` downloads it"}
    proof = prove(vib, anchors)
    if proof.reason:
        state = f"not proved: {proof.reason}"
    elif proof.signer:
        state = f"proved, signed by {proof.signer}"
    else:
        state = proof.note
    return {"Proven": proof.proven, "Signer": proof.signer, "Note": proof.note, "State": state}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        texts = [f"{one['Title']}: {one['URL']}" if isinstance(one, dict) else str(one) for one in value]
        return ("\n" + " " * 19).join(printable(text) for text in texts)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


@command.command()
@click.argument("vibs", metavar="[VIB|FILE.vib]…", nargs=-1, shell_complete=vib_arguments)
@_depot("The VIBs of this depot; all of them if none is named.")
@click.option(
    "--every-checksum", is_flag=True, help="Unpack payloads and compare every checksum, not one each."
)
@click.option(
    "--no-signature-check", "unchecked", is_flag=True, help="Believe the acceptance levels that VIBs claim."
)
@_anchor
@output_option
@site_option
def verify(
    vibs: tuple[str, ...],
    depot: str | None,
    every_checksum: bool,
    unchecked: bool,
    anchors: tuple[str, ...],
    output: str,
    site: Path,
) -> None:
    """Everything that is wrong with VIBs: signature, payloads, file list, places of files.

    Exit code: 0 good, 1 something is wrong.
    """
    if not vibs and depot is None:
        raise click.UsageError("name a VIB or a .vib file, or a depot with --depot")
    source = VibSource(site)
    absent = 0
    with told():
        believed = source.anchors(anchors)
        if not vibs and depot is not None:
            vibs, absent = source.of_depot(depot)
    if unchecked:
        click.echo(click.style(f"WARNING: {UNCHECKED}", fg="red", bold=True), err=True)
    reports = []
    for text in vibs:
        report = _verified(
            source, text, depot, every=every_checksum, signature=not unchecked, anchors=believed,
            quiet=output == "json",
        )  # fmt: skip
        reports.append(report)
        if output == "text":
            _tell(report)
    if absent:
        click.echo(f"{count(absent, 'VIB')} of {depot} not downloaded yet, and not looked at", err=True)
    if output == "json":
        echo_json(reports)
    bad = sum(bool(report["Problems"]) for report in reports)
    if output == "text" and len(reports) > 1:
        click.echo(f"{count(len(reports), 'VIB')}: {len(reports) - bad} good, {bad} bad")
    if bad:
        click.get_current_context().exit(1)


def _verified(
    source: VibSource,
    text: str,
    depot: str | None,
    *,
    every: bool,
    signature: bool,
    anchors: "Anchors",
    quiet: bool,
) -> dict[str, Any]:
    """What ``verify`` says of one VIB; a file that is none has one problem."""
    from midwife.images.errors import ImageError
    from midwife.images.vib.verify import verify_vib

    try:
        with source.open(text, depot) as opened:
            vib = opened.known
            large = sum(payload.size for payload in vib.package.payloads) > _LARGE
            with progress_shown(vib.package.name, quiet=quiet or not large) as progress:
                problems = list(
                    verify_vib(vib, every=every, signature=signature, anchors=anchors, progress=progress)
                )
            warnings = [one for one in opened.warnings if not any(one.endswith(told) for told in problems)]
            return {
                "Guid": vib.package.id,
                "Depot": opened.depot or None,
                "Source": opened.source,
                "AcceptanceLevel": vib.package.acceptance_level.documented,
                "Signature": _signature(vib, anchors)["State"] if signature else "signature not checked",
                "Warnings": warnings,
                "Problems": problems,
            }
    except ImageError as error:
        return {"Guid": None, "Depot": depot, "Source": text, "Warnings": [], "Problems": [str(error)]}


def _tell(report: dict[str, Any]) -> None:
    for warning in report["Warnings"]:
        click.echo(f"warning: {printable(warning)}", err=True)
    name, problems = report["Guid"] or report["Source"], report["Problems"]
    if report["Guid"] and not report["Depot"]:
        name = f"{report['Source']} ({name})"
    if not problems:
        click.echo(printable(f"{name}: good ({report['Signature']})"))
        return
    click.echo(printable(f"{name}: {count(len(problems), 'problem')}"))
    for problem in problems:
        click.echo(f"  {printable(problem)}")


command.add_command(extract)
command.add_command(build)
