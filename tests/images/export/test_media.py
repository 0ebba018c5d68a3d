"""Where loaders are taken from: an ISO, a folder with its files, an imported image."""

from pathlib import Path

import pytest

from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
from midwife.images.errors import ImageError
from midwife.images.export.media import Medium
from tests.peers.esxiso import LookAlike


@pytest.fixture
def folder(tmp_path: Path, installer: LookAlike) -> Path:
    """The files of an ISO as an extractor may leave them: names in upper case."""
    root = tmp_path / "media"
    for name, data in installer.content.items():
        target = root / name.upper()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root


def test_all_three_give_the_same_files(installer: LookAlike, folder: Path, library: Library) -> None:
    import_iso(installer.path, library, "lab")
    for path in (installer.path, folder, library.images_dir / "lab"):
        with Medium(path) as medium:
            found = {name: b"".join(medium.chunks(name, 100)) for name in medium.sizes}
            assert found == dict(installer.content)
            assert medium.sizes == {name: len(data) for name, data in found.items()}


def test_links_are_not_followed(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "secret").write_bytes(b"not yours")
    (folder / "mboot.efi").symlink_to(tmp_path / "secret")
    (folder / "elsewhere").symlink_to(tmp_path)
    with Medium(folder) as medium:
        assert "mboot.efi" not in medium.sizes
        assert not [name for name in medium.sizes if "secret" in name]


def test_a_file_that_became_a_link_is_not_followed_either(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "secret").write_bytes(b"not yours")
    with Medium(folder) as medium:
        (folder / "MBOOT.C32").unlink()
        (folder / "MBOOT.C32").symlink_to(tmp_path / "secret")
        with pytest.raises(ImageError, match=r"cannot read .*MBOOT\.C32"):
            list(medium.chunks("mboot.c32"))


def test_a_file_that_shrinks_is_told(folder: Path) -> None:
    with Medium(folder) as medium:
        (folder / "MBOOT.C32").write_bytes(b"short")
        with pytest.raises(ImageError, match="became shorter"):
            list(medium.chunks("mboot.c32"))


def test_small_files_and_their_limit(folder: Path, installer: LookAlike) -> None:
    with Medium(folder) as medium:
        assert medium.read("boot.cfg") == installer.content["boot.cfg"]
        assert medium.read("nothing") == b""
        with pytest.raises(ImageError, match=r"boot\.cfg has \d+ bytes, more than it may have"):
            medium.read("boot.cfg", 10)


def test_what_is_no_medium(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        Medium(tmp_path / "nothing.iso")
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(ImageError, match="is not an ISO 9660 image"):
        Medium(tmp_path / "page.html")
