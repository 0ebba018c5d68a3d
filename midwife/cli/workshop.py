"""What commands about images and image profiles need: the site's images, profile files, depots and anchors.

Works on a site whose hosts or rules still have errors: what they name must be made first. Everything is opened
when it is asked for, because some commands need next to nothing.
"""

import difflib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import fail, open_site, printable

if TYPE_CHECKING:
    from midwife.images.boot.library import Library
    from midwife.images.depot.kept.library import DepotLibrary
    from midwife.images.depot.kept.stored import StoredDepot
    from midwife.images.profile.catalogue import Catalogue
    from midwife.images.profile.file import ProfileFile
    from midwife.images.profile.proofs import Inspector
    from midwife.images.profile.resolved import Finding, ResolvedProfile
    from midwife.images.vib.content import Vib
    from midwife.site.draft import Draft, Found
    from midwife.site.imageprofile import ImageProfileFile

__all__ = ["Opened", "Workshop", "told"]


@contextmanager
def told() -> Iterator[None]:
    """Ends the command with the text of an ImageError."""
    from midwife.images.errors import ImageError

    try:
        yield
    except ImageError as error:
        fail("\n".join(printable(line) for line in str(error).split("\n")))


@dataclass(frozen=True, slots=True)
class Opened:
    """An image profile that was found by name."""

    resolved: "ResolvedProfile"
    file: "ProfileFile | None"
    """Where it stands in the site; None for one of a depot."""
    depot: str = ""
    """The depot that has it; "" for one of the site."""
    missing_depots: tuple[str, ...] = ()
    """That its file names and that are not in the library."""

    @property
    def source(self) -> str:
        """For people."""
        return self.file.file if self.file else f"depot {self.depot}"

    @property
    def gaps(self) -> tuple["Finding", ...]:
        """The same as findings."""
        from midwife.images.profile.resolved import Finding

        return tuple(
            Finding(
                0,
                "missing-depot",
                "",
                f"The depot {name}, which {self.source} names, is not in the library.",
                f"Bring it: midwife depot add SOURCE --name {name}",
            )
            for name in self.missing_depots
        )

    def changeable(self) -> "ProfileFile":
        """Its file. Ends the command for a profile of a depot: depots are not changed."""
        if self.file is None:
            name = self.resolved.profile.name
            fail(
                f"{printable(name)} is an image profile of depot {self.depot}, and depots are not changed: "
                f"make a copy with `midwife image clone {self.depot}:{printable(name)} NEWNAME`"
            )
        return self.file


def _check_readable(data: Path) -> None:
    """Ends the command for whom it is not: the service's data are often root's only."""
    for directory in (data, data / "images", data / "depots"):
        if directory.is_dir() and not os.access(directory, os.R_OK | os.X_OK):
            user = directory.owner()
            fail(f"cannot read {directory}: it is {user}'s; give the command as {user}")


