"""Offline bundles: real ones, every odd layout that is known, and what is wrong with those that are refused."""

import hashlib
import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midwife.images.depot.sources.bundle import OfflineBundle
from midwife.images.errors import FormatError, ImageError
from midwife.images.vib.archives.payload import check_payload
from tests.peers.depotmaker import Content, write_bundle
from tests.peers.vibmaker import MadeVib, make_payload, vib

REAL = Path(__file__).parents[2] / "data"
BUNDLES = sorted([*REAL.glob("ghettoVCB/*.zip"), *REAL.glob("packer/*.zip"), *REAL.rglob("thgpio/**/*.zip")])
Members = dict[str, bytes]


def driver(name: str = "lab-net", **how: object) -> MadeVib:
    payloads = [make_payload("labnet", {f"opt/lab/{name}": random.Random(name).randbytes(3000)})]
    return vib(name, "1.0-1", **({"vendor": "Lab", "payloads": payloads} | how))  # type: ignore[arg-type]


def small(*vibs: MadeVib) -> Content:
    return Content("8.0.3", "8.0.3-0.0.1", {"lab": tuple(one.id for one in vibs)}, vibs)


def renaming(old: str, new: str) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[new] = members.pop(old)

    return change


def replacing(name: str, old: bytes, new: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        (found,) = [one for one in members if one.startswith(name)]
        assert old in members[found]
        members[found] = members[found].replace(old, new)

    return change


def assert_complete(path: Path, content: Content) -> None:
    """Every VIB and profile is there, byte for byte."""
    with OfflineBundle(path) as depot:
        assert list(depot.packages) == sorted(content.everything)
        assert {one.name: one.vib_list for one in depot.profiles} == dict(content.profiles)
        assert depot.warnings == ()
        for vib_id, made in content.everything.items():
            opened = depot.vib(vib_id)
            assert (opened.descriptor, opened.signature, opened.size) == (
                made.descriptor,
                made.signature,
                len(made.data),
            )
            for payload in made.payloads:
                assert b"".join(opened.chunks(payload.name, 1000)) == payload.data


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_real_bundles(path: Path) -> None:
    with OfflineBundle(path) as depot:
        assert (len(depot.packages), len(depot.bulletins), depot.warnings) == (1, 1, ())
        (vib_id,) = depot.packages
        assert depot.bulletins[0].vibs == (vib_id,)
        opened = depot.vib(vib_id)
        assert opened.package == depot.packages[vib_id]
        for payload in opened.package.payloads:
            check_payload(opened, payload, every=True)


def test_the_look_alike_of_esxi(esxi: Content, esxi_bundle: Path) -> None:
    assert_complete(esxi_bundle, esxi)


@pytest.mark.parametrize(
    "odd",
    [
        {"deflate_vibs": True},
        {"nested": "stored"},
        {"nested": "deflated", "deflate_vibs": True},
        {"layout": "v-front"},
        {"layout": "v-front", "leading_slash": True, "nested": "deflated"},
        {"change": renaming("index.xml", "INDEX.XML")},
        {"change": lambda members: members.update({"readme.txt": b"hello", "vib20/": b""})},
        {"change": lambda members: members.update({f"depot/{one}": members.pop(one) for one in [*members]})},
        {
            "change": lambda members: members.update(
                {one.replace("/", "\\"): members.pop(one) for one in [*members]}
            )
        },
    ],
    ids=[
        "deflated",
        "in a zip",
        "deflated in a zip",
        "V-Front",
        "V-Front, odd",
        "capitals",
        "more",
        "folder",
        "Windows",
    ],
)
def test_odd_layouts(odd: dict[str, object], esxi: Content, tmp_path: Path) -> None:
    assert_complete(write_bundle(tmp_path / "x.zip", esxi, **odd), esxi)  # type: ignore[arg-type]


def test_beside_a_read_me_in_a_driver_download(tmp_path: Path) -> None:
    content = small(driver())
    inner = write_bundle(tmp_path / "Lab-offline_bundle.zip", content).read_bytes()
    with zipfile.ZipFile(tmp_path / "download.zip", "w") as outer:
        outer.writestr("doc/README.txt", "hello")
        outer.writestr("__MACOSX/._Lab-offline_bundle.zip", b"\0")
        outer.writestr("driver/Lab-offline_bundle.zip", inner)
        outer.writestr("driver/lab-net.vib", content.vibs[0].data)
    assert_complete(tmp_path / "download.zip", content)


def test_several_vendors_and_versions_with_one_metadata_zip(tmp_path: Path) -> None:
    def change(members: Members) -> None:
        vendor = b"<vendor><indexfile>vendor-index.xml</indexfile><relativePath>%b</relativePath></vendor>"
        members["index.xml"] = (
            b"<vendorList>" + vendor % b"" + vendor % b"esx/vmw" + vendor % b"gone" + b"</vendorList>"
        )
        node = b"<metadata><version>%b</version><url>%b</url></metadata>"
        urls = [
            (b"7.0.0", b"../../metadata.zip"),
            (b"8.0.0", b"/metadata.zip"),
            (b"4.0", b"esx4-metadata.zip"),
        ]
        members["esx/vmw/vendor-index.xml"] = (
            b"<metaList>" + b"".join(node % one for one in urls) + b"</metaList>"
        )

    content = small(driver(), driver("other"))
    with OfflineBundle(write_bundle(tmp_path / "x.zip", content, change=change)) as depot:
        assert list(depot.packages) == sorted(content.everything)
        assert [warning.partition("x.zip ")[2] for warning in depot.warnings] == [
            "has no gone/vendor-index.xml, which its index names; get a complete bundle",
            "has no esx/vmw/esx4-metadata.zip, which its index names; get a complete bundle",
        ]


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (["index.xml"], "has no index.xml; its vendor-index.xml is used"),
        (["index.xml", "vendor-index.xml"], "has no index.xml; its metadata zips are taken as they are"),
    ],
)
def test_without_an_index(missing: list[str], told: str, tmp_path: Path) -> None:
    def change(members: Members) -> None:
        for name in missing:
            del members[name]

    with OfflineBundle(write_bundle(tmp_path / "x.zip", small(driver()), change=change)) as depot:
        assert depot.vib(driver().id).descriptor == driver().descriptor
        (warning,) = depot.warnings
        assert told in warning


