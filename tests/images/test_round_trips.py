"""The whole chain, from somebody else's depot to an image of one's own and back: nothing changes on the way.

The depots, ISOs and signatures are written by tests/peers, which shares no code with midwife.
"""

import hashlib
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from midwife.images.depot.depot import Depot
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.depot.sources.bundle import OfflineBundle
from midwife.images.depot.sources.isodepot import IsoDepot
from midwife.images.errors import ImageError
from midwife.images.export.bundle import write_bundle
from midwife.images.export.iso import write_iso
from midwife.images.export.tree import write_tree
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.profile import compose
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.compare import compare
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.profile.validate import validate
from midwife.images.vib.container import write_vib
from midwife.images.vib.content import Vib
from midwife.images.vib.signing.signature import prove
from midwife.images.vib.signing.trust import Anchor, Anchors
from midwife.images.vib.verify import verify_vib
from tests.peers import esximage
from tests.peers.esximage import Content, Pki

NOW = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)
GUID = "0f0c" * 8
KINDS = ("5.5.0", "6.7.0", "7.0.3", "8.0.3", "9.0.1")
EXPORTS = {
    "bundle": ("x.zip", write_bundle),
    "iso": ("x.iso", write_iso),
    "netboot": ("x", write_tree),
}


@pytest.fixture(scope="module")
def library(esxi_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> DepotLibrary:
    """The look-alike's bundle, imported."""
    library = DepotLibrary(tmp_path_factory.mktemp("library"))
    library.add(str(esxi_bundle), "esxi")
    return library


@pytest.fixture(scope="module")
def catalogue(library: DepotLibrary) -> Catalogue:
    return Catalogue(library.all())


@pytest.fixture(scope="module")
def lab(catalogue: Catalogue, esxi: Content) -> ResolvedProfile:
    """The standard profile with an OEM driver, an agent with what it needs, and without the tools."""
    standard = catalogue.resolve(catalogue.profile(esxi.profile_name)[1])
    assert validate(standard, catalogue) == ()
    resolved = compose.clone(standard, "lab", "Lab", guid=GUID, now=NOW).resolved
    added = [catalogue.find(name) for name in ("i40en", "acme-net", "acme-tools")]
    change = compose.add(resolved, added, catalogue, with_dependencies=True, now=NOW)
    assert {one.split("_")[2] for one in change.added} == {
        "i40en",
        "acme-net",
        "acme-tools",
        "acme-agent",
        "acme-lib",
    }
    assert {one.split("_")[2] for one in change.removed} == {"i40en", "bnxtnet"}
    change = compose.remove(change.resolved, ["tools-light"], now=NOW)
    assert validate(change.resolved, catalogue) == ()
    return change.resolved


def contents(depot: Depot) -> dict[str, tuple[bytes, bytes, dict[str, str]]]:
    """VIB id to descriptor, signature and the sums of its payloads, read from the bytes."""
    out = {}
    for vib_id, package in depot.packages.items():
        vib = depot.vib(vib_id)
        sums = {
            one.name: hashlib.sha256(b"".join(vib.chunks(one.name))).hexdigest() for one in package.payloads
        }
        out[vib_id] = (vib.descriptor, vib.signature, sums)
    return out


def original(content: Content, ids: tuple[str, ...]) -> dict[str, tuple[bytes, bytes, dict[str, str]]]:
    """The same, from what the peers made."""
    return {
        one: (
            (made := content.everything[one]).descriptor,
            made.signature,
            {payload.name: hashlib.sha256(payload.data).hexdigest() for payload in made.payloads},
        )
        for one in ids
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"nested": "stored"},
        {"nested": "deflated"},
        {"layout": "v-front", "leading_slash": True, "deflate_vibs": True},
    ],
    ids=["plain", "zip in zip", "deflated zip in zip", "V-Front"],
)
def test_a_bundle_goes_into_the_library_as_it_is(kind: str, odd: dict[str, object], tmp_path: Path) -> None:
    content = esximage.look_alike_profile(kind)
    library = DepotLibrary(tmp_path / "data")
    library.add(str(esximage.write_bundle(tmp_path / "x.zip", content, **odd)), "x")  # type: ignore[arg-type]
    depot = library.get("x")
    assert contents(depot) == original(content, tuple(content.everything))
    assert {one.name: one.vib_list for one in depot.profiles} == dict(content.profiles)
    for profile in depot.profiles:
        assert validate(Catalogue([depot]).resolve(profile)) == ()


def test_every_checksum_and_file_list_of_the_peers_is_right(library: DepotLibrary) -> None:
    depot = library.get("esxi")
    problems = {one: verify_vib(depot.vib(one), every=True, signature=False) for one in depot.packages}
    assert {one: found for one, found in problems.items() if found} == {}


