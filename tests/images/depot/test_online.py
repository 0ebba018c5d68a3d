"""Online depots on a real web server: listed without a VIB, VIBs brought when asked for, refreshed, resumed."""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.depot.sources.asking import Patience
from midwife.images.depot.sources.fetch import Fetcher
from midwife.images.depot.sources.online import OnlineDepot
from midwife.images.errors import FormatError, ImageError
from tests.peers.badfiles import driver, small_bundle
from tests.peers.depotmaker import Content
from tests.peers.depotserver import DepotServer, Fault, files_of, serving
from tests.peers.vibmaker import MadeVib, make_payload

from .stored import blobs, files, on_disk, originals

HASTY = Patience(connect=5, headers=5, silence=5, pause=0)
A, B = driver("a"), driver("b", payloads=[make_payload("b", {"opt/lab/b": b"b" * 90_000}, level=0)])


def newer(made: MadeVib) -> MadeVib:
    return driver(made.name, payloads=[make_payload("labnet", {"opt/lab/net": b"newer"})])


def depot_files(tmp_path: Path, *vibs: MadeVib, **how: object) -> dict[str, bytes]:
    return files_of(small_bundle(tmp_path / "made.zip", *vibs, **how))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DepotServer]:
    with serving(depot_files(tmp_path, A, B)) as running:
        yield running


@pytest.fixture
def library(tmp_path: Path) -> DepotLibrary:
    return DepotLibrary(tmp_path / "data", HASTY)


def vibs_asked(server: DepotServer) -> list[str]:
    return [path for path in server.paths() if path.endswith(".vib")]


def test_it_is_listed_without_a_vib_and_brings_what_is_asked_for(
    server: DepotServer, library: DepotLibrary
) -> None:
    """
    >> GET index.xml, vendor-index.xml, metadata.zip    << the depot is listed
    >> GET vib20/a/….vib                                << when somebody wants it, once
    """
    report = library.add(f"{server.url}/index.xml", "web")
    assert server.paths() == ["index.xml", "vendor-index.xml", "metadata.zip"]
    depot = library.get("web")
    assert (report.record.vibs, list(depot.packages)) == (2, [A.id, B.id])
    assert [profile.name for profile in depot.profiles] == ["lab"]
    assert blobs(library) == []

    assert depot.vib(A.id).descriptor == A.descriptor
    assert depot.vib(A.id).exact
    assert vibs_asked(server) == [A.depot_path]
    assert files(depot) == {A.id: A.data, B.id: B.data}
    assert files(library.get("web")) == {A.id: A.data, B.id: B.data}
    assert len(vibs_asked(server)) == 2
    assert list((library.root / ".downloads").iterdir()) == []


def test_the_name_comes_from_the_host_and_the_index_is_found(
    server: DepotServer, library: DepotLibrary
) -> None:
    assert library.add(f"{server.url}/").record.name == "127.0.0.1"
    assert server.paths()[0] == "index.xml"
    assert library.add(f"{server.url}/").already
    with pytest.raises(ImageError, match="with other content"):
        library.add(f"{server.url}/index.xml", "127.0.0.1")


def test_a_whole_depot_at_once(library: DepotLibrary, esxi: Content, esxi_bundle: Path) -> None:
    seen: list[tuple[int, int]] = []
    with serving(files_of(esxi_bundle)) as server:
        library.add(f"{server.url}/index.xml", "web", lambda *done: seen.append(done), download=True)
    assert files(library.get("web")) == originals(esxi)
    assert seen[-1][0] == seen[-1][1] == sum(len(made.data) for made in esxi.everything.values())


def test_download_of_some(server: DepotServer, library: DepotLibrary) -> None:
    library.add(f"{server.url}/index.xml", "web")
    assert library.download("web", [B.id]) == (B.id,)
    assert library.download("web", [B.id]) == ()
    assert library.download("web") == (A.id,)
    assert not (library.root / ".unfinished").exists()


