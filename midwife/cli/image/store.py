"""Image profiles as commands store them: found, validated, written into the site, and told.

A change that makes a profile less valid than it was is refused; what was wrong before is told and does not stop
anybody. Which depot a VIB is taken from is written down only where that makes a difference.
"""

import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from midwife.cli.common import fail
from midwife.cli.image.report import show_change, show_findings, warn_unchecked
from midwife.cli.tables import count
from midwife.cli.workshop import Opened, Workshop

if TYPE_CHECKING:
    from midwife.images.profile.catalogue import Catalogue, Found
    from midwife.images.profile.compose import Change
    from midwife.images.profile.file import ProfileFile
    from midwife.images.profile.resolved import Finding

__all__ = ["by_hand", "create", "find_vib", "near", "refuse_worse", "store"]

_GROUPED = ("file-conflict", "hardware")
"""Findings about several VIBs at once."""


def find_vib(workshop: Workshop, opened: Opened, text: str, depot: str | None) -> "Found":
    """A VIB for a profile: in the depots of its file before all others, unless one is named."""
    from midwife.images.profile.catalogue import Catalogue

    if depot is None and opened.file is not None:
        mine = [workshop.depots[name] for name in opened.file.depots if name in workshop.depots]
        own = Catalogue(mine)
        if own.named(text.partition("=")[0]) or any(text in one.packages for one in mine):
            return own.find(text)
    return workshop.catalogue.find(text, depot)


def near(workshop: Workshop, opened: Opened, found: Sequence["Found"]) -> "Catalogue":
    """Where dependencies are looked for: the profile's depots and those of the VIBs that are added.

    In all depots there may be newer VIBs, of another ESXi.
    """
    from midwife.images.profile.catalogue import Catalogue

    file = opened.changeable()
    if not file.depots:
        return workshop.catalogue
    names = dict.fromkeys([*file.depots, *(one.depot for one in found)])
    return Catalogue([workshop.depots[name] for name in names if name in workshop.depots])


def _pins(
    workshop: Workshop, change: "Change", old: Mapping[str, str], depots: Sequence[str]
) -> dict[str, str]:
    """Which VIBs must say their depot: those that another one of the depots has with other contents."""
    from midwife.images.profile.sameness import same_content

    pins = {}
    for vib, package in change.resolved.packages.items():
        source = change.resolved.depots.get(vib, "")
        others = [name for name in (depots or workshop.depots) if name != source and name in workshop.depots]
        differs = any(
            vib in workshop.depots[name].packages
            and not same_content(workshop.depots[name].packages[vib], package)
            for name in others
        )
        if source and (differs or old.get(vib) == source):
            pins[vib] = source
    return {**{vib: old[vib] for vib in change.resolved.missing if vib in old}, **pins}


def create(
    workshop: Workshop, change: "Change", depots: Sequence[str], output: str, source: Opened | None = None
) -> None:
    """Write a new profile into the site, with the depots that its VIBs are from."""
    from midwife.images.profile import file as files

    profile = change.resolved.profile
    used = list(
        dict.fromkeys([*depots, *(change.resolved.depots[vib] for vib in sorted(change.resolved.depots))])
    )
    old = source.file.pins if source and source.file else {}
    made = files.create(workshop.root, profile, used, _pins(workshop, change, old, used))
    findings = workshop.findings(workshop.opened(made))
    if not profile.signature_check:
        warn_unchecked(profile.name)
    show_change(change, findings, output, made.file)


def store(
    workshop: Workshop,
    opened: Opened,
    change: "Change",
    *,
    force: bool,
    output: str,
) -> None:
    """Write the change into the profile's file, unless it makes the profile less valid."""
    from midwife.images.profile import file as files

    file = opened.changeable()
    after = Opened(change.resolved, file, missing_depots=opened.missing_depots)
    findings = workshop.findings(after)
    if change.changed:
        if not force:
            refuse_worse(workshop.findings(opened), findings, f"{file.file} is not changed")
        depots = list(file.depots)
        if depots:
            found = (change.resolved.depots.get(vib) for vib in change.added)
            depots = list(dict.fromkeys([*depots, *(depot for depot in found if depot)]))
        pins = _pins(workshop, change, file.pins, depots)
        profile = change.resolved.profile
        profile = replace(profile, guid=profile.guid or secrets.token_hex(16))  # a file made by hand has none
        files.save(file, profile, depots, pins)
    if not change.resolved.profile.signature_check:
        warn_unchecked(change.resolved.profile.name)
    show_change(change, findings, output, file.file)
    if change.changed and output == "text":
        for image in workshop.images_of(opened.resolved.profile.name):
            again = shlex.quote(change.resolved.profile.name)
            click.echo(f"Hosts boot the image {image} as it was made; anew: midwife image netboot {again}")


def refuse_worse(before: Sequence["Finding"], after: Sequence["Finding"], what: str) -> None:
    """Ends the command if there are findings that were not there before."""
    known = {(finding.kind, finding.vib, finding.reason) for finding in before}
    fresh = [finding for finding in after if (finding.kind, finding.vib, finding.reason) not in known]
    for kind in _GROUPED:  # of three VIBs in each other's way one is gone: said anew, and no worse
        if sum(one.kind == kind for one in after) <= sum(one.kind == kind for one in before):
            fresh = [finding for finding in fresh if finding.kind != kind]
    if fresh:
        show_findings(fresh, err=True)
        fail(f"{what}: it would have {count(len(fresh), 'new problem')}; mend them, or say --force")


def by_hand(workshop: Workshop, file: "ProfileFile", output: str) -> None:
    """Let somebody edit the file; what is wrong with the profile then is told, not refused."""
    from midwife.cli.editor import edited
    from midwife.images.profile import file as files
    from midwife.images.profile.compose import refuse_read_only

    refuse_read_only(file.profile)

    def take(raw: bytes) -> "ProfileFile":
        return files.replace_text(file, raw)

    after = edited(file, take)
    opened = workshop.opened(after)
    show_change(_difference(workshop, file, after), workshop.findings(opened), output, after.file)


def _difference(workshop: Workshop, before: "ProfileFile", after: "ProfileFile") -> "Change":
    """What somebody's editor did, in the words of a change."""
    from midwife.images.profile.compose import Change
    from midwife.site.imageprofile import vib_name

    old, now = set(before.entry.ids), set(after.entry.ids)
    added = dict.fromkeys(sorted(now - old), "by hand")
    names = {vib_name(vib)[0]: vib for vib in added}
    replaced = {vib: names[vib_name(vib)[0]] for vib in sorted(old - now) if vib_name(vib)[0] in names}
    words = ("name", "vendor", "author", "description", "acceptance_level", "read_only", "signature_check")
    changed = tuple(word for word in words if getattr(before.profile, word) != getattr(after.profile, word))
    return Change(
        workshop.opened(after).resolved,
        added,
        dict.fromkeys(sorted(old - now), "by hand"),
        replaced,
        changed,
    )
