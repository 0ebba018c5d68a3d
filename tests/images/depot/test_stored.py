"""Records on disk: any bytes survive, a torn line is none, damage is one error; and what a stored VIB gives."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.depot.formats.records import (
    DepotRecord,
    Origin,
    StoredPayload,
    VibRecord,
    append_line,
    content_lines,
    read_manifest,
    write_manifest,
    xml_line,
    xml_of,
)
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.errors import FormatError, ImageError
from midwife.images.objects.package import SoftwarePlatform
from midwife.images.vib.container import write_vib
from tests.peers.badfiles import driver, small_bundle

SUMS = st.text("0123456789abcdef", min_size=64, max_size=64)
RECORDS = st.builds(
    VibRecord,
    id=st.text(max_size=30),
    descriptor=st.binary(max_size=100),
    signature=st.binary(max_size=30),
    headers=st.lists(st.binary(max_size=60), max_size=4).map(tuple),
    exact=st.booleans(),
    here=st.booleans(),
    payloads=st.lists(
        st.builds(StoredPayload, st.text(max_size=15), st.integers(0, 2**62), SUMS | st.just("")), max_size=3
    ).map(tuple),
    platforms=st.lists(
        st.builds(SoftwarePlatform, st.text(max_size=9), st.text(max_size=9), st.text(max_size=9)), max_size=2
    ).map(tuple),
    origin=st.none()
    | st.builds(Origin, st.text(max_size=30), st.none() | st.integers(0, 2**62), st.none() | SUMS),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(RECORDS, max_size=4))
def test_records_of_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[VibRecord]
) -> None:
    path = tmp_path_factory.mktemp("x") / "content"
    path.write_bytes(b"".join(record.line() for record in records) + xml_line("profile", b"\xff<x/>\n"))
    *vibs, (kind, _, _, line) = content_lines(path)
    assert [(kind, vib_id) for kind, vib_id, _, _ in vibs] == [("vib", record.id) for record in records]
    assert [VibRecord.parse(line) for _, _, _, line in vibs] == records
    assert (kind, xml_of(line)) == ("profile", b"\xff<x/>\n")
    assert path.read_bytes().isascii()


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_records_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("x") / "content"
    line = VibRecord("a_bootbank_b_1", b"<vib/>", payloads=(StoredPayload("p", 3, "0" * 64),)).line()
    broken = bytearray(line)
    broken[at % len(line)] = value
    for body in (data, bytes(broken), b'{"kind":"vib","id":"x"' + data + b"\n"):
        path.write_bytes(body)
        try:
            for _, _, _, found in content_lines(path):
                VibRecord.parse(found)
        except FormatError:
            continue


def test_a_torn_line_is_none_and_goes_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "content"
    first, second = VibRecord("a", b"1").line(), VibRecord("b", b"2" * 200_000).line()
    path.write_bytes(first + second[:-5])
    assert [vib_id for _, vib_id, _, _ in content_lines(path)] == ["a"]
    append_line(path, second)
    assert path.read_bytes() == first + second
    os.truncate(path, 10)
    append_line(path, second)
    assert path.read_bytes() == second


def test_the_manifest_comes_back_and_keeps_its_secrets(tmp_path: Path) -> None:
    record = DepotRecord(
        tmp_path.name, "online", "http://***@h/", "2026-11-26", url="http://u:p@h/", warnings=("w",)
    )
    write_manifest(tmp_path, record)
    write_manifest(tmp_path, replace(record, vibs=3))
    assert read_manifest(tmp_path) == replace(record, vibs=3)
    assert (tmp_path / "depot.json").stat().st_mode & 0o077 == 0
    data = json.loads((tmp_path / "depot.json").read_text())
    (tmp_path / "depot.json").write_text(json.dumps(data | {"of a later version": 1}))
    assert read_manifest(tmp_path).vibs == 3


@pytest.mark.parametrize(
    "change",
    [{"kind": "floppy"}, {"content": "../../etc/passwd"}, {"vibs": "many"}, {"warnings": 3}, {"url": None}],
)
def test_a_damaged_manifest_says_what_to_do(change: dict[str, object], tmp_path: Path) -> None:
    write_manifest(tmp_path, DepotRecord(tmp_path.name, "bundle", "x", "2026"))
    data = json.loads((tmp_path / "depot.json").read_text())
    (tmp_path / "depot.json").write_text(json.dumps(data | change))
    with pytest.raises(ImageError, match=r"is damaged; remove the depot with `midwife depot remove"):
        read_manifest(tmp_path)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("x")
    (folder / "depot.json").write_bytes(data)
    with pytest.raises(ImageError):
        read_manifest(folder)


@pytest.fixture
def library(tmp_path: Path) -> DepotLibrary:
    made = DepotLibrary(tmp_path / "data")
    made.add(str(small_bundle(tmp_path / "lab.zip", driver(), driver("other"))))
    return made


def test_a_stored_vib_is_the_vib(library: DepotLibrary) -> None:
    made = driver()
    vib = library.get("lab").vib(made.id)
    assert (vib.descriptor, vib.signature, vib.exact) == (made.descriptor, b"", True)
    assert vib.package.name == "lab-net"
    assert b"".join(vib.chunks("labnet")) == made.payloads[0].data
    assert [len(chunk) for chunk in vib.chunks("labnet", 100)][:1] == [100]
    path = vib.path("labnet")
    assert path.read_bytes() == made.payloads[0].data
    assert path.stat().st_mode & 0o222 == 0
    out = io.BytesIO()
    assert write_vib(out, vib) == (len(made.data), made.sha256)
    assert out.getvalue() == made.data


def test_asking_for_what_is_not_there(library: DepotLibrary) -> None:
    depot = library.get("lab")
    with pytest.raises(ImageError, match="depot lab has no VIB nobody"):
        depot.vib("nobody")
    with pytest.raises(ImageError, match="no such payload; there are: labnet"):
        next(depot.vib(driver().id).chunks("gone"))


def test_bytes_that_are_gone_or_cut_are_told(library: DepotLibrary) -> None:
    vib = library.get("lab").vib(driver().id)
    blob = vib.path("labnet")
    blob.chmod(0o644)
    os.truncate(blob, 5)
    for ask in (lambda: next(vib.chunks("labnet")), lambda: vib.path("labnet")):
        with pytest.raises(ImageError, match=r"gone from .*--replace"):
            ask()


def test_a_damaged_record_is_told_with_the_depots_name(library: DepotLibrary) -> None:
    content = library.get("lab").content
    data = content.read_bytes()
    content.write_bytes(data.replace(b'"payloads"', b'"payl0ads"', 1))
    with pytest.raises(FormatError, match="depot lab is damaged"):
        assert library.get("lab").packages
    content.write_bytes(b"{}\n" + data)
    with pytest.raises(FormatError, match="the record at byte 0 is damaged"):
        assert library.get("lab").profiles
    content.unlink()
    with pytest.raises(ImageError, match="changed or removed just now"):
        assert library.get("lab").packages


def test_what_is_added_later_is_seen_and_counts(library: DepotLibrary) -> None:
    depot = library.get("lab")
    assert depot.stored(driver().id).signature == b""
    append_line(depot.content, replace(depot.stored(driver().id), signature=b"\xff").line())
    assert depot.stored(driver().id).signature == b"\xff"
    assert [record.id for record in depot.records()] == sorted([driver().id, driver("other").id])


def test_a_descriptor_is_not_parsed_to_list_profiles(library: DepotLibrary) -> None:
    content = library.get("lab").content
    content.write_bytes(content.read_bytes().replace(b"<vib version", b"<bad version"))
    depot = library.get("lab")
    assert [profile.name for profile in depot.profiles] == ["lab"]
    with pytest.raises(FormatError):
        assert depot.packages
