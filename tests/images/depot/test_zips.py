"""Zips from anywhere: every member where it lies, any bytes an answer or an error, and nothing believed."""

import io
import random
import shutil
import struct
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.images.depot.formats import zips
from midwife.images.depot.formats.zips import ZipReader, member_info, member_name, stable_number
from midwife.images.errors import FormatError

NOISE = random.Random(3).randbytes(5 << 20)
LONG = NOISE + bytes(9 << 20) + b"abc" * 500_000
DEFLATED, STORED = zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED


def made(members: dict[str, bytes], kind: int = DEFLATED, comment: bytes = b"") -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return out


def content(archive: ZipReader) -> dict[str, bytes]:
    return {member.name: archive.read(member) for member in archive.members}


def patched(data: bytes, signature: bytes, at: int, layout: str, value: int) -> io.BytesIO:
    """One field of the first record with that signature changed."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, data.index(signature) + at, value)
    return io.BytesIO(bytes(changed))


@pytest.fixture(scope="module")
def long_member() -> bytes:
    return made({"long": LONG, "short": b"short"}).getvalue()


@pytest.mark.parametrize("kind", [DEFLATED, STORED])
def test_members_are_what_was_put_in(kind: int) -> None:
    members = {"index.xml": b"<x/>", "empty": b"", "a/b c#1.txt": b"text" * 1000, "noise": NOISE[:100_000]}
    assert content(ZipReader(made(members, kind), "x.zip")) == members


@pytest.mark.skipif(not shutil.which("zip"), reason="zip is not installed")
def test_a_zip_that_infozip_wrote(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"hello" * 100)
    (tmp_path / "noise").write_bytes(NOISE[:1000])
    subprocess.run(["zip", "-r", "-q", "x.zip", "folder", "noise"], cwd=tmp_path, check=True)
    with (tmp_path / "x.zip").open("rb") as file:
        assert content(ZipReader(file, "x.zip")) == {"folder/file": b"hello" * 100, "noise": NOISE[:1000]}


def test_a_deflated_member_is_read_from_anywhere(long_member: bytes) -> None:
    archive = ZipReader(io.BytesIO(long_member), "x.zip")
    member = archive.find("long")
    assert member
    order = random.Random(4)
    with archive.open(member) as file:
        for _ in range(60):
            at, count = order.randrange(len(LONG)), order.choice([1, 1000, 1 << 20, 3 << 20])
            file.seek(at)
            assert file.read(count) == LONG[at : at + count]
        assert file.seek(0, 2) == len(LONG)
        assert file.read() == b""


def test_going_back_does_not_start_again_from_the_beginning(long_member: bytes) -> None:
    """Reading a VIB in a deflated zip goes back and forth; each way back must cost a few MiB at most."""
    packed = CountingFile(long_member)
    archive = ZipReader(packed, "x.zip")
    member = archive.find("long")
    assert member
    with archive.open(member) as file:
        file.seek(len(LONG) - 1)
        file.read(1)
        packed.count = 0
        for at in (4 << 20, 3 << 20, 2 << 20, 1 << 20):
            file.seek(len(NOISE) - at)
            assert file.read(1) == LONG[len(NOISE) - at :][:1]
    assert packed.count < 4 * len(NOISE), "not even as much as four times the part that does not compress"


class CountingFile(io.BytesIO):
    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_zip_in_a_zip_is_read_in_place() -> None:
    inner = made({"a": NOISE[:300_000], "b": b"text" * 1000}).getvalue()
    for kind in (DEFLATED, STORED):
        outer = ZipReader(made({"inner.zip": inner}, kind), "outer.zip")
        archive = ZipReader(outer.open(outer.members[0]), "outer.zip: inner.zip")
        a, b = (archive.open(member) for member in archive.members)
        assert (a.read(10), b.read(4), a.read(10)) == (NOISE[:10], b"text", NOISE[10:20]), "both at a time"


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("/vib20/x.vib", "vib20/x.vib"),
        ("vib20\\x\\x.vib", "vib20/x/x.vib"),
        ("./a//b/./c", "a/b/c"),
        ("a/../b", "b"),
        ("../etc/passwd", None),
        ("a/../../b", None),
        ("/", None),
        ("", None),
    ],
)
def test_names(raw: str, name: str | None) -> None:
    assert member_name(raw) == name


def test_finding_a_member_however_its_name_was_written() -> None:
    archive = ZipReader(made({"/Vib20\\X.vib": b"1", "../../evil": b"2", "index.xml": b"3"}), "x.zip")
    assert [member.name for member in archive.members] == ["Vib20/X.vib", "index.xml"]
    assert archive.find("vib20/x.VIB") == archive.find("/Vib20/X.vib") == archive.members[0]
    assert archive.find("evil") is None
    assert archive.find("../index.xml") is None


def test_two_members_of_one_name() -> None:
    # "samf" becomes a second "same": zipfile itself would warn of what we are about to do
    data = made({"same": b"1", "samf": b"1", "other": b"1", "othes": b"2"}).getvalue()
    out = io.BytesIO(data.replace(b"samf", b"same").replace(b"othes", b"other"))
    found = ZipReader(out, "x.zip")
    assert found.find("same")
    with pytest.raises(FormatError, match="two different members called other"):
        found.find("other")


ONE = made({"index.xml": b"<vendorList/>" * 20}).getvalue()
PLAIN = made({"index.xml": b"<vendorList/>" * 20}, STORED).getvalue()
CENTRAL, LOCAL, END = b"PK\1\2", b"PK\3\4", b"PK\5\6"


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (patched(ONE, CENTRAL, 8, "<H", 1), "encrypted"),
        (patched(ONE, CENTRAL, 10, "<H", 93), "packed by method 93"),
        (patched(ONE, CENTRAL, 24, "<I", 100), "longer than the 100 bytes"),
        (patched(ONE, CENTRAL, 24, "<I", 1 << 20), "cut off: it should have 1,048,576 bytes"),
        (patched(ONE, CENTRAL, 24, "<I", 1 << 30), "has 1073741824 bytes unpacked; 8388608 at most"),
        (patched(ONE, CENTRAL, 16, "<I", 1), "CRC is wrong"),
        (patched(ONE, CENTRAL, 20, "<I", 1 << 20), "not where the zip says"),
        (patched(ONE, CENTRAL, 20, "<I", 5), "cut off|damaged"),
        (patched(PLAIN, CENTRAL, 24, "<I", 100), "two sizes, 100 and 260"),
        (patched(ONE, LOCAL, 26, "<H", 60_000), "not where the zip says"),
        (patched(ONE, LOCAL, 0, "<I", 0), "not where the zip says"),
    ],
)
def test_members_that_lie(file: io.BytesIO, told: str) -> None:
    archive = ZipReader(file, "x.zip")
    with pytest.raises(FormatError, match=told) as refused:
        archive.read(archive.members[0])
    assert str(refused.value).startswith("x.zip: index.xml")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no zip, or cut off"),
        (b"<html>" * 100, "no zip, or cut off"),
        (ONE[:-30], "no zip, or cut off"),
        (patched(ONE, END, 12, "<I", 9 << 20).getvalue(), "directory of 9437184 bytes"),
        (patched(ONE, END, 12, "<I", 0xFFFFFFFF).getvalue(), "directory of 4294967295 bytes"),
        (patched(ONE, END, 12, "<I", 40).getvalue(), "no readable zip"),
    ],
)
def test_what_is_no_zip(data: bytes, told: str) -> None:
    with pytest.raises(FormatError, match=told) as refused:
        ZipReader(io.BytesIO(data), "x.zip")
    assert str(refused.value).startswith("x.zip")


def test_a_directory_that_hides_in_the_comment() -> None:
    """The end record is looked for from the end; one in the comment must not get round the limit."""
    hidden = patched(ONE, END, 12, "<I", 9 << 20).getvalue()
    small = END + bytes(18)
    with pytest.raises(FormatError, match="directory of 9437184 bytes"):
        ZipReader(io.BytesIO(hidden + small), "x.zip")


def test_too_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "_MAX_MEMBERS", 10)
    with pytest.raises(FormatError, match="11 members; 10 at most"):
        ZipReader(made({str(number): b"" for number in range(11)}), "x.zip")


def test_a_zip_with_a_comment_and_one_with_something_before_it() -> None:
    for file in (
        made({"a": b"1"}, comment=b"c" * 65_535),
        io.BytesIO(b"#!/bin/sh\n" + made({"a": b"1"}).getvalue()),
    ):
        assert content(ZipReader(file, "x.zip")) == {"a": b"1"}


def test_a_reader_that_was_closed(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(PLAIN)
    with (tmp_path / "x.zip").open("rb") as file:
        archive = ZipReader(file, "x.zip")
        member = archive.open(archive.members[0])
    with pytest.raises(ValueError, match="was closed"):
        member.read()


def test_what_we_write_is_always_the_same() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    for out in (first, second):
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(member_info("a", stored=True), b"1")
            archive.writestr(member_info("b", stored=False), b"2" * 100)
    assert first.getvalue() == second.getvalue()
    assert (stable_number("x"), stable_number("\ud800")) == (stable_number("x"), stable_number("\ud800"))
    assert stable_number("x") != stable_number("y")


@given(
    st.binary()
    | st.tuples(st.sampled_from([ONE, PLAIN]), st.integers(0, 400), st.binary(max_size=4)).map(
        lambda how: how[0][: how[1]] + how[2] + how[0][how[1] + len(how[2]) :]
    )
)
def test_any_bytes_are_a_zip_or_an_error(data: bytes) -> None:
    with suppress(FormatError):
        archive = ZipReader(io.BytesIO(data), "x.zip")
        for member in archive.members:
            with suppress(FormatError):
                assert len(archive.read(member)) == member.size
