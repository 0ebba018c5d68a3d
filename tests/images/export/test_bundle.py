"""A profile as an offline bundle: laid out as the real ones, checked on the way, whole or not at all."""

import errno
import hashlib
import io
import random
import resource
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from midwife.images.depot.depot import Bulletin, ComponentSpec
from midwife.images.depot.sources.bundle import OfflineBundle
from midwife.images.errors import FormatError, ImageError, ProfileError, SignatureError
from midwife.images.export.bundle import write_bundle
from midwife.images.flow import BLOCK
from midwife.images.objects.package import SoftwarePlatform
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.container import VibFile
from midwife.images.vib.content import Vib
from tests.images.export.composed import in_memory, resolved_profile, with_vibs
from tests.peers.depotmaker import Content
from tests.peers.vibmaker import MadeVib, make_payload, vib

MOMENT = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def resolved(esxi: Content) -> ResolvedProfile:
    return resolved_profile(esxi)


@pytest.fixture(scope="module")
def exported(esxi: Content, resolved: ResolvedProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "lab.zip"
    write_bundle(path, resolved, in_memory(esxi), vendor_code="LAB")
    return path


def agent(name: str = "agent", **how: object) -> MadeVib:
    payloads = [make_payload("agent", {f"opt/{name}": b"run" * 5000})]
    return vib(name, "1.0-1", **({"vendor": "Lab", "payloads": payloads} | how))  # type: ignore[arg-type]


def of(*made: MadeVib, **attributes: object) -> tuple[ResolvedProfile, Callable[[str], Vib]]:
    """A profile of these VIBs, and what opens them."""
    opened = {one.id: (lambda data=one.data: VibFile.from_stream(io.BytesIO(data), "memory")) for one in made}
    vibs = tuple(ProfileVib(one) for one in sorted(opened))
    profile = ImageProfile("lab", "Lab", **({"author": "Lab", "vibs": vibs} | attributes))  # type: ignore[arg-type]
    return ResolvedProfile(profile, {one: opened[one]().package for one in opened}), lambda one: opened[one]()


def assert_nothing_left(folder: Path) -> None:
    assert list(folder.iterdir()) == []


def test_read_again_it_is_equal(exported: Path, resolved: ResolvedProfile, esxi: Content) -> None:
    with OfflineBundle(exported) as depot:
        assert depot.packages == resolved.packages
        assert depot.profiles == (replace(resolved.profile, author=resolved.profile.vendor),)
        assert depot.warnings == ()
        (rollup,) = depot.bulletins
        assert (rollup.id, rollup.release_type, rollup.vibs) == (
            resolved.profile.name,
            "rollup",
            resolved.profile.vib_list,
        )
        for vib_id in depot.packages:
            assert depot.content.packages[vib_id].checksum == esxi.everything[vib_id].sha256


def test_other_programs_find_what_the_format_says(exported: Path, esxi: Content) -> None:
    with zipfile.ZipFile(exported) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [name for name in names if not name.startswith("vib20/")] == [
            "metadata.zip",
            "vendor-index.xml",
            "index.xml",
        ]
        index = etree.fromstring(archive.read("index.xml"))
        assert index.findtext("vendor/code") == "LAB"
        vendor_index = etree.fromstring(archive.read(str(index.findtext("vendor/indexfile"))))
        assert vendor_index.findtext("metadata/productId") == "embeddedEsx"
        with zipfile.ZipFile(
            io.BytesIO(archive.read(str(vendor_index.findtext("metadata/url"))))
        ) as metadata:
            assert metadata.testzip() is None
            assert {name.partition("/")[0] for name in metadata.namelist()} == {
                *("vmware.xml", "vendor-index.xml", "vibs", "profiles", "bulletins")
            }
            described = [
                etree.fromstring(metadata.read(n)) for n in metadata.namelist() if n.startswith("vibs/")
            ]
            summary = etree.fromstring(metadata.read("vmware.xml"))
        assert len(described) == len(esxi.standard) == len(summary.findall("bulletin/vibList/vib"))
        for one in described:
            data = archive.read(str(one.findtext("relative-path")))
            assert str(len(data)) == one.findtext("packed-size")
            assert hashlib.sha256(data).hexdigest() == one.findtext("checksum")
            assert archive.getinfo(str(one.findtext("relative-path"))).compress_type == zipfile.ZIP_STORED
        for made in esxi.standard:
            assert archive.read(made.depot_path) == made.data, "the very same file"


def test_the_same_input_gives_the_same_bytes(
    exported: Path, resolved: ResolvedProfile, esxi: Content, tmp_path: Path
) -> None:
    shuffled = replace(resolved, packages=dict(reversed(resolved.packages.items())))
    write_bundle(tmp_path / "again.zip", shuffled, in_memory(esxi), vendor_code="LAB")
    assert (tmp_path / "again.zip").read_bytes() == exported.read_bytes()


def test_an_export_of_an_export_is_the_same(
    exported: Path, resolved: ResolvedProfile, tmp_path: Path
) -> None:
    with OfflineBundle(exported) as depot:
        write_bundle(tmp_path / "x.zip", resolved, depot.vib, bulletins=depot.bulletins, vendor_code="LAB")
    assert (tmp_path / "x.zip").read_bytes() == exported.read_bytes()


def test_components_that_are_complete_go_with_it(tmp_path: Path) -> None:
    resolved, vibs = of(agent(), agent("driver"))
    ids = resolved.profile.vib_list
    whole = Bulletin(
        "whole", vibs=ids[:1], component_name=ComponentSpec("a"), component_version=ComponentSpec("1")
    )
    bulletins = [
        whole,
        Bulletin("half", vibs=(ids[0], "other")),
        Bulletin("empty"),
        Bulletin("lab", vibs=ids),
    ]
    write_bundle(tmp_path / "x.zip", resolved, vibs, bulletins=bulletins)
    with OfflineBundle(tmp_path / "x.zip") as depot:
        rollup, kept = depot.bulletins
        assert (rollup.id, rollup.release_type) == ("lab", "rollup")
        assert kept == whole
        assert kept.is_component


@pytest.mark.parametrize(
    ("platforms", "asked", "written"),
    [
        ([], None, ["5.*"]),
        (["8.*", "7.*"], None, ["7.*", "8.*"]),
        (["8.*"], ["8.0.3"], ["8.0.3"]),
        ([""], None, ["5.*"]),
    ],
)
def test_versions_of_esxi(
    platforms: list[str], asked: list[str] | None, written: list[str], tmp_path: Path
) -> None:
    resolved, vibs = of(agent(platforms=platforms))
    write_bundle(tmp_path / "x.zip", resolved, vibs, versions=asked)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        root = etree.fromstring(archive.read("vendor-index.xml"))
    assert [one.text for one in root.findall("metadata/version")] == written
    assert {one.text for one in root.findall("metadata/url")} == {"metadata.zip"}


def test_what_a_depot_knew_beyond_the_vib_is_kept(tmp_path: Path) -> None:
    resolved, vibs = of(agent())
    (vib_id,) = resolved.packages
    listed = replace(resolved.packages[vib_id], software_platforms=(SoftwarePlatform(version="8.*"),))
    write_bundle(tmp_path / "x.zip", replace(resolved, packages={vib_id: listed}), vibs)
    with OfflineBundle(tmp_path / "x.zip") as depot:
        assert depot.packages[vib_id] == listed
        assert depot.vib(vib_id).package.software_platforms == ()


def test_a_profile_gets_what_esxi_wants_of_it(tmp_path: Path) -> None:
    resolved, vibs = of(agent(), signature_check=False)
    write_bundle(tmp_path / "x.zip", resolved, vibs)
    with OfflineBundle(tmp_path / "x.zip") as depot:
        (profile,) = depot.profiles
    assert len(profile.guid) == 32
    assert profile.creation_time == profile.modified_time == resolved.packages[agent().id].release_date
    assert not profile.signature_check, "somebody said --no-signature-check"
    assert replace(profile, guid="", creation_time=None, modified_time=None) == resolved.profile


def test_progress_ends_where_it_should(resolved: ResolvedProfile, esxi: Content, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_bundle(
        tmp_path / "x.zip",
        resolved,
        in_memory(esxi),
        progress=lambda done, of_all: seen.append((done, of_all)),
    )
    assert seen == sorted(seen)
    payloads = sum(len(payload.data) for one in esxi.standard for payload in one.payloads)
    assert seen[-1] == (payloads, payloads)


class Broken:
    """A VIB whose payload is not what the descriptor says."""

    exact, signature, headers = True, b"", ()

    def __init__(self, vib: Vib, chunks: Callable[[], Iterator[bytes]]) -> None:
        self.package, self.descriptor, self._chunks = vib.package, vib.descriptor, chunks

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        yield from self._chunks()

    def path(self, payload: str) -> Path | None:
        return None


GOOD = agent().payloads[0].data


def interrupted() -> Iterator[bytes]:
    yield GOOD[:10]
    raise KeyboardInterrupt


def unreadable() -> Iterator[bytes]:
    yield GOOD[:10]
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("chunks", "error", "told"),
    [
        (lambda: iter([GOOD[:-1], b"?"]), FormatError, "Lab_bootbank_agent_1.0-1: payload agent.*sha-256"),
        (lambda: iter([GOOD[:-1]]), FormatError, "payload agent"),
        (lambda: iter([GOOD] * 50), FormatError, "payload agent"),
        (lambda: iter([]), FormatError, "payload agent"),
        (interrupted, KeyboardInterrupt, "^$"),
        (unreadable, ImageError, "Input/output error; nothing was kept"),
    ],
)
def test_a_damaged_payload_stops_it_and_leaves_nothing(
    chunks: Callable[[], Iterator[bytes]], error: type[BaseException], told: str, tmp_path: Path
) -> None:
    resolved, vibs = of(agent())
    before = threading.active_count()
    with pytest.raises(error, match=told):
        write_bundle(tmp_path / "x.zip", resolved, lambda one: Broken(vibs(one), chunks))
    assert_nothing_left(tmp_path)
    assert threading.active_count() == before


def test_what_was_there_before_stays_when_it_fails(tmp_path: Path) -> None:
    resolved, vibs = of(agent())
    (tmp_path / "x.zip").write_bytes(b"the old one")
    with pytest.raises(FormatError):
        write_bundle(tmp_path / "x.zip", resolved, lambda one: Broken(vibs(one), lambda: iter([b"x"])))
    assert (tmp_path / "x.zip").read_bytes() == b"the old one"
    write_bundle(tmp_path / "x.zip", resolved, vibs)
    assert zipfile.is_zipfile(tmp_path / "x.zip")
    assert [one.name for one in tmp_path.iterdir()] == ["x.zip"]


def test_a_vib_that_the_caller_refuses(tmp_path: Path) -> None:
    resolved, vibs = of(agent(), agent("driver"))

    def checked(vib_id: str) -> Vib:
        if "driver" in vib_id:
            raise SignatureError("driver is not signed")
        return vibs(vib_id)

    with pytest.raises(SignatureError, match="driver is not signed"):
        write_bundle(tmp_path / "x.zip", resolved, checked)
    assert_nothing_left(tmp_path)


def test_a_vib_that_is_another(tmp_path: Path) -> None:
    resolved, vibs = of(agent(), agent("driver"))
    with pytest.raises(
        FormatError, match=r"what should be the VIB Lab_bootbank_agent_1.0-1 is Lab_bootbank_driver"
    ):
        write_bundle(tmp_path / "x.zip", resolved, lambda _: vibs(agent("driver").id))
    _, others = of(agent(acceptance="community"))
    with pytest.raises(FormatError, match="differ in acceptance level"):
        write_bundle(tmp_path / "x.zip", resolved, others)
    assert_nothing_left(tmp_path)


def test_a_profile_with_missing_vibs(tmp_path: Path) -> None:
    resolved, vibs = of(agent())
    with pytest.raises(ProfileError, match="1 of its VIBs are in no depot: x_y_z; add the depot"):
        write_bundle(tmp_path / "x.zip", replace(resolved, missing=("x_y_z",)), vibs)
    assert_nothing_left(tmp_path)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    resolved, vibs = of(agent())
    with pytest.raises(ImageError, match="is a directory"):
        write_bundle(tmp_path, resolved, vibs)
    with pytest.raises(ImageError, match="No such file or directory; nothing was kept"):
        write_bundle(tmp_path / "no" / "x.zip", resolved, vibs)
    (package,) = resolved.packages.values()
    huge = replace(package, payloads=(replace(package.payloads[0], size=10**15),))
    with pytest.raises(ImageError, match=r"the bundle needs [\d.]+ GiB"):
        write_bundle(tmp_path / "x.zip", replace(resolved, packages={package.id: huge}), vibs)
    assert_nothing_left(tmp_path)


def test_no_room_in_the_middle(tmp_path: Path) -> None:
    resolved, vibs = of(
        agent(payloads=[make_payload("agent", {"opt/agent": random.Random(1).randbytes(50_000)})])
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ImageError, match=r"no room to write .*x\.zip: .*; nothing was kept; make room"):
            write_bundle(tmp_path / "x.zip", resolved, vibs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_nothing_left(tmp_path)


def test_all_kinds_of_esxi_look_alikes(tmp_path: Path) -> None:
    from tests.peers.esximage import look_alike_profile

    for kind in ("5.5.0", "9.0.1"):
        content = look_alike_profile(kind)
        resolved = with_vibs(content, content.standard)
        write_bundle(tmp_path / "x.zip", resolved, in_memory(content))
        with OfflineBundle(tmp_path / "x.zip") as depot:
            assert depot.packages == resolved.packages
