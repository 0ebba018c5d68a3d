"""Writing whole or not at all, and hashing aside: what every import and export stands on."""

import errno
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from midwife.images.disk import (
    LARGER_DISK,
    check_space,
    new_file,
    replacing,
    told_size,
    unwritable,
    write_all,
)
from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK, FileHash


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with replacing(target, 0o600) as out:
        out.write(b"new")
        assert target.read_bytes() == b"old", "until everything is written"
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_whatever_goes_wrong_leaves_the_old_one(error: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")

    def write() -> None:
        with replacing(tmp_path / "x") as out:
            out.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_it_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bool]] = []

    def fsync(fd: int) -> None:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        synced.append((name, (tmp_path / "x").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(tmp_path / "x") as out:
        out.write(b"new")
    (draft, there), folder = synced
    assert draft.startswith(".tmp-x-")
    assert not there
    assert folder == (tmp_path.name, True), "then the name itself"


def test_a_file_that_a_user_named(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with new_file(tmp_path / "x") as out:
            out.write(b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640, "as the umask says"
    with pytest.raises(ImageError, match="is a directory; give the name of the file"), new_file(tmp_path):
        pass
    with (
        pytest.raises(ImageError, match=r"cannot write .*nowhere/x: No such file .*; nothing was kept"),
        new_file(tmp_path / "nowhere" / "x"),
    ):
        pass


def test_a_short_write_is_gone_on_with() -> None:
    written = bytearray()

    def short(data: memoryview) -> int:
        written.extend(data[:3])
        return min(3, len(data))

    write_all(short, b"more than three bytes")
    assert written == b"more than three bytes"


def test_words_for_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    told = str(unwritable(full, Path("/srv/x"), LARGER_DISK))
    assert told.startswith(
        "no room to write /srv/x: No space left on device; nothing was kept; make room, or"
    )
    assert "no room" not in str(unwritable(OSError(errno.EACCES, "Permission denied"), Path("/srv/x")))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=17 << 20))
    check_space(Path("/srv"), 1 << 20, "the image")
    with pytest.raises(ImageError, match=r"the image needs 17.0 MiB in /srv, but only 17.0 MiB are free"):
        check_space(Path("/srv"), (1 << 20) + 1, "the image")


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_sizes_for_people(count: int, told: str) -> None:
    assert told_size(count) == told


def test_a_file_is_hashed_while_its_parts_are_read(tmp_path: Path) -> None:
    data = os.urandom(3 * BLOCK + 5)
    (tmp_path / "x").write_bytes(data)
    with (tmp_path / "x").open("rb") as file, FileHash(tmp_path / "x", file) as whole:
        assert file.read(10) == data[:10]
        assert whole.result() == hashlib.sha256(data).hexdigest()
        assert (whole.done, whole.running()) == (len(data), False)
        assert file.tell() == 10, "its owner's position is left alone"


def test_what_cannot_be_read_is_told_by_the_result(tmp_path: Path) -> None:
    with (
        pytest.raises(ImageError, match=r"cannot read .*gone: No such file"),
        FileHash(tmp_path / "gone") as whole,
    ):
        whole.result()
