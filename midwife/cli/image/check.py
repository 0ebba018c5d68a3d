"""``midwife image validate|compare``: is an image profile whole, and how do two of them differ?

PowerCLI validates at every change and tells the first mistake; here all of them come at once. The other side of a
comparison may be a live host (Compare-EsxImageProfile has nothing like it).
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import echo_json, fail, output_option, printable, site_option
from midwife.cli.completion import profile_names
from midwife.cli.image.report import show_findings, verdict, warn_unchecked
from midwife.cli.tables import print_table
from midwife.cli.workshop import Workshop, told

if TYPE_CHECKING:
    from midwife.images.objects.diff import ImageProfileDiff
    from midwife.images.profile.resolved import Finding, ResolvedProfile

__all__ = ["compare", "validate"]

_DIFFERENT = 3
_MOST = 16 << 20  # bytes of a host's list; a real one has 20 KB


@click.command()
@click.argument("profile", required=False, shell_complete=profile_names)
@click.option("--all", "every", is_flag=True, help="Every image profile of the site.")
@output_option
@site_option
def validate(profile: str | None, every: bool, output: str, site: Path) -> None:
    """Everything that is wrong with PROFILE, with what would mend it.

    PROFILE is one of the site, NAME of one in a depot, or DEPOT:NAME. Exit code: 0 valid, 1 not.
    """
    from midwife.images.errors import ImageError

    if (profile is None) != every:
        raise click.UsageError("name an image profile, or say --all")
    workshop = Workshop(site)
    reports = []
    failed = False
    names = [profile] if profile else workshop.file_names()
    for name in names:
        try:
            opened = workshop.open(name)
            findings = workshop.findings(opened)
        except ImageError as error:
            if not every:
                fail("\n".join(map(printable, str(error).split("\n"))))
            failed = True
            reports.append({"Name": name, "Source": name, "Valid": False, "Error": str(error)})
            if output == "text":
                click.echo(f"{printable(name)}: {printable(str(error))}")
            continue
        failed = failed or bool(findings)
        resolved = opened.resolved
        reports.append(_report(resolved, opened.source, findings))
        if not resolved.profile.signature_check:
            warn_unchecked(resolved.profile.name)
        if output == "text":
            click.echo(f"{printable(resolved.profile.name)}: {verdict(resolved, findings)}")
            show_findings(findings)
    if output == "json":
        echo_json(reports if every else reports[0])
    elif not names:
        click.echo("no image profiles yet; `midwife image clone` or `midwife image new` makes one")
    if failed:
        click.get_current_context().exit(1)


@click.command()
@click.argument("ref", shell_complete=profile_names)
@click.argument("comp", required=False, shell_complete=profile_names)
@click.option("--host", metavar="HOST", help="Compare with what this host of the site has now, over SSH.")
@click.option(
    "--host-key",
    "keys",
    multiple=True,
    metavar="SHA256:…",
    help="With --host: its SSH host key, as ssh-keygen -l prints it on its console.  "
    "[default: the keys of its last authenticated callback]",
)
@click.option(
    "--host-output",
    "listing",
    metavar="FILE",
    help="Compare with what `esxcli software vib list` printed on a host; - for standard input.",
)
@output_option
@site_option
def compare(
    ref: str,
    comp: str | None,
    host: str | None,
    keys: tuple[str, ...],
    listing: str | None,
    output: str,
    site: Path,
) -> None:
    """How COMP differs from REF (Compare-EsxImageProfile): NAME of a profile, or DEPOT:NAME.

    Exit code: 0 equal, 3 different, 1 it could not be told.
    """
    from midwife.images.profile.compare import compare as difference
    from midwife.images.profile.compare import without_dpu

    if sum(side is not None for side in (comp, host, listing)) != 1:
        raise click.UsageError("give one thing to compare with: COMP, --host or --host-output")
    workshop = Workshop(site)
    with told():
        reference = workshop.open(ref).resolved
        if comp is not None:
            other = workshop.open(comp).resolved
        else:
            reference = without_dpu(reference)
            other = _live(site, host, keys) if host is not None else _listed(str(listing))
        diff = difference(reference, other)
    if host is not None or listing is not None:
        equal = diff.packages_equal  # the level of a host is one thing, that of its image another
    else:
        equal = diff.equal and not diff.different_content
    if output == "json":
        echo_json({"Ref": reference.profile.name, "Comp": other.profile.name, **diff.documented()})
    else:
        _table(reference, other, diff, equal=equal, levels=comp is not None)
    if not equal:
        click.get_current_context().exit(_DIFFERENT)


def _report(resolved: "ResolvedProfile", source: str, findings: "tuple[Finding, ...]") -> dict[str, object]:
    return {
        "Name": resolved.profile.name,
        "Vendor": resolved.profile.vendor,
        "Source": source,
        "SignatureCheck": resolved.profile.signature_check,
        "Valid": not findings,
        "Findings": [finding.documented() for finding in findings],
    }


def _live(site: Path, host: str, keys: tuple[str, ...]) -> "ResolvedProfile":
    from midwife.cli.image.host import host_image

    return host_image(site, host, keys)


def _listed(source: str) -> "ResolvedProfile":
    """From a file or standard input. Raises FormatError."""
    from midwife.images.profile.hostvibs import parse_vib_list

    try:
        if source == "-":
            raw = sys.stdin.buffer.read(_MOST + 1)
        else:
            with Path(source).open("rb") as stream:
                raw = stream.read(_MOST + 1)
    except OSError as error:
        fail(f"{printable(source)}: {error.strerror}")
    if len(raw) > _MOST:
        fail(f"{printable(source)} is larger than {_MOST >> 20} MiB: that is no list of VIBs")
    name = "standard input" if source == "-" else Path(source).name
    return parse_vib_list(raw.decode("utf-8", "replace"), name=name or "host")


def _table(
    ref: "ResolvedProfile", comp: "ResolvedProfile", diff: "ImageProfileDiff", *, equal: bool, levels: bool
) -> None:
    old = {package.name: package.version for package in ref.packages.values()}
    rows = [("OnlyInRef", *_named(ref, vib), "-") for vib in diff.only_in_ref]
    rows += [("OnlyInComp", _named(comp, vib)[0], "-", _named(comp, vib)[1]) for vib in diff.only_in_comp]
    for what, vibs in (
        ("UpgradeFromRef", diff.upgrade_from_ref),
        ("DowngradeFromRef", diff.downgrade_from_ref),
    ):
        for vib in vibs:
            name, version = _named(comp, vib)
            rows.append((what, name, old.get(name, "-"), version))
    rows += [("DifferentContent", *_named(comp, vib), _named(comp, vib)[1]) for vib in diff.different_content]
    if rows:
        print_table(("Difference", "Name", "Ref", "Comp"), rows)
    if levels and diff.ref_acceptance_level != diff.comp_acceptance_level:
        both = (diff.ref_acceptance_level.documented, diff.comp_acceptance_level.documented)
        click.echo(f"AcceptanceLevel: {both[0]} in the reference, {both[1]} in the comparison")
    names = f"{printable(ref.profile.name)} and {printable(comp.profile.name)}"
    click.echo(f"{names} {'are equal' if equal else 'differ'}")


def _named(resolved: "ResolvedProfile", vib: str) -> tuple[str, str]:
    """Name and version, as far as they are known."""
    from midwife.site.imageprofile import vib_name

    package = resolved.packages.get(vib)
    return (package.name, package.version) if package else vib_name(vib)
