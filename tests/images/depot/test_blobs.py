"""Blobs: the address is the content, nothing half has a name, nothing that is referred to goes."""

import hashlib
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.depot.kept.blobs import Blobs
from midwife.images.errors import FormatError


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def files(blobs: Blobs) -> list[str]:
    return sorted(path.name for path in blobs.root.rglob("*") if path.is_file())


def test_a_blob_is_found_by_its_sum_and_nobody_may_write_to_it(blobs: Blobs) -> None:
    found = blobs.put([b"ab", b"", b"c"])
    assert found == sha256(b"abc")
    assert blobs.path(found) == blobs.root / found[:2] / found
    assert blobs.path(found).read_bytes() == b"abc"
    assert stat.S_IMODE(blobs.path(found).stat().st_mode) == 0o444
    assert blobs.has(found, 3)
    assert not blobs.has(found, 4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=6))
def test_any_chunks_come_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    blobs = Blobs(tmp_path_factory.mktemp("x") / "blobs")
    assert blobs.path(blobs.put(chunks)).read_bytes() == b"".join(chunks)


def test_what_is_not_as_promised_is_not_kept(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="its sha256 is"):
        blobs.put([b"abc"], expected=sha256(b"abd"))
    for size in (2, 4):
        with pytest.raises(FormatError, match=f"but {size} are promised"), blobs.writing(tmp_path) as writer:
            writer.put([b"a", b"bc"], None, size)
    assert files(blobs) == []


def test_a_lie_about_the_size_is_not_read_to_its_end(blobs: Blobs, tmp_path: Path) -> None:
    asked = []

    def endless() -> object:
        while True:
            asked.append(1)
            yield b"x" * 10

    with pytest.raises(FormatError, match="more than 25 bytes"), blobs.writing(tmp_path) as writer:
        writer.put(endless(), None, 25)  # type: ignore[arg-type]
    assert len(asked) == 3


def test_the_same_bytes_are_stored_once(blobs: Blobs, tmp_path: Path) -> None:
    with blobs.writing(tmp_path) as writer:
        first = writer.put([b"abc"])
        assert writer.known(first, 3), "put just now, though the disk may not have it yet"
        assert (writer.written, writer.shared) == (3, 3)
    with blobs.writing(tmp_path) as writer:
        assert writer.known(first, 3)
        assert not writer.known(first, 2), "another size: damaged, so not the same"
    assert files(blobs) == [first]


def test_writing_anew_mends_a_blob_that_the_disk_has_damaged(blobs: Blobs, tmp_path: Path) -> None:
    found = blobs.put([b"abc"])
    linked = tmp_path / "linked"
    linked.hardlink_to(blobs.path(found))
    blobs.path(found).chmod(0o644)
    blobs.path(found).write_bytes(b"abX")
    with blobs.writing(tmp_path, anew=True) as writer:
        assert not writer.known(found, 3)
        writer.put([b"abc"], found, 3)
    assert blobs.path(found).read_bytes() == b"abc"
    assert linked.read_bytes() == b"abX", "whoever links to the old file keeps it"


def test_the_sweep_takes_everything_that_nobody_refers_to(blobs: Blobs) -> None:
    kept, gone = blobs.put([b"kept"]), blobs.put([b"gone!"])
    (blobs.root / kept[:2] / ".tmp-x").write_bytes(b"1234")
    assert blobs.sweep({kept}) == 5 + 4
    assert files(blobs) == [kept]
    assert not blobs.has(gone)
    assert blobs.sweep({kept}) == 0


def test_sweeping_nothing(blobs: Blobs) -> None:
    assert blobs.sweep(()) == 0


@pytest.mark.parametrize("name", ["", "..", "x" * 64, "A" * 64, "0" * 63, "0" * 65, "../" + "0" * 61])
def test_an_address_is_a_sum_and_nothing_else(name: str, blobs: Blobs) -> None:
    with pytest.raises(ValueError, match="is not a SHA-256"):
        blobs.path(name)
