"""``midwife image new|clone|edit|add|remove``: image profiles made and changed, as files of the site.

PowerCLI's New-EsxImageProfile, Set-EsxImageProfile, Add- and Remove-EsxSoftwarePackage. Every change is validated;
one that makes a profile worse is refused, unless ``--force`` says that it is meant.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from midwife.cli.common import fail, output_option, printable, site_option
from midwife.cli.completion import depot_names, own_profile_names, profile_names, vib_names
from midwife.cli.image.store import by_hand, create, find_vib, near, refuse_worse, store
from midwife.cli.workshop import Opened, Workshop, told

if TYPE_CHECKING:
    from midwife.images.depot.depot import Depot
    from midwife.images.objects.acceptance import AcceptanceLevel

__all__ = ["add", "clone", "edit", "new", "remove"]

F = TypeVar("F", bound=Callable[..., Any])
_LEVELS = ("community", "partner", "accepted", "certified")

_force = click.option("--force", is_flag=True, help="Change it even if it is less valid afterwards.")
_unchecked = click.option(
    "--no-signature-check",
    "unchecked",
    is_flag=True,
    help="Believe the acceptance levels that VIBs claim. The profile remembers it.",
)


def _attributes(vendor: str = "Who publishes it (at most 40 characters).") -> Callable[[F], F]:
    """The options for attributes, None where they are not given."""

    def with_options(command: F) -> F:
        for option in (
            click.option("--description", help="What it is for."),
            click.option("--author", help="Who made it (at most 60 characters)."),
            click.option(
                "--acceptance-level",
                "level",
                type=click.Choice(_LEVELS),
                help="The least that each VIB must have.",
            ),
            click.option("--vendor", help=vendor),
        ):
            command = option(command)
        return command

    return with_options


@click.command()
@click.argument("name")
@click.option(
    "--vib",
    "vibs",
    multiple=True,
    metavar="VIB",
    shell_complete=vib_names,
    help="A VIB that it is to hold: id, NAME (the newest) or NAME=VERSION. May be given more than once.",
)
@click.option(
    "--depot",
    "depots",
    multiple=True,
    metavar="DEPOT",
    shell_complete=depot_names,
    help="Where its VIBs are looked up, in this order.  [default: every depot]",
)
@click.option("--with-dependencies", "deep", is_flag=True, help="Add what the VIBs need, too.")
@_unchecked
@_attributes()
@output_option
@site_option
def new(
    name: str, vibs: tuple[str, ...], depots: tuple[str, ...], deep: bool, unchecked: bool, vendor: str | None,
    level: str | None, author: str | None, description: str | None, output: str, site: Path,
) -> None:  # fmt: skip
    """Make an image profile out of nothing (New-EsxImageProfile -NewProfile).

    Most people begin with `midwife image clone`. What is still missing is told; nothing is refused.
    """
    from midwife.images.objects.acceptance import AcceptanceLevel
    from midwife.images.profile import compose
    from midwife.images.profile.catalogue import Catalogue

    if not vendor:
        raise click.UsageError("--vendor is needed: name and vendor together are what makes a profile unique")
    workshop = Workshop(site)
    with told():
        catalogue = workshop.catalogue
        if depots:
            catalogue = Catalogue([_depot(workshop, depot) for depot in depots])
        change = compose.new(
            name,
            vendor,
            [catalogue.find(vib) for vib in vibs],
            now=_now(),
            guid=secrets.token_hex(16),
            acceptance_level=AcceptanceLevel.parse(level or "partner"),
            author=author or "",
            description=description or "",
            signature_check=not unchecked,
            catalogue=catalogue,
            with_dependencies=deep,
        )
        create(workshop, change, depots, output)


@click.command()
@click.argument("source", shell_complete=profile_names)
@click.argument("name")
@_attributes("Who publishes the copy.  [default: as in SOURCE]")
@_force
@output_option
@site_option
def clone(
    source: str, name: str, vendor: str | None, level: str | None, author: str | None, description: str | None,
    force: bool, output: str, site: Path,
) -> None:  # fmt: skip
    """Copy an image profile into the site, where it can be changed (New-EsxImageProfile -CloneProfile).

    SOURCE is an image profile of the site, NAME of one in a depot, or DEPOT:NAME.
    """
    from midwife.images.profile import compose

    workshop = Workshop(site)
    with told():
        opened = workshop.open(source)
        change = compose.clone(
            opened.resolved,
            name,
            vendor,
            now=_now(),
            guid=secrets.token_hex(16),
            author=author,
            description=description,
            acceptance_level=_level(level),
        )
        after = Opened(change.resolved, opened.file, opened.depot, opened.missing_depots)
        if not force:
            refuse_worse(workshop.findings(opened), workshop.findings(after), "nothing was made")
        create(workshop, change, opened.file.depots if opened.file else [opened.depot], output, opened)


@click.command()
@click.argument("profile", shell_complete=own_profile_names)
@click.option("--name", help="Another name (at most 80 characters). The file keeps its own.")
@click.option(
    "--read-only/--no-read-only", "read_only", default=None, help="Refuse changes, or allow them again."
)
@click.option("--signature-check", "checked", is_flag=True, help="Check signatures again from now on.")
@_attributes()
@_force
@output_option
@site_option
def edit(
    profile: str, name: str | None, read_only: bool | None, checked: bool, vendor: str | None, level: str | None,
    author: str | None, description: str | None, force: bool, output: str, site: Path,
) -> None:  # fmt: skip
    """Set attributes of an image profile (Set-EsxImageProfile); without options, open its file in $EDITOR."""
    from midwife.images.profile import compose

    workshop = Workshop(site)
    with told():
        opened = workshop.open(profile)
        file = opened.changeable()
        given = (name, read_only, checked or None, vendor, level, author, description)
        if all(value is None for value in given):
            by_hand(workshop, file, output)
            return
        change = compose.change(
            opened.resolved,
            now=_now(),
            name=name,
            vendor=vendor,
            author=author,
            description=description,
            acceptance_level=_level(level),
            read_only=read_only,
            signature_check=True if checked else None,
        )
        store(workshop, opened, change, force=force, output=output)


@click.command()
@click.argument("profile", shell_complete=own_profile_names)
@click.argument("vibs", metavar="VIB…", nargs=-1, required=True, shell_complete=vib_names)
@click.option(
    "--with-dependencies", "deep", is_flag=True, help="Add what they need, too, as far as the depots have it."
)
@click.option("--depot", metavar="DEPOT", shell_complete=depot_names, help="Take them from this depot.")
@click.option("--allow-downgrade", "older", is_flag=True, help="Replace a newer version by an older one.")
@_force
@_unchecked
@output_option
@site_option
def add(
    profile: str, vibs: tuple[str, ...], deep: bool, depot: str | None, older: bool, force: bool, unchecked: bool,
    output: str, site: Path,
) -> None:  # fmt: skip
    """Add VIBs to an image profile (Add-EsxSoftwarePackage).

    VIB is an id, a name (the newest is taken), NAME=VERSION or DEPOT:VIB. It takes the place of another version
    of itself and of what it makes obsolete.
    """
    from dataclasses import replace

    from midwife.images.profile import compose

    workshop = Workshop(site)
    with told():
        opened = workshop.open(profile)
        opened.changeable()
        found = [find_vib(workshop, opened, vib, depot) for vib in vibs]
        resolved = opened.resolved
        if unchecked and resolved.profile.signature_check and not resolved.profile.read_only:
            resolved = replace(resolved, profile=replace(resolved.profile, signature_check=False))
        change = compose.add(
            resolved,
            found,
            near(workshop, opened, found),
            now=_now(),
            with_dependencies=deep,
            allow_downgrade=older,
        )
        if resolved is not opened.resolved and not change.changed:
            change = compose.change(opened.resolved, now=_now(), signature_check=False)
        elif resolved is not opened.resolved:
            change = replace(change, set=(*change.set, "signature_check"))
        store(workshop, opened, change, force=force, output=output)


@click.command()
@click.argument("profile", shell_complete=own_profile_names)
@click.argument("vibs", metavar="VIB…", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Remove them even if other VIBs need them.")
@output_option
@site_option
def remove(profile: str, vibs: tuple[str, ...], force: bool, output: str, site: Path) -> None:
    """Remove VIBs, by id or name, from an image profile (Remove-EsxSoftwarePackage)."""
    from midwife.images.profile import compose

    workshop = Workshop(site)
    with told():
        opened = workshop.open(profile)
        opened.changeable()
        change = compose.remove(opened.resolved, vibs, now=_now(), force=force)
        store(workshop, opened, change, force=force, output=output)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _level(text: str | None) -> "AcceptanceLevel | None":
    from midwife.images.objects.acceptance import AcceptanceLevel

    return None if text is None else AcceptanceLevel.parse(text)


def _depot(workshop: Workshop, name: str) -> "Depot":
    if name not in workshop.depots:
        known = ", ".join(workshop.depots) or "none; `midwife depot add SOURCE` brings one"
        fail(f"there is no depot {printable(name)!r}; there are: {known}")
    return workshop.depots[name]
