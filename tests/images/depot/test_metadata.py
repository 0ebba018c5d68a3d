"""metadata.zip: what VMware's and others' hold, what is odd in them, and what we write ourselves."""

import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats import metadata as module
from midwife.images.depot.formats.bulletin import parse_bulletin
from midwife.images.depot.formats.index import MetadataRef
from midwife.images.depot.formats.metadata import Metadata, MetaVib, combine, read_metadata, write_metadata
from midwife.images.errors import FormatError
from midwife.images.objects.package import SoftwarePlatform
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.images.vib.describe import DepotFields, write_descriptor
from tests.peers.depotmaker import Content, metadata_members
from tests.peers.vibmaker import MadeVib, make_payload, vib

REAL = Path(__file__).parents[2] / "data"
MOMENT = datetime(2024, 6, 12, 9, 15, 7, tzinfo=UTC)


def agent(name: str = "agent", **how: object) -> MadeVib:
    return vib(name, "1.0-1", vendor="Lab", payloads=[make_payload("agent", {f"opt/{name}": b"run"})], **how)  # type: ignore[arg-type]


def packed(members: dict[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out


def xml_of(made: MadeVib, path: str = "") -> bytes:
    return made.metadata_xml(path or made.depot_path)


def read(**members: bytes) -> Metadata:
    return read_metadata(packed({name.replace("__", "/"): data for name, data in members.items()}), "m.zip")


def test_of_a_real_component_bundle(tmp_path: Path) -> None:
    bundle = next((REAL / "thgpio").rglob("*.zip"))
    with zipfile.ZipFile(bundle) as archive:
        path = Path(archive.extract("metadata.zip", tmp_path))
        found = read_metadata(path)
        assert found.warnings == ()
        for vib_id, meta in found.packages.items():
            info = archive.getinfo(str(meta.relative_path))
            assert (meta.package.id, meta.packed_size) == (vib_id, info.file_size)
        assert all(bulletin.is_component for bulletin in found.bulletins)


def test_of_a_whole_depot(esxi: Content) -> None:
    members = metadata_members(esxi, {one.id: one.depot_path for one in esxi.everything.values()})
    members |= {"baseImages/8.0.3.xml": b"<baseimage/>", "addons/x.xml": b"no XML at all", ".DS_Store": b"\0"}
    found = read_metadata(packed(members))
    assert list(found.packages) == sorted(esxi.everything)
    assert {one.name: one.vib_list for one in found.profiles} == dict(esxi.profiles)
    assert found.warnings == ()
    for vib_id, meta in found.packages.items():
        made = esxi.everything[vib_id]
        assert (meta.relative_path, meta.packed_size) == (made.depot_path, len(made.data))
        assert meta.checksum == made.sha256


def test_what_cannot_be_read_is_left_out_and_named() -> None:
    found = read(vibs__a=xml_of(agent()), vibs__b=b"<vib>", profiles__p=b"<x/>", bulletins__q=b"<bulletin/>")
    assert (list(found.packages), found.profiles, found.bulletins) == ([agent().id], (), ())
    assert [warning.partition(": not")[0].partition(": the")[0] for warning in found.warnings] == [
        "m.zip: vibs/b",
        "m.zip: profiles/p",
        "m.zip: bulletins/q",
    ]


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"vmware.xml": b"<metadataResponse/>"}, "no folders vibs, profiles or bulletins"),
        ({"vibs/a.xml": b"<vib/>"}, "vibs/a.xml: .*nothing else in it can be used"),
        ({}, "no metadata of a depot"),
    ],
)
def test_nothing_in_it(members: dict[str, bytes], told: str) -> None:
    with pytest.raises(FormatError, match=f"^m.zip.*{told}"):
        read_metadata(packed(members), "m.zip")


def test_the_same_vib_twice_is_one_and_the_newer_text_wins() -> None:
    newer = agent(edit=lambda d: d.replace(b"2024", b"2025").replace(b"What agent does", b"New"))
    found = read(vibs__1=xml_of(agent()), vibs__2=xml_of(newer), vibs__3=xml_of(agent()))
    assert found.packages[agent().id].package.description == "New."
    assert found.warnings == ()


def test_two_contents_of_one_id_are_both_left_out() -> None:
    other = agent(acceptance="community")
    found = read(vibs__1=xml_of(agent()), vibs__2=xml_of(other), vibs__3=xml_of(agent("driver")))
    assert list(found.packages) == [agent("driver").id]
    assert found.warnings == (
        f"m.zip: two different VIBs have the id {agent().id} (they differ in acceptance level); neither is used",
    )
    with pytest.raises(FormatError, match="two different VIBs"):
        read(vibs__1=xml_of(agent()), vibs__2=xml_of(other))


def test_several_metadata_zips_make_one_depot() -> None:
    profile = ImageProfile("lab", "Lab", author="Lab", modified_time=MOMENT)
    newer = replace(profile, serial=2, modified_time=MOMENT.replace(year=2025))
    old, new = Bulletin("b", release_date=MOMENT), Bulletin("b", release_date=MOMENT.replace(year=2026))
    first = read(vibs__1=xml_of(agent(), "vib20/a.vib"), vibs__2=xml_of(agent("driver")))
    second = read(vibs__1=xml_of(agent(), "vib20/b.vib"), vibs__2=xml_of(agent("tools")))
    first = replace(first, profiles=(profile,), bulletins=(new,))
    second = replace(second, profiles=(newer,), bulletins=(old, Bulletin("c")))
    both = combine([("esx/m1.zip", first), ("https://depot.example/m2.zip", second)], "depot")
    assert list(both.packages) == list(both.locations) == [agent().id, agent("driver").id, agent("tools").id]
    assert both.locations[agent().id] == "esx/vib20/a.vib"
    assert both.locations[agent("tools").id] == f"https://depot.example/{agent('tools').depot_path}"
    assert both.profiles == (newer,)
    assert both.bulletins == (new, Bulletin("c"))
    assert [warning.partition(";")[0] for warning in both.warnings] == [
        "depot: two image profiles are called 'lab' (Lab)",
        "depot: two different bulletins have the id b",
    ]


