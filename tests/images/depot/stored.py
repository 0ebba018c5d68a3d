"""What is on the disk of a depot library, and its VIBs as files again."""

import io

from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.depot.kept.stored import StoredDepot
from midwife.images.vib.container import write_vib
from tests.peers.depotmaker import Content

__all__ = ["blobs", "files", "on_disk", "originals"]


def on_disk(library: DepotLibrary) -> dict[str, int]:
    """Everything below the library but its lock, with sizes."""
    found = {
        str(path.relative_to(library.root)): path.stat().st_size
        for path in library.root.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    assert not list(library.root.glob(".tmp-*")), "a draft was left"
    return found


def blobs(library: DepotLibrary) -> list[str]:
    return sorted(path.name for path in library.blobs.root.rglob("*") if path.is_file())


def files(depot: StoredDepot) -> dict[str, bytes]:
    """Every VIB of a depot, written as a file again."""
    found = {}
    for vib_id in depot.packages:
        out = io.BytesIO()
        write_vib(out, depot.vib(vib_id))
        found[vib_id] = out.getvalue()
    return found


def originals(content: Content) -> dict[str, bytes]:
    return {vib_id: made.data for vib_id, made in sorted(content.everything.items())}