def test_signatures_survive_the_library_and_prove_their_levels(
    library: DepotLibrary, esxi: Content, pki: Pki
) -> None:
    levels: dict[str, list[AcceptanceLevel]] = {}
    for level, fingerprints in pki.fingerprints.items():
        for fingerprint in fingerprints:
            levels.setdefault(fingerprint, []).append(AcceptanceLevel.parse(level))
    anchors = Anchors(tuple(Anchor(one, "look-alike", tuple(found)) for one, found in levels.items()))
    depot = library.get("esxi")
    proofs = {one: prove(depot.vib(one), anchors) for one in depot.packages}
    assert {
        one: proof.reason for one, proof in proofs.items() if proof.reason and "community" not in proof.reason
    } == {}
    assert {one: str(proof.level) for one, proof in proofs.items()} == {
        one: made.acceptance for one, made in esxi.everything.items()
    }
    assert all(prove(depot.vib(one)).level == AcceptanceLevel.COMMUNITY for one in depot.packages), (
        "not VMware's anchors"
    )


def test_a_vib_comes_out_as_the_file_it_was(library: DepotLibrary, esxi: Content, tmp_path: Path) -> None:
    depot = library.get("esxi")
    for vib_id, made in esxi.everything.items():
        with (tmp_path / "x.vib").open("w+b") as out:
            assert write_vib(out, depot.vib(vib_id)) == (len(made.data), made.sha256)
            out.seek(0)
            assert out.read() == made.data


def test_exported_as_a_bundle_and_read_again_it_is_equal(
    lab: ResolvedProfile, library: DepotLibrary, esxi: Content, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "lab.zip", lab, library.get("esxi").vib)
    with OfflineBundle(tmp_path / "lab.zip") as back:
        assert dict(back.packages) == dict(lab.packages)
        (profile,) = back.profiles
        assert replace(profile, author="", rules=()) == replace(lab.profile, author="", rules=())
        assert contents(back) == original(esxi, lab.profile.vib_list)
        assert compare(lab, Catalogue([back]).resolve(profile)).equal
    again = DepotLibrary(tmp_path / "data")
    again.add(str(tmp_path / "lab.zip"), "lab")
    assert contents(again.get("lab")) == original(esxi, lab.profile.vib_list)
    with zipfile.ZipFile(tmp_path / "lab.zip") as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            if name.endswith(".vib"):
                assert archive.read(name) == esxi.everything[Path(name).stem].data


@pytest.mark.parametrize("kind", KINDS)
def test_an_installer_iso_gives_back_the_vibs_of_its_bundle(kind: str, tmp_path: Path) -> None:
    content = esximage.look_alike_profile(kind)
    path = esximage.write_installer_iso(tmp_path / "esxi.iso", content)
    with IsoDepot(path) as depot:
        (profile,) = depot.profiles
        assert profile.vib_list == content.profiles[content.profile_name]
        found, wanted = contents(depot), original(content, profile.vib_list)
        for vib_id, (descriptor, signature, sums) in wanted.items():
            assert found[vib_id][2] == sums
            if kind not in ("5.5.0",):
                assert found[vib_id][:2] == (descriptor, signature)


def test_exported_as_an_iso_and_read_again_it_is_equal(
    lab: ResolvedProfile, library: DepotLibrary, esxi: Content, tmp_path: Path
) -> None:
    write_iso(tmp_path / "lab.iso", lab, library.get("esxi").vib)
    with IsoDepot(tmp_path / "lab.iso") as back:
        assert dict(back.packages) == dict(lab.packages)
        (profile,) = back.profiles
        assert profile.vib_list == lab.profile.vib_list
        assert contents(back) == original(esxi, lab.profile.vib_list)
        assert compare(lab, Catalogue([back]).resolve(profile)).equal


def test_from_the_iso_and_from_the_bundle_the_blobs_are_the_same(
    esxi_bundle: Path, esxi_iso: Path, tmp_path: Path
) -> None:
    library = DepotLibrary(tmp_path / "data")
    library.add(str(esxi_bundle), "bundle")
    blobs = sorted(path.name for path in (tmp_path / "data/depots/blobs").rglob("*") if path.is_file())
    library.add(str(esxi_iso), "iso")
    assert blobs == sorted(
        path.name for path in (tmp_path / "data/depots/blobs").rglob("*") if path.is_file()
    )


