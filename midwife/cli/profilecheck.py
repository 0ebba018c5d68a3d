"""What ``midwife check`` says of image profiles beyond their form: warnings, because booting needs none of them.

The site layer knows no depots; so this looks after it, and only at sites that have profiles and no errors.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from midwife.cli.tables import count
from midwife.cli.workshop import Workshop

if TYPE_CHECKING:
    from midwife.site.draft import Found
    from midwife.site.imageprofile import ImageProfileFile
    from midwife.site.problems import Problem

__all__ = ["profile_warnings"]


def profile_warnings(site: Path) -> "Iterator[Problem]":
    """Depots that are not in the library, and profiles that are not valid. Raises nothing."""
    workshop = Workshop(site)
    for found in workshop.files():
        yield from _of_one(workshop, found)


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
            hint = f"midwife image validate {profile.name} tells what would mend it"
            yield place.problem(what, hint, level="warning")
    except ImageError as error:
        yield place.problem(f"image profile {profile.name!r}: {error}", level="warning")
