"""``midwife image``: images that hosts boot, and the image profiles that they are made of.

Works on a site whose hosts or rules still have errors: an image that they name must be imported first. Commands
that change, compare and export profiles have modules of their own beside this one.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midwife.cli.common import echo_json, fail, output_option, printable, site_option
from midwife.cli.completion import image_names, profile_names
from midwife.cli.image.check import compare, validate
from midwife.cli.image.compose import add, clone, edit, new, remove
from midwife.cli.image.export import export, netboot, verify
from midwife.cli.image.report import profile_data, show_profile
from midwife.cli.progress import progress_shown
from midwife.cli.tables import print_table
from midwife.cli.workshop import Opened, Workshop, told
from midwife.images.disk import told_size

if TYPE_CHECKING:
    from midwife.images.boot.library import Library

__all__ = ["command"]

_PROFILE_HEADINGS = ("Name", "Vendor", "AcceptanceLevel", "VIBs", "ReadOnly", "From")


@click.group("image")
def command() -> None:
    """Images that hosts boot, and image profiles: composed, compared, exported.

    Kernel and initrd pairs are described in midwife.yaml; `list` and `show` have them too.
    """


@command.command("import")
@click.argument("iso", metavar="FILE.iso", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the image.  [default: made from the file name, as in 8.0U3-24022510]")
@click.option(
    "--depot", "as_depot", is_flag=True, help="Add its VIBs to the depot library too, under the same name."
)
@output_option
@site_option
def import_(iso: Path, name: str | None, as_depot: bool, output: str, site: Path) -> None:
    """Unpack an ESXi installer ISO into the image library, checked and hashed."""
    from midwife.images.boot.iso import import_iso

    workshop = Workshop(site)
    quiet = output == "json"
    with told():
        with progress_shown(iso.name, quiet=quiet) as progress:
            manifest = import_iso(iso, workshop.library, name, progress)
        if as_depot:
            with progress_shown(f"{iso.name} (depot)", quiet=quiet) as progress:
                added = workshop.depot_library.add(str(iso), manifest.name, progress)
    summary = _summary(workshop.library, manifest.name)
    if output == "json":
        echo_json(summary | ({"depot": added.record.name} if as_depot else {}))
        return
    what = " ".join(filter(None, [manifest.profile or manifest.title, manifest.build]))
    click.echo(f"{manifest.name}: {printable(what)}")
    click.echo(
        f"{len(manifest.files)} files, {told_size(manifest.size)}; sha256 of the ISO {manifest.iso_sha256}"
    )
    click.echo(f"Hosts get it with `image: {manifest.name}` in a host file or a rule.")
    if as_depot:
        click.echo(f"Its VIBs are in the depot {added.record.name}.")


@command.command("list")
@click.option("--depots", "in_depots", is_flag=True, help="The image profiles of all depots too.")
@output_option
@site_option
def list_(in_depots: bool, output: str, site: Path) -> None:
    """All images of the site, imported and described, and its image profiles."""
    workshop = Workshop(site)
    rows = [_summary(workshop.library, name) for name in workshop.library.names()]
    profiles = _profiles(workshop, in_depots=in_depots)
    if output == "json":
        echo_json([*rows, *profiles])
        return
    if not rows and not profiles:
        click.echo("no images yet; `midwife image import FILE.iso` brings one")
        return
    cells = []
    for row in rows:
        if "error" in row:
            cells.append((row["name"], "broken", "-", "-", "-", row["error"]))
        else:
            module = "yes" if row["netboot"] else "-"
            build, loads = row["build"] or "-", told_size(row["load_size"])
            cells.append((row["name"], row["kind"], build, loads, module, row["source"]))
    if cells:
        print_table(("NAME", "KIND", "BUILD", "LOADS", "MODULE", "FROM"), cells)
    if cells and profiles:
        click.echo()
    if profiles:
        print_table(_PROFILE_HEADINGS, [_profile_row(profile) for profile in profiles])


@command.command()
@click.argument("name", shell_complete=profile_names)
@output_option
@site_option
def show(name: str, output: str, site: Path) -> None:
    """What an image is and loads, or an image profile with its VIBs (Get-EsxImageProfile).

    NAME is an image profile of the site, an image, or an image profile of a depot (NAME or DEPOT:NAME).
    """
    workshop = Workshop(site)
    library = workshop.library
    with told():
        file = workshop.find_file(name)
        if file is not None:
            opened = workshop.opened(file)
        elif name in library.names():
            library.describe(name)
            _show_image(_summary(library, name), output)
            return
        else:
            opened = _of_a_depot(workshop, name)
    _show_opened(workshop, opened, output)


@command.command()
@click.argument("name", shell_complete=image_names)
@click.option("--profile", is_flag=True, help="Delete the file of the site's image profile NAME instead.")
@site_option
def delete(name: str, profile: bool, site: Path) -> None:
    """Take an image out of the library; the profile that it was made of stays.

    VIBs are taken out of an image profile with `midwife image remove`.
    """
    from midwife.cli.image.inuse import named_in
    from midwife.images.boot import imported
    from midwife.images.profile import file as files

    workshop = Workshop(site)
    with told():
        file = workshop.find_file(name)
        if profile:
            if file is None:
                known = ", ".join(found.value.name for found in workshop.files()) or "none"
                fail(f"the site has no image profile {printable(name)!r}; there are: {printable(known)}")
            if file.entry.read_only:
                fail(f"{printable(name)} is read-only; `midwife image edit --no-read-only` comes first")
            files.delete(file)
            click.echo(f"{file.file} is deleted; what was made of it stays")
            return
        images = workshop.library.images_dir
        if file is not None and name not in imported.stored(images):
            fail(
                f"no imported image is called {printable(name)!r}; {file.file} is an image profile: "
                "delete that file, or say --profile"
            )
        imported.remove(images, name)
    click.echo(f"{name} is removed; a running service forgets it with `midwife reload`")
    if spots := named_in(workshop.draft, name):
        click.echo(
            f"warning: {printable(', '.join(spots))} {'names' if len(spots) == 1 else 'name'} it: "
            "the service will not start until there is such an image again",
            err=True,
        )


for _sub in (add, clone, compare, edit, export, netboot, new, remove, validate, verify):
    command.add_command(_sub)


def _of_a_depot(workshop: Workshop, name: str) -> Opened:
    """An image profile of a depot. Raises ImageError that knows all names that could have been meant."""
    from midwife.images.errors import ProfileError
    from midwife.site.problems import nearest

    try:
        return workshop.open(name)
    except ProfileError as error:
        own = [*workshop.library.names(), *(found.value.name for found in workshop.files())]
        depots = [profile.name for depot in workshop.depots.values() for profile in depot.profiles]
        if name in depots or name.partition(":")[0] in workshop.depots:
            raise
        hint = nearest(name, {*own, *depots})
        raise ProfileError(f"no image or image profile is called {name!r}; {hint}") from error


def _profiles(workshop: Workshop, *, in_depots: bool) -> list[dict[str, Any]]:
    """Image profiles as plain data: those of the site, then those of depots."""
    from midwife.images.errors import ImageError
    from midwife.images.profile.file import read

    rows: list[dict[str, Any]] = []
    for source in workshop.file_names():
        try:
            profile = read(workshop.root, source).profile
        except ImageError as error:
            problem = str(error).split("\n")[0]
            rows.append({"name": Path(source).stem, "kind": "profile", "source": source, "error": problem})
            continue
        rows.append({"name": profile.name, "kind": "profile", "source": source, **profile.documented()})
    for depot in workshop.depots.values() if in_depots else ():
        for profile in depot.profiles:
            source = f"depot {depot.name}"
            rows.append({"name": profile.name, "kind": "profile", "source": source, **profile.documented()})
    return rows


def _profile_row(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return (row["name"], "-", "-", "-", "-", row["error"])
    vibs = str(len(row["VibList"]))
    read_only = "yes" if row["ReadOnly"] else "-"
    return (row["Name"], row["Vendor"], row["AcceptanceLevel"], vibs, read_only, row["source"])


def _show_opened(workshop: Workshop, opened: Opened, output: str) -> None:
    """An image profile, and the image that was made of it."""
    name = opened.resolved.profile.name
    made = workshop.images_of(name) if opened.file else []
    image = _summary(workshop.library, made[0]) if made else None
    if output == "json":
        echo_json(profile_data(opened) | {"Image": image})
        return
    show_profile(opened)
    if image is not None:
        from midwife.images.export.install import profile_digest

        manifest = None if "error" in image else workshop.library.manifest(image["name"])
        stale = manifest is not None and manifest.profile_digest != profile_digest(opened.resolved)
        hint = f"; the profile has changed since: midwife image netboot {printable(name)}" if stale else ""
        click.echo(f"\nHosts boot it as the image {printable(image['name'])}{hint}")


def _show_image(found: dict[str, Any], output: str) -> None:
    if output == "json":
        echo_json(found)
        return
    for key in ("name", "kind", "title", "profile", "build", "source", "iso_sha256", "imported", "options"):
        if found.get(key):
            click.echo(f"{key + ':':12} {printable(str(found[key]))}")
    click.echo(f"{'netboot:':12} {'yes: the boot module is added' if found['netboot'] else 'no'}")
    if found["loaders"]:
        click.echo(f"{'loaders:':12} {', '.join(found['loaders'])}")
    click.echo(f"{'loads:':12} {len(found['loads'])} files, {told_size(found['load_size'])}")
    for loaded in found["loads"]:
        click.echo(f"  {loaded['size']:>12}  {loaded['name']}")


def _summary(library: "Library", name: str) -> dict[str, Any]:
    """An image as plain data, for JSON and the table."""
    from midwife.images.boot.files import LOADERS
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
