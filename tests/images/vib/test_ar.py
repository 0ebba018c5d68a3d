"""The ar archive, against GNU ar and arpy, and against files that lie."""

import io
import subprocess
from pathlib import Path

import arpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.errors import FormatError
from midwife.images.vib.ar import HEADER, MAGIC, MAX_MEMBERS, Member, make_header, read_members
from tests.images.vib.given import mutations

BODIES = {"descriptor.xml": b"<vib/>", "sig.pkcs7": b"", "odd": b"123", "last": b"12345"}


def archive(bodies: dict[str, bytes]) -> bytes:
    return MAGIC + b"".join(
        make_header(name, len(body)) + body + b"\n" * (len(body) % 2) for name, body in bodies.items()
    )


def members(data: bytes) -> tuple[Member, ...]:
    return read_members(io.BytesIO(data), "a.vib")


def contents(data: bytes) -> dict[str, bytes]:
    return {member.name: data[member.offset : member.offset + member.size] for member in members(data)}


def refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        members(data)
    assert str(caught.value).startswith("a.vib: ")


def test_what_we_write_gnu_ar_reads(tmp_path: Path) -> None:
    path = tmp_path / "ours.vib"
    path.write_bytes(archive(BODIES))

    listed = subprocess.run(["ar", "t", path], check=True, capture_output=True, text=True).stdout.split()
    assert listed == list(BODIES)
    for name, body in BODIES.items():
        assert subprocess.run(["ar", "p", path, name], check=True, capture_output=True).stdout == body


def test_what_gnu_ar_writes_we_read(tmp_path: Path) -> None:
    """GNU's names end in a slash, its times and owners are real."""
    for name, body in BODIES.items():
        (tmp_path / name).write_bytes(body)
    subprocess.run(["ar", "rcSU", "gnu.vib", *BODIES], cwd=tmp_path, check=True)
    data = (tmp_path / "gnu.vib").read_bytes()

    assert b"descriptor.xml/ " in data
    assert contents(data) == BODIES


@settings(max_examples=50)
@given(
    st.dictionaries(st.from_regex(r"[a-z0-9._-]{1,16}", fullmatch=True), st.binary(max_size=9), max_size=5)
)
def test_what_is_written_is_read_back_by_us_and_by_arpy(bodies: dict[str, bytes]) -> None:
    data = archive(bodies)

    assert contents(data) == bodies
    assert list(contents(data)) == list(bodies)
    with arpy.Archive(fileobj=io.BytesIO(data)) as peer:
        peer.read_all_headers()
        assert {name.decode(): peer.open(name).read() for name in peer.namelist()} == bodies


@pytest.mark.parametrize("mode", [b"0o0", b"", b"abc", b"\xff\0"])
def test_nonsense_in_modes_and_times_is_not_looked_at(mode: bytes) -> None:
    header = make_header("a", 2)
    data = MAGIC + header[:16] + b"yesterday".ljust(24) + mode.ljust(8) + header[48:] + b"ab"

    assert contents(data) == {"a": b"ab"}
    assert members(data)[0].header == data[8:68]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"PK\3\4", "a zip archive.*`midwife depot add`"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"!<arch>", "not a VIB"),
        (b"\x7fELF" * 9, "not a VIB"),
        (archive(BODIES) + b"signature", "no member starts here"),
        (archive(BODIES) + bytes(HEADER), "no member starts here"),
        (archive(BODIES)[:-3], "member last should have 5 bytes, but the file ends after 3"),
        (archive(BODIES)[:-7], "no member starts here"),
        (MAGIC + make_header("a", 0)[:48] + b"9999999999`\n", "should have 9,999,999,999 bytes"),
        (MAGIC + make_header("a", 0)[:48] + b"-1        `\n", "not a number"),
        (MAGIC + make_header("a", 0)[:48] + b"          `\n", "not a number"),
        (MAGIC + make_header("a", 0)[:48] + b"1_0       `\n", "not a number"),
        (MAGIC + b" " * 16 + make_header("a", 0)[16:], "is not the name"),
        (MAGIC + b"/".ljust(16) + make_header("a", 0)[16:], "is not the name"),
        (MAGIC + b"//".ljust(16) + make_header("a", 0)[16:], "is not the name"),
        (MAGIC + b"/123".ljust(16) + make_header("a", 0)[16:], "is not the name"),
        (MAGIC + b"a\x1b[31m".ljust(16) + make_header("a", 0)[16:], "is not the name"),
        (MAGIC + b"\xc3\xa4".ljust(16) + make_header("a", 0)[16:], "is not ASCII"),
        (MAGIC + make_header("a", 0) * (MAX_MEMBERS + 1), "more than 1000 members"),
    ],
)
def test_files_that_lie(data: bytes, reason: str) -> None:
    refused(data, reason)


def test_the_last_padding_may_be_missing_and_any_may_be_odd() -> None:
    data = archive(BODIES)
    assert contents(data[:-1]) == BODIES
    assert [member.padded for member in members(data[:-1])] == [True, True, True, False]

    assert contents(data[:-1] + b"\0") == BODIES
    assert not members(data[:-1] + b"\0")[-1].padded


@pytest.mark.parametrize("name", ["", "a" * 17, "a/b", "a b", "ä", "a\n"])
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(FormatError, match="a name in a VIB has"):
        make_header(name, 1)


@pytest.mark.parametrize("size", [-1, 10**10])
def test_sizes_that_do_not_fit(size: int) -> None:
    with pytest.raises(FormatError, match="more than a VIB can hold"):
        make_header("a", size)


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=80).map(MAGIC.__add__), mutations(archive(BODIES))))
def test_any_bytes_give_members_or_a_format_error(data: bytes) -> None:
    try:
        found = members(data)
    except FormatError:
        return
    assert all(member.offset + member.size <= len(data) for member in found)
