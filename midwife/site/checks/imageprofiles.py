"""Is each image profile the only one of its name, and each of its VIBs there once and in one version?"""

from collections.abc import Iterator

from midwife.site.draft import Draft, Found
from midwife.site.imageprofile import ImageProfileFile, vib_name
from midwife.site.problems import Problem

__all__ = ["check_image_profiles"]


def check_image_profiles(draft: Draft) -> Iterator[Problem]:
    """What can be said without the depot library; a GUID that two share is a warning, the rest are errors."""
    names: dict[tuple[str, str], str] = {}
    guids: dict[str, str] = {}
    for found in draft.image_profiles:
        profile, place = found.value, found.place
        first = names.setdefault((profile.name.casefold(), profile.vendor.casefold()), place.line)
        if first != place.line:
            what = f"an image profile {profile.name!r} of {profile.vendor!r} is in {first} already"
            yield place.at("name").problem(what, "name and vendor together are unique; change one of them")
        if profile.guid and (twin := guids.setdefault(profile.guid, place.line)) != place.line:
            what = f"guid: that of {twin}; a copied file is another profile"
            yield place.at("guid").problem(
                what, "take the line out, midwife writes a new one", level="warning"
            )
        if found.whole:  # where an entry was taken out, the others have moved
            yield from _vibs(found)
            yield from _depots(found)


def _vibs(found: Found[ImageProfileFile]) -> Iterator[Problem]:
    ids: dict[str, int] = {}
    names: dict[str, int] = {}
    for index, entry in enumerate(found.value.vibs):
        place = found.place.at("vibs", index)
        if ids.setdefault(entry.id, index) != index:
            what = f"{entry.id} is in this profile twice (first: {_line(found, ids[entry.id])})"
            yield place.problem(what, "take one out")
            continue
        name, version = vib_name(entry.id)
        first = names.setdefault(name, index)
        other = found.value.vibs[first].id
        if first != index and vib_name(other)[1] != version:
            what = f"{name} is in this profile in two versions: {other} ({_line(found, first)})"
            yield place.problem(f"{what} and this one", "a profile holds one version of a VIB; take one out")


def _depots(found: Found[ImageProfileFile]) -> Iterator[Problem]:
    listed = found.value.depots
    for index, depot in enumerate(listed):
        if depot in listed[:index]:
            yield found.place.at("depots", index).problem(
                f"the depot {depot} is listed twice", "take one out"
            )


def _line(found: Found[ImageProfileFile], index: int) -> str:
    return f"line {found.place.at('vibs', index).line.rpartition(':')[2]}"