def test_a_vib_that_lies_elsewhere_or_nowhere(tmp_path: Path) -> None:
    def change(members: Members) -> None:
        members["somewhere/else.vib"] = members.pop(driver("gone").depot_path)
        members[f"vibs/{driver().id}.vib"] = members.pop(driver().depot_path)

    with OfflineBundle(
        write_bundle(tmp_path / "x.zip", small(driver(), driver("gone")), change=change)
    ) as depot:
        assert depot.vib(driver().id).descriptor == driver().descriptor
        assert set(depot.packages) == {driver().id, driver("gone").id}
        (warning,) = depot.warnings
        assert f"lists 1 VIBs without their files: {driver('gone').id};" in warning
        with pytest.raises(FormatError, match=f"lists {driver('gone').id}, but has no vib20/gone/"):
            depot.vib(driver("gone").id)
        with pytest.raises(ImageError, match="has no VIB nonsense"):
            depot.vib("nonsense")


@pytest.mark.parametrize(
    ("swapped", "told"),
    [
        (
            driver("other").data,
            "is Lab_bootbank_other_1.0-1, but not the VIB Lab_bootbank_lab-net_1.0-1.*in name",
        ),
        (driver(acceptance="community").data, "differ in acceptance level"),
        (driver(ar_mode=b"644").data, None),
        (
            driver(edit=lambda d: d.replace(b"What ", b"Whatever ")).data,
            r"has [\d,]+ bytes, but the metadata say",
        ),
        (driver().data[:-100], "truncated"),
        (b"<html>", "not a VIB"),
        (b"", "empty file"),
    ],
)
def test_a_vib_that_is_not_what_the_metadata_say(swapped: bytes, told: str | None, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "x.zip", small(driver()), change_vib=lambda *_: swapped)
    with OfflineBundle(path) as depot:
        if told is None:
            assert depot.vib(driver().id).package == depot.packages[driver().id]
        else:
            with pytest.raises(FormatError, match=told) as refused:
                depot.vib(driver().id)
            assert f"{path}: {driver().depot_path}" in str(refused.value)