class Workshop:
    """A site's images and profiles. Methods raise ImageError, or end the command."""

    def __init__(self, site: Path) -> None:
        from midwife.site.draft import read_draft

        self.root = site
        draft = read_draft(site)
        if draft.main is None:
            open_site(site)
            fail(f"{site} has no usable midwife.yaml")
        self.draft: Draft = draft
        _check_readable(draft.data)

    @cached_property
    def library(self) -> "Library":
        """Images that can be booted."""
        from midwife.images.boot.library import Library

        images = {name: found.value for name, found in self.draft.images.items()}
        return Library(self.draft.data, images, self.draft.root)

    def images_of(self, profile: str) -> list[str]:
        """Images in the library that were made of this image profile."""
        from midwife.images.boot import imported
        from midwife.images.boot.manifest import read_manifest
        from midwife.images.errors import ImageError

        found = []
        for name in imported.stored(self.library.images_dir):
            with suppress(ImageError):
                if read_manifest(self.library.images_dir / name).made_of == profile:
                    found.append(name)
        return found

    @cached_property
    def depot_library(self) -> "DepotLibrary":
        """Where depots are kept."""
        from midwife.images.depot.kept.library import DepotLibrary

        told: set[str] = set()

        def tell(text: str) -> None:
            if text not in told:
                told.add(text)
                click.echo(f"warning: {printable(text)}", err=True)

        return DepotLibrary(self.draft.data, tell=tell)

    @cached_property
    def depots(self) -> "dict[str, StoredDepot]":
        """Every depot of the library, by name. A damaged one is told and left out."""
        from midwife.images.errors import ImageError

        found = {}
        for name in self.depot_library.names():
            try:
                depot = self.depot_library.get(name)
                depot.profiles  # noqa: B018  read now, so that a damaged one does not stop everything else
                found[name] = depot
            except ImageError as error:
                click.echo(f"warning: {printable(str(error))}", err=True)
        return found

    @cached_property
    def catalogue(self) -> "Catalogue":
        """All of them together; those without whose VIBs cannot be read, which is told."""
        from midwife.images.errors import ImageError
        from midwife.images.profile.catalogue import Catalogue

        readable = []
        for depot in self.depots.values():
            try:
                depot.packages  # noqa: B018  a damaged depot must not stop the others
                readable.append(depot)
            except ImageError as error:
                click.echo(f"warning: {printable(str(error))}", err=True)
        return Catalogue(readable)

    @cached_property
    def inspector(self) -> "Inspector":
        """Finds what is wrong with profiles; believes VMware's anchors and those in the site's ``trust``."""
        from midwife.images.profile.proofs import Inspector
        from midwife.images.vib.signing.trust import site_anchors

        return Inspector(self.depots, self.catalogue, site_anchors(self.root))

    def files(self) -> "list[Found[ImageProfileFile]]":
        """The site's image profiles, by name; those with errors too."""
        return sorted(self.draft.image_profiles, key=lambda found: (found.value.name, found.value.vendor))

    def file_names(self) -> list[str]:
        """All files of image profiles, those too in which nothing can be read."""
        found = {one.place.document.file for one in self.draft.image_profiles}
        wrong = {problem.file for problem in self.draft.problems if problem.level == "error"}
        return sorted(found | {name for name in wrong if name.startswith("image-profiles/")})

    def find_file(self, text: str, vendor: str | None = None) -> "ProfileFile | None":
        """An image profile of the site by its name or that of its file; None if there is none.

        Raises ProfileError with what is wrong in the file, or if several have the name.
        """
        from midwife.images.errors import ProfileError
        from midwife.images.profile.file import FOLDER, read

        named = [found for found in self.files() if found.value.name == text]
        found = [one for one in named if vendor in (None, one.value.vendor)]
        if len(found) > 1:
            several = ", ".join(f"{one.place.document.file} ({one.value.vendor})" for one in found)
            raise ProfileError(f"several image profiles are called {text!r}: {several}; name the file")
        if found:
            return read(self.root, found[0].place.document.file)
        for candidate in (f"{FOLDER}/{text}.yaml", f"{FOLDER}/{text}.yml", text, f"{FOLDER}/{text}"):
            path = Path(candidate)
            inside = len(path.parts) == 2 and path.parts[0] == FOLDER and path.suffix in (".yaml", ".yml")
            if inside and (self.root / path).is_file():
                return read(self.root, candidate)
        return None

    def open(self, text: str, vendor: str | None = None) -> Opened:
        """An image profile of the site or, by NAME or DEPOT:NAME, of a depot. Raises ProfileError."""
        from midwife.images.errors import ProfileError

        file = self.find_file(text, vendor)
        if file is not None:
            return self.opened(file)
        try:
            depot, profile = self.catalogue.profile(text, vendor=vendor)
        except ProfileError as error:
            mine = [found.value.name for found in self.files()]
            near = difflib.get_close_matches(text, mine, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(mine) or 'none'}"
            raise ProfileError(f"{error}. Nor has the site an image profile {text!r}; {hint}") from None
        return Opened(self.catalogue.resolve(profile, [depot]), None, depot)

    def opened(self, file: "ProfileFile") -> Opened:
        """A profile of the site with its VIBs; of depots that are not there it says so."""
        here = set(self.catalogue.depots)
        named = dict.fromkeys([*file.depots, *file.pins.values()])
        missing = tuple(name for name in named if name not in here)
        depots = [name for name in file.depots if name in here] if file.depots else None
        pins = {vib: depot for vib, depot in file.pins.items() if depot in here}
        return Opened(self.catalogue.resolve(file.profile, depots, pins), file, missing_depots=missing)

    def vibs(self, resolved: "ResolvedProfile") -> "Callable[[str], Vib]":
        """Gives the VIBs of a profile."""
        from midwife.images.profile.proofs import vibs_of

        return vibs_of(resolved, self.depots)

    def findings(self, opened: Opened) -> "tuple[Finding, ...]":
        """Everything that is wrong with a profile."""
        return (*opened.gaps, *self.inspector.findings(opened.resolved))
