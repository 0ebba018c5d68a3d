"""What the service does with images when it starts: a broken one is told and refused, the others are served."""

import asyncio
from pathlib import Path

import pytest

from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
from midwife.images.boot.manifest import FILES
from midwife.images.boot.verify import VERIFIED
from midwife.images.errors import ImageError
from midwife.serve.control.imagecheck import ImageCheck
from tests.peers.esxiso import look_alike


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Two images, alpha and beta."""
    library = Library(tmp_path / "data", {}, tmp_path)
    iso = look_alike(tmp_path).path
    import_iso(iso, library, "alpha")
    import_iso(iso, library, "beta")
    return library


async def checked(library: Library, notes: list[tuple[str, str]]) -> None:
    """Until the check is over."""
    check = ImageCheck(lambda kind, text: notes.append((kind, text)))
    check.start(library.images_dir)
    task = next(one for one in asyncio.all_tasks() if one is not asyncio.current_task())
    await asyncio.wait_for(task, 30)
    check.close()


def test_a_broken_image_is_told_and_refused(library: Library) -> None:
    module = library.images_dir / "alpha" / FILES / "k.b00"
    module.write_bytes(bytes(module.stat().st_size))
    notes: list[tuple[str, str]] = []
    asyncio.run(checked(library, notes))
    assert notes == [
        (
            "image-broken",
            "alpha is out of service: k.b00 is not what was imported (its sha256 is another)",
        )
    ]
    with pytest.raises(ImageError, match="out of service"):
        library.describe("alpha")
    assert library.describe("beta").name == "beta"


def test_good_images_are_no_news(library: Library) -> None:
    notes: list[tuple[str, str]] = []
    asyncio.run(checked(library, notes))
    assert notes == []
    assert (library.images_dir / "beta" / VERIFIED).exists()


def test_no_images_at_all(tmp_path: Path) -> None:
    notes: list[tuple[str, str]] = []
    asyncio.run(checked(Library(tmp_path, {}, tmp_path), notes))
    assert notes == []


def test_the_service_can_end_in_the_middle(library: Library) -> None:
    """asyncio waits for its threads, so they must see that they are not wanted any more."""

    async def begin_and_end() -> None:
        check = ImageCheck(lambda kind, text: None)
        check.start(library.images_dir)
        await asyncio.sleep(0)
        check.close()

    asyncio.run(asyncio.wait_for(begin_and_end(), 10))
    assert not (library.images_dir / "beta" / VERIFIED).exists()
