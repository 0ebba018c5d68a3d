"""``midwife image export|netboot|verify``: image profiles become bundles, ISOs and images that hosts boot.

PowerCLI's Export-EsxImageProfile, New-IsoImage and New-PxeImage. Nothing that is not valid and signed leaves,
unless somebody says so.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import fail, printable, site_option
from midwife.cli.imagenames import image_names, profile_names
from midwife.cli.imagereport import echo_json, show_findings, warn_unchecked
from midwife.cli.progress import progress_shown
from midwife.cli.tables import count
from midwife.cli.workshop import Opened, Workshop, told

if TYPE_CHECKING:
    from midwife.images.export.run import Export

__all__ = ["export", "netboot", "verify"]

_output = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
_path = click.Path(path_type=Path)
_force = click.option("--force", is_flag=True, help="Go on although the profile has problems.")
_unchecked = click.option(
    "--no-signature-check",
    "unchecked",
    is_flag=True,
    help="Believe the acceptance levels that VIBs claim; what is made of them says so.",
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
@click.option(
    "--source-iso",
    type=_path,
    metavar="FILE.iso",
    help="VMware's ISO of the same release, for boot loaders that no VIB of the profile brings.",
)
@_force
@_unchecked
@_output
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
@click.option(
    "--source-iso",
    type=_path,
    metavar="FILE.iso",
    help="VMware's ISO of the same release, for boot loaders that no VIB of the profile brings.",
)
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
    from midwife.images import shelf

    workshop = Workshop(site)
    module = "without" if off else "with"
    with told():
        library = workshop.library
        ours = workshop.find_file(name) is not None
        if not ours and name in shelf.stored(library.images_dir):
            if image is not None or source_iso is not None:
                raise click.UsageError(
                    "--as and --source-iso are for image profiles; this is an imported image"
                )
            shelf.set_netboot(library.images_dir, name, not off)
            click.echo(f"{name} is served {module} the boot module from the next boot on")
            return
        opened = _profile(workshop, name)
        ready = _ready(workshop, opened, force=force, unchecked=unchecked)
        with progress_shown(printable(name), quiet=False) as progress:
            manifest = ready.install(
                library, image, boot_module=not off, loaders_from=source_iso, progress=progress
            )
    files = count(len(manifest.files), "file")
    click.echo(
        f"{manifest.name}: {files} of {printable(ready.profile.name)}, served {module} the boot module"
    )
    click.echo(f"Hosts get it with `image: {manifest.name}` in a host file or a rule.")


@click.command()
@click.argument("name", required=False, shell_complete=image_names)
@click.option("--all", "every", is_flag=True, help="Every image in the library.")
@_output
@site_option
def verify(name: str | None, every: bool, output: str, site: Path) -> None:
    """Read an image in the library again and compare every file with the sums of the day it was made.

    A changed or missing file takes the image out of service, with the reason; once it is put right, this puts
    the image back. Exit code: 0 all is well, 1 not.
    """
    from midwife.images import shelf
    from midwife.images.errors import ImageError
    from midwife.images.verify import verify_image

    if (name is None) != every:
        raise click.UsageError("name an image, or say --all")
    workshop = Workshop(site)
    images = workshop.library.images_dir
    names = [name] if name else shelf.stored(images)
    if name and name not in shelf.stored(images):
        known = ", ".join(shelf.stored(images)) or "none; `midwife image import FILE.iso` brings one"
        fail(f"no imported image is called {printable(name)!r}; there are: {known}")
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
