"""An image is checked again: what changed takes it out of service, what was put right brings it back."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
from midwife.images.boot.manifest import FILES, MANIFEST
from midwife.images.boot.verify import VERIFIED, verify_image
from midwife.images.errors import ImageError
from tests.peers.esxiso import LookAlike


@pytest.fixture
def image(installer: LookAlike, library: Library) -> Path:
    """The files of an imported image called lab."""
    import_iso(installer.path, library, "lab")
    return library.images_dir / "lab" / FILES


def overwrite(path: Path, at: int = 5) -> bytes:
    """One byte becomes another, the size stays; gives what it was."""
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
    return data


def test_a_good_image_is_read_once(library: Library, image: Path) -> None:
    first = verify_image(library.images_dir, "lab")
    assert first.problems == ()
    assert first.hashed == first.files == len([path for path in image.rglob("*") if path.is_file()])
    assert verify_image(library.images_dir, "lab", every=False).hashed == 0
    assert verify_image(library.images_dir, "lab").hashed == first.files


def test_a_changed_file_takes_it_out_of_service_and_back(library: Library, image: Path) -> None:
    library.describe("lab")
    data = overwrite(image / "k.b00")
    verdict = verify_image(library.images_dir, "lab", every=False)
    assert verdict.problems == ("k.b00 is not what was imported (its sha256 is another)",)
    with pytest.raises(
        ImageError, match=r"lab is out of service: k\.b00 is not what .* `midwife image verify lab`"
    ):
        library.describe("lab")
    (image / "k.b00").write_bytes(data)
    with pytest.raises(ImageError, match="out of service"):
        library.describe("lab")
    assert verify_image(library.images_dir, "lab", every=False).problems == ()
    assert library.describe("lab").name == "lab"


def test_only_the_touched_file_is_read(library: Library, image: Path) -> None:
    verify_image(library.images_dir, "lab")
    os.utime(image / "sb.v00", (1, 1))
    verdict = verify_image(library.images_dir, "lab", every=False)
    assert (verdict.problems, verdict.hashed) == ((), 1)


def test_a_change_that_hides_its_date_is_seen(library: Library, image: Path) -> None:
    """The inode's own time of change can't be set back."""
    verify_image(library.images_dir, "lab")
    status = (image / "sb.v00").stat()
    overwrite(image / "sb.v00")
    os.utime(image / "sb.v00", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(verify_image(library.images_dir, "lab", every=False).problems) == 1


def test_missing_and_short_files_and_links_are_told(library: Library, image: Path) -> None:
    (image / "k.b00").unlink()
    size = (image / "sb.v00").stat().st_size
    (image / "sb.v00").write_bytes(b"short")
    (image / "s.v00").unlink()
    (image / "s.v00").symlink_to("sb.v00")
    problems = verify_image(library.images_dir, "lab").problems
    assert problems == (
        "k.b00 is missing",
        "s.v00 is no regular file",
        f"sb.v00 has 5 bytes instead of {size}",
    )
    with pytest.raises(ImageError, match=r"k\.b00 is missing \(and 2 more files\)"):
        library.describe("lab")


def test_a_missing_file_is_seen_without_verifying(tmp_path: Path, library: Library, image: Path) -> None:
    """By whoever looks at the image for the first time; putting it back is enough then."""
    kept = (image / "k.b00").read_bytes()
    (image / "k.b00").unlink()
    with pytest.raises(ImageError, match=r"lab is out of service: k\.b00 is missing"):
        library.describe("lab")
    (image / "k.b00").write_bytes(kept)
    assert library.describe("lab").kernel == "b.b00"


def test_a_broken_image_lends_no_loader(library: Library, image: Path) -> None:
    assert library.loader("mboot.efi") is not None
    overwrite(image / "k.b00")
    verify_image(library.images_dir, "lab")
    assert library.loader("mboot.efi") is None


def test_another_process_is_heard(library: Library, image: Path, tmp_path: Path) -> None:
    """`midwife image verify` is not the service: what it records, the service's library sees at once."""
    library.describe("lab")
    overwrite(image / "k.b00")
    other = Library(tmp_path / "data", {}, tmp_path)
    verify_image(other.images_dir, "lab")
    with pytest.raises(ImageError, match="out of service"):
        library.describe("lab")


def test_it_can_be_interrupted(library: Library, image: Path) -> None:
    answers: Iterator[bool] = iter([False, False, False, True])
    with pytest.raises(ImageError, match="interrupted"):
        verify_image(library.images_dir, "lab", stop=lambda: next(answers))
    assert not (image.parent / VERIFIED).exists()


def test_progress_ends_at_the_whole(library: Library, image: Path) -> None:
    seen: list[tuple[int, int]] = []
    verify_image(library.images_dir, "lab", lambda done, whole: seen.append((done, whole)))
    assert seen == sorted(seen)
    assert (
        seen[-1][0] == seen[-1][1] == sum(path.stat().st_size for path in image.rglob("*") if path.is_file())
    )


def test_nothing_is_left_beside_and_nothing_written_twice(library: Library, image: Path) -> None:
    verify_image(library.images_dir, "lab")
    before = (image.parent / VERIFIED).stat()
    verify_image(library.images_dir, "lab")
    after = (image.parent / VERIFIED).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert {path.name for path in image.parent.iterdir()} == {FILES, MANIFEST, VERIFIED}


def test_an_unknown_image_is_said(library: Library) -> None:
    with pytest.raises(ImageError, match="nobody"):
        verify_image(library.images_dir, "nobody")
    with pytest.raises(ImageError, match="not an image name"):
        verify_image(library.images_dir, "../lab")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.text(max_size=9)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4),
                st.dictionaries(st.sampled_from(["files", "problems", "k.b00", "x"]), inner, max_size=4),
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_is_in_verified_json_the_image_is_verified(
    library: Library, installer: LookAlike, state: bytes
) -> None:
    if not (library.images_dir / "lab").exists():
        import_iso(installer.path, library, "lab")
    (library.images_dir / "lab" / VERIFIED).write_bytes(state)
    assert verify_image(library.images_dir, "lab", every=False).problems == ()
    assert library.describe("lab").name == "lab"