def test_two_contents_of_one_id_in_one_bundle(tmp_path: Path) -> None:
    other = driver(acceptance="community")

    def change(members: Members) -> None:
        members["vibs/again.xml"] = other.metadata_xml("other.vib")

    path = write_bundle(tmp_path / "x.zip", small(driver(), driver("good")), change_metadata=change)
    with OfflineBundle(path) as depot:
        assert list(depot.packages) == [driver("good").id]
        (warning,) = depot.warnings
        assert f"two different VIBs have the id {driver().id} (they differ in acceptance level)" in warning


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"change": replacing("index.xml", b"vendorList", b"x")}, "index.xml: the root element is x"),
        ({"change": replacing("index.xml", b"vendor-index.xml", b"../v.xml")}, "leads out of the zip"),
        (
            {"change": replacing("vendor-index.xml", b"metadata.zip", b"m.zip")},
            "has no m.zip, which its index names",
        ),
        ({"change": replacing("vendor-index.xml", b"<url>metadata.zip</url>", b"")}, "names no metadata zip"),
        (
            {"change": lambda members: members.update({"metadata.zip": b"zip"})},
            "metadata.zip is no zip, or cut off",
        ),
        ({"change_metadata": lambda members: members.clear()}, "metadata.zip has no folders"),
    ],
)
def test_what_is_no_bundle_says_why(how: dict[str, object], told: str, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "x.zip", small(driver()), **how)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=told) as refused:
        OfflineBundle(path)
    assert str(path) in str(refused.value) or "leads out" in told


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({}, "has no index.xml, so it is no offline bundle"),
        ({"a.vib": driver().data}, "give the folder"),
        ({"a.zip": b"", "b.zip": b""}, r"several zips \(a.zip, b.zip\)"),
        (
            {"vibs/a.xml": b"<vib/>", "vendor-index.xml": b"<metaList/>"},
            "the metadata of a depot without its VIBs",
        ),
    ],
)
def test_other_zips(members: Members, told: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(FormatError, match=told):
        OfflineBundle(tmp_path / "x.zip")


def test_zips_in_zips_without_end(tmp_path: Path) -> None:
    data = write_bundle(tmp_path / "x.zip", small(driver())).read_bytes()
    for depth in range(4):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(f"{depth}.zip", data)
        data = out.getvalue()
        (tmp_path / f"{depth}.zip").write_bytes(data)
    assert_complete(tmp_path / "1.zip", small(driver()))
    with pytest.raises(FormatError, match="zips in zips in zips"):
        OfflineBundle(tmp_path / "3.zip")


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.zip"):
        with pytest.raises(ImageError, match="cannot open"):
            OfflineBundle(path)


def test_listing_reads_no_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many bytes of VIBs, not one byte more read."""
    read = []
    pread = __import__("os").pread
    monkeypatch.setattr("os.pread", lambda fd, count, at: read.append(count) or pread(fd, count, at))
    counts = []
    for name in ("a", "bb"):
        payload = make_payload("big", {"opt/big": random.Random(1).randbytes(len(name) * 200_000)})
        path = write_bundle(tmp_path / f"{name}.zip", small(driver(payloads=[payload])), deflate_vibs=True)
        read.clear()
        with OfflineBundle(path) as depot:
            assert len(depot.packages) == 1
        counts.append(len(read))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("deflate", [False, True])
def test_vibs_of_a_closed_bundle(deflate: bool, tmp_path: Path) -> None:
    made = driver(payloads=[make_payload("big", {"opt/big": random.Random(1).randbytes(3_000_000)})])
    with OfflineBundle(write_bundle(tmp_path / "x.zip", small(made), deflate_vibs=deflate)) as depot:
        opened = depot.vib(made.id)
        chunks = opened.chunks("big", 20_000)
        next(chunks)
    with pytest.raises(ImageError, match="was closed"):
        list(chunks)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_bundle(tmp_path_factory.mktemp("valid") / "x.zip", small(driver())).read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1), junk=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_any_file_is_a_bundle_or_an_error(
    at: float, junk: bytes, cut: bool, valid: bytes, tmp_path: Path
) -> None:
    start = int(at * len(valid))
    changed = valid[:start] + (b"" if cut else junk + valid[start + len(junk) :])
    path = tmp_path / hashlib.sha256(changed).hexdigest()[:8]
    path.write_bytes(changed)
    try:
        with OfflineBundle(path) as depot:
            for vib_id, package in depot.packages.items():
                opened = depot.vib(vib_id)
                for payload in package.payloads:
                    check_payload(opened, payload)
    except ImageError as error:
        assert str(error)  # noqa: PT017
