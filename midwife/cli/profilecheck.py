"""What ``midwife check`` says of images and image profiles beyond their form, as warnings.

The site layer knows neither depots nor what is in an image; so this looks after it, and only at sites that have
no errors.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from midwife.cli.tables import count
from midwife.cli.workshop import Workshop

if TYPE_CHECKING:
    from midwife.site.draft import Found
    from midwife.site.imageprofile import ImageProfileFile
    from midwife.site.problems import Problem

__all__ = ["image_warnings", "invalid_profiles", "profile_warnings"]


_VALIDATE = "midwife image validate"


def profile_warnings(site: Path) -> "Iterator[Problem]":
    """Depots that are not in the library, and profiles that are not valid. Raises nothing."""
    workshop = Workshop(site)
    for found in workshop.files():
        yield from _of_one(workshop, found)


def invalid_profiles(site: Path, names: Collection[str]) -> "Iterator[Problem]":
    """Of the image profiles with these names those that do not validate, as errors. Raises nothing.

    One whose depots are not here cannot be judged, and its image may be as good as ever: it is passed over.
    """
    workshop = Workshop(site)
    for found in workshop.files():
        if found.value.name in names:
            for problem in _of_one(workshop, found):
                if problem.hint.startswith(_VALIDATE):
                    yield replace(problem, level="error")


def image_warnings(site: Path) -> "Iterator[Problem]":
    """Images that hosts or rules name and that cannot be served, each where it is named first. Raises nothing."""
    from midwife.images.errors import ImageError

    workshop = Workshop(site)
    draft = workshop.draft
    named = [(found.value.image, found.place) for found in draft.hosts]
    named += [(found.value.image, found.place) for found in draft.items]
    told: set[str | None] = {None}
    for name, place in named:
        if name is None or name in told:
            continue
        told.add(name)
        try:
            workshop.library.describe(name)
        except ImageError as error:
            yield place.at("image").problem(str(error), level="warning")


def _of_one(workshop: Workshop, found: "Found[ImageProfileFile]") -> "Iterator[Problem]":
    from midwife.images.errors import ImageError
    from midwife.images.profile.file import read

    profile, place = found.value, found.place
    try:
        opened = workshop.opened(read(workshop.root, place.document.file))
        gone = [name for name in opened.missing_depots if name in profile.depots]
        for name in gone:
            what = f"the depot {name} is not in the library"
            hint = f"bring it: midwife depot add SOURCE --name {name}"
            yield place.at("depots", profile.depots.index(name)).problem(what, hint, level="warning")
        for number, vib in enumerate(profile.vibs):
            if vib.depot in opened.missing_depots and vib.depot not in gone:
                what = f"the depot {vib.depot} is not in the library"
                hint = f"bring it: midwife depot add SOURCE --name {vib.depot}"
                yield place.at("vibs", number, "depot").problem(what, hint, level="warning")
        if findings := workshop.findings(opened)[len(opened.gaps) :]:
            first = findings[0].reason.rstrip(".")
            what = f"image profile {profile.name!r} has {count(len(findings), 'problem')}: {first}"
            hint = f"{_VALIDATE} {profile.name} tells what would mend it"
            yield place.problem(what, hint, level="warning")
    except ImageError as error:
        yield place.problem(f"image profile {profile.name!r}: {error}", level="warning")