def test_the_exported_modules_have_the_names_and_the_order_of_esxi(
    lab: ResolvedProfile, library: DepotLibrary, esxi: Content, tmp_path: Path
) -> None:
    members = [esxi.everything[one] for one in lab.profile.vib_list]
    names, order = esximage.media_names(members), esximage.module_order(members)
    wanted = [names[vib_id, payload.name] for vib_id, payload in order]
    write_tree(tmp_path / "tree", lab, library.get("esxi").vib)
    lines = (tmp_path / "tree/boot.cfg").read_text().splitlines()
    config = dict(line.split("=", 1) for line in lines)
    kernel, modules = config["kernel"], config["modules"].split(" --- ")
    assert [kernel, *modules][: len(wanted)] == wanted
    for name, (_, payload) in zip(wanted, order, strict=True):
        assert (tmp_path / "tree" / name).read_bytes() == payload.data


def snapshot(path: Path) -> dict[str, bytes]:
    """All bytes below a path."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


@pytest.mark.parametrize("what", EXPORTS)
def test_the_same_input_gives_the_same_bytes(
    what: str, lab: ResolvedProfile, library: DepotLibrary, tmp_path: Path
) -> None:
    name, export = EXPORTS[what]
    made = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        export(tmp_path / folder / name, lab, library.get("esxi").vib)
        made.append(snapshot(tmp_path / folder / name))
    assert made[0] == made[1]


class Damaged:
    """A VIB with a payload that is cut, or has another byte, or cannot be read."""

    def __init__(self, vib: Vib, how: str) -> None:
        self._vib, self._how = vib, how
        self.package, self.descriptor, self.signature = vib.package, vib.descriptor, vib.signature
        self.exact, self.headers = vib.exact, vib.headers

    def path(self, payload: str) -> None:
        return None

    def chunks(self, payload: str, block: int = 1 << 20):  # type: ignore[no-untyped-def]
        data = b"".join(self._vib.chunks(payload))
        if self._how == "unreadable":
            yield data[:10]
            raise ImageError("the disk has a bad sector")
        yield data[:-1] if self._how == "cut" else data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("how", ["cut", "other byte", "unreadable"])
@pytest.mark.parametrize("what", EXPORTS)
def test_a_damaged_payload_stops_an_export_and_nothing_is_left(
    what: str, how: str, lab: ResolvedProfile, library: DepotLibrary, tmp_path: Path
) -> None:
    name, export = EXPORTS[what]
    depot = library.get("esxi")
    victim = next(one for one in lab.packages if "_weaselin_" in one)

    def vibs(vib_id: str) -> Vib:
        vib = depot.vib(vib_id)
        return Damaged(vib, how) if vib_id == victim else vib  # type: ignore[return-value]

    with pytest.raises(ImageError, match="bad sector" if how == "unreadable" else "weaselin"):
        export(tmp_path / name, lab, vibs)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["bundle", "iso"])
def test_what_was_exported_before_stays_when_the_next_export_fails(
    what: str, lab: ResolvedProfile, library: DepotLibrary, tmp_path: Path
) -> None:
    name, export = EXPORTS[what]
    (tmp_path / name).write_bytes(b"the one before")

    def vibs(vib_id: str) -> Vib:
        raise ImageError(f"{vib_id} is gone")

    with pytest.raises(ImageError):
        export(tmp_path / name, lab, vibs)
    assert snapshot(tmp_path) == {name: b"the one before"}


def stop_after(count: int) -> Callable[[int, int], None]:
    """Progress that is interrupted, as by Ctrl-C."""
    calls = iter(range(count))

    def progress(done: int, total: int) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("what", EXPORTS)
def test_ctrl_c_leaves_nothing(
    what: str, lab: ResolvedProfile, library: DepotLibrary, tmp_path: Path
) -> None:
    name, export = EXPORTS[what]
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / name, lab, library.get("esxi").vib, progress=stop_after(5))  # type: ignore[call-arg]
    assert list(tmp_path.iterdir()) == []


def test_two_thousand_vibs_are_listed_without_reading_a_payload(tmp_path: Path) -> None:
    content = esximage.big_depot(tmp_path / "big.zip", vibs=400, profiles=4, names=100, files=5)
    data = (tmp_path / "big.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "big.zip") as archive:
        first = [one for one in archive.infolist() if one.filename.endswith(".vib")]
    # Overwrite every VIB: whoever reads one notices.
    spoiled = bytearray(data)
    for one in first:
        start = one.header_offset + 30 + len(one.filename)
        spoiled[start : start + one.file_size] = bytes(one.file_size)
    (tmp_path / "big.zip").write_bytes(spoiled)
    with ExitStack() as stack:
        depot = stack.enter_context(OfflineBundle(tmp_path / "big.zip"))
        assert list(depot.packages) == sorted(content.everything)
        catalogue = Catalogue([depot])
        for profile in depot.profiles:
            assert validate(catalogue.resolve(profile), catalogue) == ()