def test_a_download_that_broke_goes_on(server: DepotServer, library: DepotLibrary) -> None:
    library.add(f"{server.url}/index.xml", "web")
    half = len(B.data) // 2

    def fault(path: str) -> None:
        first = len(vibs_asked(server)) == 1
        server.faults[path] = Fault(cut=half) if first else Fault(status=503)

    server.before = fault
    with pytest.raises(ImageError, match=f"{half} bytes are kept"):
        library.get("web").vib(B.id)
    assert library.get("web").stored(B.id).here is False
    server.before, server.faults = lambda _: None, {}
    server.asked.clear()
    assert files(library.get("web"))[B.id] == B.data
    assert [one.range for one in server.asked if one.path == B.depot_path] == [f"bytes={half}-"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda: A.data[:-1] + b"!", "is not what its depot says"),
        (lambda: A.data + b"\n", "has .* bytes; its depot says"),
        (lambda: A.data[:-10], "has .* bytes; its depot says"),
    ],
)
def test_a_vib_that_is_not_what_the_depot_says(
    data: Callable[[], bytes], told: str, server: DepotServer, library: DepotLibrary
) -> None:
    library.add(f"{server.url}/index.xml", "web")
    before = on_disk(library)
    server.files[A.depot_path] = data()
    with pytest.raises(FormatError, match=told):
        library.get("web").vib(A.id)
    assert on_disk(library) == before


def test_another_vib_than_the_one_that_is_listed(library: DepotLibrary, tmp_path: Path) -> None:
    def unsigned(members: dict[str, bytes]) -> None:
        """The metadata say nothing of the file."""
        for name in members:
            members[name] = re.sub(rb"<packed-size>.*?</checksum>", b"", members[name], count=1)

    with serving(depot_files(tmp_path, A, B, change_metadata=unsigned)) as server:
        library.add(f"{server.url}/index.xml", "web")
        server.files[A.depot_path] = B.data
        with pytest.raises(
            FormatError, match=f"should be the VIB {re.escape(A.id)}, but it is {re.escape(B.id)}"
        ):
            library.get("web").vib(A.id)
        server.files[A.depot_path] = A.data
        assert files(library.get("web")) == {A.id: A.data, B.id: B.data}
        assert blobs(library)


def test_a_vib_with_the_right_id_and_other_contents(library: DepotLibrary, tmp_path: Path) -> None:
    def unsigned(members: dict[str, bytes]) -> None:
        for name in members:
            members[name] = re.sub(rb"<packed-size>.*?</checksum>", b"", members[name], count=1)

    with serving(depot_files(tmp_path, A, change_metadata=unsigned)) as server:
        library.add(f"{server.url}/index.xml", "web")
        server.files[A.depot_path] = newer(A).data
        with pytest.raises(FormatError, match="is not as its depot describes it: it differs in payloads"):
            library.get("web").vib(A.id)
    assert blobs(library) == []
    assert list((library.root / ".downloads").iterdir()) == []


