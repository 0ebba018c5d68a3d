"""``midwife image export|netboot|verify``: image profiles become bundles, ISOs and images that hosts boot.

PowerCLI's Export-EsxImageProfile, New-IsoImage and New-PxeImage. Nothing that is not valid and signed leaves,
unless somebody says so.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import echo_json, fail, output_option, printable, site_option
from midwife.cli.completion import image_names, profile_names
from midwife.cli.image.report import show_findings, warn_unchecked
from midwife.cli.progress import progress_shown
from midwife.cli.tables import count
from midwife.cli.workshop import Opened, Workshop, told

if TYPE_CHECKING:
    from midwife.images.export.run import Export

__all__ = ["export", "netboot", "verify"]

_path = click.Path(path_type=Path)
_force = click.option("--force", is_flag=True, help="Go on although the profile has problems.")
_unchecked = click.option(
    "--no-signature-check",
    "unchecked",
    is_flag=True,
    help="Believe the acceptance levels that VIBs claim; what is made of them says so.",
)
_source_iso = click.option(
    "--source-iso",
    type=_path,
    metavar="FILE.iso",
    help="VMware's ISO of the same release, for boot loaders that no VIB of the profile brings.",
)


@click.command()
@click.argument("profile", shell_complete=profile_names)
@click.option("--bundle", type=_path, metavar="FILE.zip", help="As an offline bundle.")
@click.option(
    "--iso", type=_path, metavar="FILE.iso", help="As an installer ISO that boots by BIOS and UEFI."
)
@click.option(
    "--netboot", "tree", type=_path, metavar="DIRECTORY", help="As the files that hosts load by PXE."
)
@_source_iso
@_force
@_unchecked
@output_option
@site_option
def export(
    profile: str,
    bundle: Path | None,
    iso: Path | None,
    tree: Path | None,
    source_iso: Path | None,
    force: bool,
    unchecked: bool,
    output: str,
    site: Path,
) -> None:
    """Write an image profile as a bundle, an ISO or a netboot tree (Export-EsxImageProfile).

    Every VIB's signature and every payload is checked first; what fails leaves nothing behind. Files that are
    there are replaced, a directory must be empty.
    """
    if bundle is None and iso is None and tree is None:
        raise click.UsageError("say what to write: --bundle FILE.zip, --iso FILE.iso or --netboot DIRECTORY")
    targets = [path.resolve() for path in (bundle, iso, tree) if path is not None]
    if len(set(targets)) < len(targets):
        raise click.UsageError("two of them would be written to the same place")
    workshop = Workshop(site)
    written: list[Path] = []
    warnings: tuple[str, ...] = ()
    with told():
        ready = _ready(workshop, workshop.open(profile), force=force, unchecked=unchecked)
        quiet = output == "json"
        if bundle is not None:
            with progress_shown(bundle.name, quiet=quiet) as progress:
                ready.bundle(bundle, progress)
            written.append(bundle)
        if iso is not None:
            with progress_shown(iso.name, quiet=quiet) as progress:
                warnings += ready.iso(iso, source_iso, progress)
            written.append(iso)
        if tree is not None:
            with progress_shown(tree.name, quiet=quiet) as progress:
                warnings += ready.netboot(tree, source_iso, progress)
            written.append(tree)
    for warning in warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    if output == "json":
        echo_json(
            {
                "Name": ready.profile.name,
                "Written": [str(path) for path in written],
                "Warnings": list(warnings),
                "SignatureCheck": ready.profile.signature_check,
                "Findings": [finding.documented() for finding in ready.findings],
            }
        )
        return
    for path in written:
        vibs = count(len(ready.profile.vibs), "VIB")
        click.echo(f"{printable(ready.profile.name)}: {vibs} written to {printable(str(path))}")


@click.command()
@click.argument("name", shell_complete=image_names)
@click.option("--off", is_flag=True, help="Serve it without the boot module.")
@click.option(
    "--as", "image", metavar="IMAGE", help="Name of the image made of a profile.  [default: the profile's]"
)
@_source_iso
@_force
@_unchecked
@site_option
def netboot(
    name: str, off: bool, image: str | None, source_iso: Path | None, force: bool, unchecked: bool, site: Path
) -> None:
    """Make an image that hosts can boot of an image profile, with the boot module (New-PxeImage).

    Of an imported image only the boot module is put on or, with --off, taken off: callback client, start
    script, the service's public key. For images that run from memory (stateless). Secure Boot and
    execInstalledOnly have a word in it: docs/how-to/secure-boot.md.
    """
    from midwife.images.boot import imported

    workshop = Workshop(site)
    module = "without" if off else "with"
    with told():
        library = workshop.library
        stored = imported.stored(library.images_dir)
        if name in stored and workshop.find_file(name) is None and not _is_of_a_depot(workshop, name):
            if image is not None or source_iso is not None or force or unchecked:
                raise click.UsageError(
                    "--as, --source-iso, --force and --no-signature-check are for image profiles; "
                    f"{name} is an image in the library"
                )
            imported.set_netboot(library.images_dir, name, not off)
            click.echo(f"{name} is served {module} the boot module from the next boot on")
            return
        opened = _profile(workshop, name)
        ready = _ready(workshop, opened, force=force, unchecked=unchecked)
        with progress_shown(printable(name), quiet=False) as progress:
            manifest = ready.install(
                library, image, boot_module=not off, loaders_from=source_iso, progress=progress
            )
    if manifest.name in stored:
        _warn_of_the_old(workshop, manifest.name)
    if manifest.name in workshop.draft.images:
        click.echo(
            f"warning: midwife.yaml describes an image {manifest.name}, and hosts get that one; "
            "choose another name with --as",
            err=True,
        )
    files = count(len(manifest.files), "file")
    click.echo(
        f"{manifest.name}: {files} of {printable(ready.profile.name)}, served {module} the boot module"
    )
    click.echo(f"Hosts get it with `image: {manifest.name}` in a host file or a rule.")


@click.command()
@click.argument("name", required=False, shell_complete=image_names)
@click.option("--all", "every", is_flag=True, help="Every image in the library.")
@output_option
@site_option
def verify(name: str | None, every: bool, output: str, site: Path) -> None:
    """Read an image in the library again and compare every file with the sums of the day it was made.

    A changed or missing file takes the image out of service, with the reason; once it is put right, this puts
    the image back. Exit code: 0 all is well, 1 not.
    """
    from midwife.images.boot import imported
    from midwife.images.boot.verify import verify_image
    from midwife.images.errors import ImageError

    if (name is None) != every:
        raise click.UsageError("name an image, or say --all")
    workshop = Workshop(site)
    images = workshop.library.images_dir
    names = [name] if name else imported.stored(images)
    if name:
        with told():
            imported.directory(images, name)
    rows = []
    for one in names:
        with progress_shown(printable(one), quiet=output == "json") as progress:
            try:
                problems = verify_image(images, one, progress).problems
            except ImageError as error:
                problems = (str(error),)
        rows.append({"name": one, "ok": not problems, "problems": list(problems)})
        if output == "text":
            click.echo(f"{printable(one)}: {'out of service' if problems else 'ok'}")
            for problem in problems:
                click.echo(f"  {printable(problem)}")
    if output == "json":
        echo_json(rows if every else rows[0])
    elif not rows:
        click.echo("no images yet; `midwife image import FILE.iso` brings one")
    if not all(row["ok"] for row in rows):
        click.get_current_context().exit(1)


def _is_of_a_depot(workshop: Workshop, image: str) -> bool:
    """Whether an image was made of the image profile of that name that a depot has: it is made anew of it then."""
    return image in workshop.images_of(image) and any(
        profile.name == image for depot in workshop.depots.values() for profile in depot.profiles
    )


def _warn_of_the_old(workshop: Workshop, image: str) -> None:
    """Of hosts that were in the middle of the image that was replaced."""
    from midwife.cli.image.inuse import loading_now

    if hosts := loading_now(workshop.draft, image):
        click.echo(
            f"warning: {printable(', '.join(hosts))}: loading {image} now, the beginning of the old one and the "
            "rest of the new one; reset what does not come up",
            err=True,
        )


def _profile(workshop: Workshop, name: str) -> Opened:
    """An image profile, with a hint for images that have none."""
    from midwife.images.errors import ImageError

    try:
        return workshop.open(name)
    except ImageError as error:
        if name in workshop.draft.images:
            fail(f"{name} is described in midwife.yaml: write netboot: true there")
        raise ImageError(f"no imported image is called {name!r}, and {error}") from None


def _ready(workshop: Workshop, opened: Opened, *, force: bool, unchecked: bool) -> "Export":
    """The profile, fit for export. Ends the command with what is wrong with it."""
    from midwife.images.export.run import Export, Refused

    resolved = opened.resolved
    if unchecked:
        resolved = replace(resolved, profile=replace(resolved.profile, signature_check=False))
    if not resolved.profile.signature_check:
        warn_unchecked(resolved.profile.name)
    try:
        ready = Export(resolved, workshop.depots, workshop.inspector, gaps=opened.gaps, force=force)
    except Refused as error:
        show_findings(error.findings, err=True)
        fail(printable(str(error)))
    if ready.findings:
        click.echo(f"going on with {count(len(ready.findings), 'problem')}, because of --force:", err=True)
        show_findings(ready.findings, err=True)
    return ready