def test_a_path_that_is_missing_or_leads_out() -> None:
    silent = replace(read(vibs__1=xml_of(agent())).packages[agent().id], relative_path=None)
    evil = read(vibs__1=xml_of(agent("evil"), "../../etc/passwd")).packages
    depot = combine([("m.zip", Metadata({agent().id: silent} | evil, (), ()))], "depot")
    assert depot.locations == {agent().id: f"vib20/agent/{agent().id}.vib"}
    assert list(depot.packages) == [agent().id]
    (warning,) = depot.warnings
    assert warning.startswith(f"VIB {agent('evil').id}: m.zip: the reference ../../etc/passwd leads out")
    with pytest.raises(FormatError, match=r"no VIB of it can be used.*leads out"):
        combine([("m.zip", Metadata(evil, (), ()))], "depot")


def test_a_bomb_of_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_UNPACKED", 1 << 20)
    big = b"<vib>" + b" " * (1 << 19)
    with pytest.raises(FormatError, match=r"m\.zip has more than 1 MiB of XML"):
        read(vibs__1=big, vibs__2=big, vibs__3=big)


def test_warnings_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WARNINGS", 5)
    found = read(vibs__ok=xml_of(agent()), **{f"vibs__{number}": b"<vib/>" for number in range(20)})
    assert len(found.warnings) == 5


def ours(*made: MadeVib) -> dict[str, MetaVib]:
    out = {}
    for meta in read(**{f"vibs__{one.name}": xml_of(one) for one in made}).packages.values():
        fields = DepotFields(str(meta.relative_path), meta.packed_size or 0, str(meta.checksum))
        out[meta.package.id] = replace(meta, descriptor=write_descriptor(meta.package, depot=fields))
    return out


def written(
    vibs: dict[str, MetaVib], *more: Bulletin | ImageProfile, versions: tuple[str, ...] = ("8.*",)
) -> bytes:
    out = io.BytesIO()
    bulletins = [one for one in more if isinstance(one, Bulletin)]
    profiles = [one for one in more if isinstance(one, ImageProfile)]
    write_metadata(
        out, vibs, profiles, bulletins, [MetadataRef("metadata.zip", version=one) for one in versions]
    )
    return out.getvalue()


def test_what_is_written_is_what_is_read() -> None:
    vibs = ours(
        agent(depends=["esx-version >= 8.0.0"]), agent("driver", provides=["lab-api = 2"], tags=["driver"])
    )
    bulletin = Bulletin("lab/../x", vendor="Lab", release_date=MOMENT, vibs=tuple(vibs))
    profile = ImageProfile("lab é/../x", "Lab", author="Lab", vibs=tuple(ProfileVib(one) for one in vibs))
    data = written(vibs, bulletin, profile)
    assert read_metadata(io.BytesIO(data)) == Metadata(vibs, (profile,), (bulletin,))
    assert written(dict(reversed(vibs.items())), bulletin, profile) == data, (
        "the same bytes, whatever the order"
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert not any(".." in name.split("/") for name in archive.namelist())


def test_vmware_xml_has_the_structure_of_a_real_one() -> None:
    with zipfile.ZipFile(sorted((REAL / "thgpio").rglob("*.zip"))[0]) as bundle:
        real = read_metadata(io.BytesIO(bundle.read("metadata.zip")))
        with zipfile.ZipFile(io.BytesIO(bundle.read("metadata.zip"))) as archive:
            theirs = etree.fromstring(archive.read("vmware.xml"))
            bulletin = parse_bulletin(
                archive.read(next(name for name in archive.namelist() if name.startswith("bulletins/")))
            )
    # that tool wrote an empty version
    vibs = {
        vib_id: replace(one, package=replace(one.package, software_platforms=(SoftwarePlatform(),)))
        for vib_id, one in real.packages.items()
    }
    with zipfile.ZipFile(io.BytesIO(written(vibs, bulletin))) as archive:
        mine = etree.fromstring(archive.read("vmware.xml"))
    for root in (theirs, mine):
        for element in root.iter():
            element.text, element.tail = (element.text or "").strip(), None
        root.find("timestamp").text = ""  # type: ignore[union-attr]
    assert etree.tostring(mine, method="c14n") == etree.tostring(theirs, method="c14n")


VALID = written(ours(agent()), Bulletin("b", vibs=(agent().id,)), ImageProfile("p", "Lab"))


@settings(max_examples=150)
@given(
    st.binary()
    | st.tuples(st.integers(0, len(VALID)), st.binary(min_size=1, max_size=6)).map(
        lambda how: VALID[: how[0]] + how[1] + VALID[how[0] + len(how[1]) :]
    )
)
def test_any_bytes_are_metadata_or_an_error(data: bytes) -> None:
    try:
        found = read_metadata(io.BytesIO(data), "m.zip")
    except FormatError as error:
        assert str(error).startswith("m.zip")  # noqa: PT017
    else:
        assert found.packages or found.profiles or found.bulletins or found.warnings == ()