class TestRefresh:
    def test_nothing_new(self, server: DepotServer, library: DepotLibrary) -> None:
        library.add(f"{server.url}/index.xml", "web", download=True)
        server.asked.clear()
        library.refresh("web")
        assert all("If-None-Match" in one.headers for one in server.asked)
        assert len(server.asked) == 3
        assert files(library.get("web")) == {A.id: A.data, B.id: B.data}
        assert vibs_asked(server) == []

    def test_what_changed_is_brought_again_and_what_did_not_stays(
        self, server: DepotServer, library: DepotLibrary, tmp_path: Path
    ) -> None:
        library.add(f"{server.url}/index.xml", "web", download=True)
        c = driver("c")
        server.files = depot_files(tmp_path, newer(A), B, c)
        report = library.refresh("web")
        assert report.record.vibs == 3
        server.asked.clear()
        assert files(library.get("web")) == {A.id: newer(A).data, B.id: B.data, c.id: c.data}
        assert vibs_asked(server) == [A.depot_path, c.depot_path]
        server.files = depot_files(tmp_path, B)
        library.refresh("web")
        assert len(blobs(library)) == 1, "what the depot has no longer is swept"

    def test_a_failed_refresh_changes_nothing(self, server: DepotServer, library: DepotLibrary) -> None:
        library.add(f"{server.url}/index.xml", "web", download=True)
        server.files["metadata.zip"] = b"PK nonsense"
        with pytest.raises(FormatError, match=r"metadata.zip is no zip"):
            library.refresh("web")
        assert files(library.get("web")) == {A.id: A.data, B.id: B.data}

    def test_of_a_depot_that_is_none(self, library: DepotLibrary, tmp_path: Path) -> None:
        library.add(str(small_bundle(tmp_path / "x.zip")))
        with pytest.raises(ImageError, match="not from a web server"):
            library.refresh("x")
        with pytest.raises(ImageError, match="is no online depot"):
            library.download("x")

    def test_at_a_new_address(self, server: DepotServer, library: DepotLibrary, tmp_path: Path) -> None:
        """A token changed: what was downloaded is not downloaded again."""
        library.add(f"{server.url}/index.xml", "web", download=True)
        server.files = {f"new/{name}": data for name, data in server.files.items()}
        server.asked.clear()
        library.add(f"{server.url}/new/index.xml", "web", replace=True)
        assert files(library.get("web")) == {A.id: A.data, B.id: B.data}
        assert vibs_asked(server) == []

    @pytest.mark.parametrize("broken", ["depot.json", "content-1.jsonl"])
    def test_a_damaged_one_is_replaced(self, broken: str, server: DepotServer, library: DepotLibrary) -> None:
        library.add(f"{server.url}/index.xml", "web", download=True)
        (library.root / "web" / broken).write_bytes(b"{}\n")
        library.add(f"{server.url}/index.xml", "web", replace=True)
        assert files(library.get("web")) == {A.id: A.data, B.id: B.data}

    def test_a_bundle_in_its_place(self, server: DepotServer, library: DepotLibrary, tmp_path: Path) -> None:
        library.add(f"{server.url}/index.xml", "web")
        library.add(str(small_bundle(tmp_path / "x.zip", A)), "web", replace=True)
        assert sorted(path.name for path in (library.root / "web").iterdir()) == [
            "content-2.jsonl",
            "depot.json",
        ]
        assert files(library.get("web")) == {A.id: A.data}


@pytest.mark.parametrize(
    ("path", "fault", "told"),
    [
        ("index.xml", Fault(-1, status=404), "index.xml: the server answers 404"),
        ("vendor-index.xml", Fault(-1, status=404), "vendor-index.xml: the server answers 404"),
        ("metadata.zip", Fault(-1, status=403), "metadata.zip: the server answers 403"),
        ("metadata.zip", Fault(-1, coding="gzip"), "the server packs it"),
        ("metadata.zip", Fault(-1, cut=100), "cannot fetch .*metadata.zip"),
    ],
)
def test_a_depot_that_cannot_be_read_is_not_added(
    path: str, fault: Fault, told: str, server: DepotServer, library: DepotLibrary
) -> None:
    server.faults[path] = fault
    with pytest.raises(ImageError, match=told):
        library.add(f"{server.url}/index.xml", "web")
    assert library.names() == ()
    assert {name.split("/")[0] for name in on_disk(library)} <= {".downloads"}
    server.faults.clear()
    library.add(f"{server.url}/index.xml", "web")


@pytest.mark.parametrize(
    ("files_", "told"),
    [
        ({"index.xml": b"<html/>"}, "the server sent a web page, perhaps a login"),
        ({"index.xml": b"<!DOCTYPE x [<!ENTITY a 'b'>]><vendorList/>"}, "index.xml"),
        (
            {
                "index.xml": b"<vendorList><vendor><indexfile>file:///etc/passwd</indexfile></vendor></vendorList>"
            },
            "leads elsewhere and is not followed",
        ),
    ],
)
def test_an_index_that_is_none(files_: dict[str, bytes], told: str, library: DepotLibrary) -> None:
    with serving(files_) as server, pytest.raises(FormatError, match=told):
        library.add(f"{server.url}/index.xml", "web")


