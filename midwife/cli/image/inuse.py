"""Who needs an image of the library: hosts and rules that name it, machines that are loading it at this moment.

For warnings of commands that take an image away or put another one in its place.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from midwife.core.lifecycle import State
from midwife.site.draft import Draft

__all__ = ["loading_now", "named_in"]


def named_in(draft: Draft, image: str) -> list[str]:
    """Where the site names the image: ``hosts/esx-01.yaml:3``."""
    if image in draft.images:
        return []  # the site describes one of that name itself, and that one counts
    spots = [found.place.at("imported") for found in draft.images.values() if found.value.imported == image]
    spots += [found.place.at("image") for found in draft.hosts if found.value.image == image]
    spots += [found.place.at("image") for found in draft.items if found.value.image == image]
    return [spot.line for spot in spots]


def loading_now(draft: Draft, image: str) -> list[str]:
    """Hosts that are loading the image, under whatever name; none if that is not known."""
    names = {image, *(name for name, found in draft.images.items() if found.value.imported == image)}
    return sorted(_loading(draft.data / "midwife.db", names))


def _loading(database: Path, images: Iterable[str]) -> Iterable[str]:
    if not database.is_file():
        return ()
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            rows = db.execute("SELECT id, image FROM hosts WHERE state = ?", (State.LOADING.value,))
            return [host for host, image in rows if image in images]
    except sqlite3.Error:
        return ()
