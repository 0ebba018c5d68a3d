"""How image profiles, changes and findings are told: tables for people, documented names in JSON for scripts."""

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, printable
from midwife.cli.tables import count, print_table

if TYPE_CHECKING:
    from midwife.cli.workshop import Opened
    from midwife.images.objects.package import SoftwarePackage
    from midwife.images.profile.compose import Change
    from midwife.images.profile.resolved import Finding, ResolvedProfile

__all__ = [
    "UNCHECKED",
    "profile_data",
    "show_change",
    "show_findings",
    "show_profile",
    "verdict",
    "vib_rows",
    "warn_unchecked",
]

UNCHECKED = "signatures are not checked: whoever made these VIBs may not be who they say"
VIB_HEADINGS = ("Name", "Version", "Vendor", "AcceptanceLevel", "Depot")
_WIDTH = 110
_SHOWN = 10
"""Problems that a change tells of; validate tells all of them."""


def warn_unchecked(name: str) -> None:
    """Loud, on standard error."""
    line = f"WARNING: {printable(name)}: {UNCHECKED}"
    click.echo(click.style(line, fg="red", bold=True), err=True)


def vib_rows(resolved: "ResolvedProfile") -> list[tuple[str, ...]]:
    """One row a VIB, by name; those that are in no depot last."""
    packages: Sequence[SoftwarePackage] = sorted(
        resolved.packages.values(), key=lambda package: (package.name, package.id)
    )
    rows: list[tuple[str, ...]] = [
        (
            package.name,
            package.version,
            package.vendor,
            package.acceptance_level.documented,
            resolved.depots.get(package.id) or "-",
        )
        for package in packages
    ]
    return rows + [(vib, "-", "-", "-", "in no depot") for vib in resolved.missing]


def profile_data(opened: "Opened") -> dict[str, Any]:
    """A profile for JSON: the documented names, where it is from, and its VIBs in short."""
    resolved = opened.resolved
    data = resolved.profile.documented()
    data["SignatureCheck"] = resolved.profile.signature_check
    data["Source"] = opened.source
    data["Vibs"] = [
        {
            "Guid": package.guid,
            "Name": package.name,
            "Version": package.version,
            "Vendor": package.vendor,
            "AcceptanceLevel": package.acceptance_level.documented,
            "Depot": resolved.depots.get(package.id),
        }
        for _, package in sorted(resolved.packages.items())
    ]
    data["Missing"] = list(resolved.missing)
    return data


def show_profile(opened: "Opened") -> None:
    """Attributes, and the table of VIBs."""
    data = opened.resolved.profile.documented()
    data["Source"] = opened.source
    if opened.file is not None and opened.file.depots:
        data["Depots"] = opened.file.depots
    for key, value in data.items():
        if key == "VibList" or value in ("", None, [], ()):
            continue
        told = ", ".join(value) if isinstance(value, list | tuple) else str(value)
        if key == "Description" and len(told) > _WIDTH - 17:
            told = textwrap.shorten(printable(told), 4 * _WIDTH, placeholder=" …")
        click.echo(f"{key + ':':17}{printable(told)}")
    click.echo(f"{'VIBs:':17}{len(opened.resolved.profile.vibs)}")
    if not opened.resolved.profile.signature_check:
        warn_unchecked(opened.resolved.profile.name)
    if rows := vib_rows(opened.resolved):
        click.echo()
        print_table(VIB_HEADINGS, rows)


def show_findings(findings: Sequence["Finding"], *, err: bool = False) -> None:
    """Each with its reason and what would mend it, wrapped as paragraphs."""
    for finding in findings:
        head = f"  {finding.kind}:"
        text = _paragraph(printable(finding.reason), f"{head} ")
        click.echo(click.style(head, bold=True) + text[len(head) :], err=err)
        if finding.remedy:
            click.echo(_paragraph(printable(finding.remedy), "    "), err=err)


def _paragraph(text: str, indent: str) -> str:
    """As wide as the rest; ids of VIBs stay whole, so that they can be copied."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def verdict(resolved: "ResolvedProfile", findings: Sequence["Finding"]) -> str:
    """``137 VIBs, valid``."""
    vibs = count(len(resolved.profile.vibs), "VIB")
    return f"{vibs}, {count(len(findings), 'problem')}" if findings else f"{vibs}, valid"


def show_change(
    change: "Change",
    findings: Sequence["Finding"],
    output: str,
    file: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """What was added, replaced, removed and set, and whether the profile is valid now."""
    profile = change.resolved.profile
    replaced = {old: new for old, new in change.replaced.items() if new in change.added}
    if output == "json":
        echo_json(
            {
                "Profile": profile.documented(),
                "File": file,
                "Added": [{"Vib": vib, "Reason": why} for vib, why in change.added.items()],
                "Replaced": [{"Old": old, "New": new} for old, new in replaced.items()],
                "Removed": [{"Vib": vib, "Reason": why} for vib, why in change.removed.items()],
                "Set": list(change.set),
                "Valid": not findings,
                "Findings": [finding.documented() for finding in findings],
                **(extra or {}),
            }
        )
        return
    fresh = set(replaced.values())
    for vib, why in change.added.items():
        if vib not in fresh:
            click.echo(printable(f"added     {vib}: {why}"))
    for old, new in replaced.items():
        click.echo(printable(f"replaced  {old} -> {new}: {change.added[new]}"))
    for vib, why in change.removed.items():
        if vib not in replaced:
            click.echo(printable(f"removed   {vib}: {why}"))
    if not change.changed:
        click.echo("nothing to change")
    click.echo(f"{printable(profile.name)}: {verdict(change.resolved, findings)} ({printable(file)})")
    show_findings(findings[:_SHOWN])
    if len(findings) > _SHOWN:
        more = f"midwife image validate {shlex.quote(printable(profile.name))}"
        click.echo(f"  and {count(len(findings) - _SHOWN, 'problem')} more: {more}")