def test_an_index_that_leads_to_nothing_does_not_empty_the_depot(
    server: DepotServer, library: DepotLibrary
) -> None:
    """A depot that moved, or a server that was set up half: what was downloaded stays."""
    library.add(f"{server.url}/index.xml", "web", download=True)
    server.files["vendor-index.xml"] = b"<metaList/>"
    for again in (lambda: library.refresh("web"), lambda: library.add(f"{server.url}/index.xml", "new")):
        with pytest.raises(FormatError, match="leads to no metadata zip, so the depot is empty"):
            again()
    assert library.names() == ("web",)
    assert files(library.get("web"))[A.id] == A.data


def test_no_secret_of_an_address_is_shown(library: DepotLibrary, tmp_path: Path) -> None:
    token = "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8"
    bad = {f"{token}/{name}": data for name, data in depot_files(tmp_path, A).items()}
    with serving(bad) as server:
        url = server.url.replace("//", "//lab:s3cret@") + f"/{token}/index.xml?key=k3y"
        record = library.add(url, "web").record
        assert files(library.get("web")) == {A.id: A.data}
        assert all(one.headers.get("Authorization") for one in server.asked)
        told = [record.source, library.get("web").source, *record.warnings]
        for gone in ("index.xml", "vendor-index.xml", "metadata.zip"):
            server.files[f"{token}/{gone}"] = b"<x/>"
            with pytest.raises(ImageError) as raised:
                library.refresh("web")
            told.append(str(raised.value))
    assert not [text for text in told if "s3cret" in text or "k3y" in text or token in text]
    for path in (library.root / "web").iterdir():
        assert path.is_dir() or path.stat().st_mode & 0o077 == 0
    assert "s3cret" in json.loads((library.root / "web/depot.json").read_text())["url"], (
        "or it could not refresh"
    )


def test_without_a_library(server: DepotServer, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with OnlineDepot(f"{server.url}/", tmp_path / "cache", Fetcher(tmp_path / "parts", HASTY)) as depot:
        assert list(depot.packages) == [A.id, B.id]
        assert [profile.name for profile in depot.profiles] == ["lab"]
        assert depot.bulletins
        assert (depot.name, depot.warnings) == ("127.0.0.1", ())
        assert b"".join(depot.vib(A.id).chunks("labnet")) == A.payloads[0].data
        with pytest.raises(ImageError, match="has no VIB nobody"):
            depot.vib("nobody")


def test_metadata_of_esx_4_beside_those_of_esxi(library: DepotLibrary, tmp_path: Path) -> None:
    """VMware's own depot goes back a long way; what is no metadata at all is an error still."""
    web = depot_files(tmp_path, A)
    older = b"<metadata><version>4.1.0</version><url>esx4.zip</url></metadata></metaList>"
    web["vendor-index.xml"] = web["vendor-index.xml"].replace(b"</metaList>", older)
    with zipfile.ZipFile(tmp_path / "esx4.zip", "w") as archive:
        archive.writestr("vmware.xml", "<metadataResponse/>")
    web["esx4.zip"] = (tmp_path / "esx4.zip").read_bytes()
    with serving(web) as server:
        library.add(f"{server.url}/index.xml", "web")
        depot = library.get("web")
        assert list(depot.packages) == [A.id]
        (warning,) = depot.warnings
        assert "esx4.zip has no folders vibs, profiles or bulletins" in warning

        server.files["esx4.zip"] = b"PK damaged"
        with pytest.raises(FormatError, match=r"esx4\.zip is no zip"):
            library.add(f"{server.url}/index.xml", "again")
