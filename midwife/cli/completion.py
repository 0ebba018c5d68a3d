"""Names for shell completion: image profiles, VIBs, depots, images. Silent about every error; a TAB is no place
for one. The heavy parts are imported when somebody presses it.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from midwife.cli.common import site_path

if TYPE_CHECKING:
    from midwife.cli.workshop import Workshop

__all__ = ["depot_names", "image_names", "own_profile_names", "profile_names", "vib_names"]


def own_profile_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Image profiles of the site."""
    return _matching(context, incomplete, lambda workshop: [one.value.name for one in workshop.files()])


def profile_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Image profiles of the site and of its depots."""

    def names(workshop: "Workshop") -> Iterable[str]:
        yield from (one.value.name for one in workshop.files())
        for depot in workshop.depots.values():
            for profile in depot.profiles:
                yield from (profile.name, f"{depot.name}:{profile.name}")

    return _matching(context, incomplete, names)


def image_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Images that can be booted, and image profiles of the site."""

    def names(workshop: "Workshop") -> Iterable[str]:
        yield from workshop.library.names()
        yield from (one.value.name for one in workshop.files())

    return _matching(context, incomplete, names)


def vib_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names and, once an underscore was typed, ids of the VIBs in the depots."""

    def names(workshop: "Workshop") -> Iterable[str]:
        for depot in workshop.depots.values():
            for vib_id, package in depot.packages.items():
                yield vib_id if "_" in incomplete else package.name

    return _matching(context, incomplete, names)


def depot_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Depots of the library."""
    return _matching(context, incomplete, lambda workshop: workshop.depot_library.names())


def _matching(
    context: click.Context, incomplete: str, names: "Callable[[Workshop], Iterable[str]]"
) -> list[str]:
    from midwife.cli.workshop import Workshop

    try:
        workshop = Workshop(site_path(context.params.get("site")))
        return sorted({name for name in names(workshop) if name.startswith(incomplete)})
    except Exception:  # whatever is wrong with the site, the command itself will say
        return []
