"""The depot library: each payload once, whole depots or none, whatever happens in the middle."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.depot.sources.opening import check_depot_name, default_depot_name, kind_of
from midwife.images.errors import FormatError, ImageError
from tests.peers.badfiles import driver, small_bundle
from tests.peers.depotmaker import Content, installer_files
from tests.peers.esximage import look_alike_profile
from tests.peers.esxiso import write_iso
from tests.peers.vibmaker import make_payload

from .stored import blobs, files, on_disk, originals

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def library(tmp_path: Path) -> DepotLibrary:
    return DepotLibrary(tmp_path / "data")


class TestWhatGoesIn:
    def test_a_bundle_comes_out_byte_by_byte(
        self, library: DepotLibrary, esxi: Content, esxi_bundle: Path
    ) -> None:
        seen: list[tuple[int, int]] = []
        report = library.add(str(esxi_bundle), progress=lambda *done: seen.append(done))
        assert report.record.name == "VMware-ESXi-8.0.3"
        depot = library.get("VMware-ESXi-8.0.3")
        assert files(depot) == originals(esxi)
        assert {profile.name: profile.vib_list for profile in depot.profiles} == dict(esxi.profiles)
        assert len(depot.bulletins) == report.record.bulletins > 0
        assert (report.record.vibs, report.record.kind) == (len(esxi.everything), "bundle")
        assert seen == sorted(seen)
        assert seen[-1] == (report.record.size, report.record.size)
        assert subprocess.run(
            ["sha256sum", esxi_bundle], capture_output=True, text=True, check=True
        ).stdout.startswith(report.record.sha256)

    def test_real_vibs_and_bundles_come_out_as_they_were(self, library: DepotLibrary) -> None:
        """Eleven of them have the same id and different contents: each depot has its own."""
        sources = [path for path in sorted(DATA.rglob("*")) if path.suffix in (".vib", ".zip")]
        for number, path in enumerate(sources):
            library.add(str(path), f"real-{number}")
            found = files(library.get(f"real-{number}"))
            if path.suffix == ".vib":
                assert list(found.values()) == [path.read_bytes()]
            else:
                with zipfile.ZipFile(path) as archive:
                    there = {archive.read(name) for name in archive.namelist() if name.endswith(".vib")}
                assert set(found.values()) == there
        assert len(library.names()) == len(sources) > 20

    def test_the_depots_own_description_is_kept_too(self, library: DepotLibrary, tmp_path: Path) -> None:
        """7.0 and later: metadata have software platforms that the VIB's descriptor does not have."""
        made = driver(platforms=["8.0.0"])
        plain = driver()

        def change(members: dict[str, bytes]) -> None:
            for name in members:
                if name.startswith("vibs/"):
                    members[name] = members[name].replace(
                        b"<system-requires>",
                        b'<system-requires><softwarePlatform version="8.*" productLineID="embeddedEsx"/>',
                    )

        library.add(str(small_bundle(tmp_path / "x.zip", plain, change_metadata=change)))
        depot = library.get("x")
        (listed,) = depot.packages.values()
        assert [platform.version for platform in listed.software_platforms] == ["8.*"]
        assert depot.vib(plain.id).package.software_platforms == ()
        assert files(depot) == {plain.id: plain.data}
        assert made.id == plain.id

    def test_relations_are_believed_of_the_vib_alone(self, library: DepotLibrary, tmp_path: Path) -> None:
        """A depot's metadata are not signed: they cannot take a dependency away from a VIB that is."""
        made = driver(depends=["vmkapi_2_6_0_0"])

        def change(members: dict[str, bytes]) -> None:
            for name in members:
                if name.startswith("vibs/"):
                    members[name] = members[name].replace(b"vmkapi_2_6_0_0", b"anything")

        library.add(str(small_bundle(tmp_path / "x.zip", made, change_metadata=change)))
        (listed,) = library.get("x").packages.values()
        assert [str(one) for one in listed.depends] == ["vmkapi_2_6_0_0"]

    def test_loose_vibs_and_a_folder_of_them(self, library: DepotLibrary, tmp_path: Path) -> None:
        folder = tmp_path / "drivers"
        (folder / "below").mkdir(parents=True)
        (folder / "a.vib").write_bytes(driver("a").data)
        (folder / "below/b.VIB").write_bytes(driver("b").data)
        (folder / "bad.vib").write_bytes(b"nonsense")
        one = library.add(str(folder / "a.vib"))
        assert (one.record.name, one.record.kind, one.record.vibs) == ("a", "vibs", 1)
        both = library.add(str(folder))
        assert (both.record.name, both.record.vibs, both.record.sha256) == ("drivers", 2, "")
        assert any("bad.vib" in warning for warning in library.get("drivers").warnings)
        assert files(library.get("drivers")) == {one.id: one.data for one in (driver("a"), driver("b"))}

    def test_an_iso_shares_its_blobs_with_the_bundle(
        self, library: DepotLibrary, esxi: Content, esxi_bundle: Path, esxi_iso: Path
    ) -> None:
        library.add(str(esxi_bundle), "bundle")
        before = blobs(library)
        report = library.add(str(esxi_iso), "iso")
        assert blobs(library) == before
        assert (report.new_bytes, report.shared_bytes) == (0, report.record.size)
        depot = library.get("iso")
        for vib_id in esxi.profiles[esxi.profile_name]:
            stored = depot.vib(vib_id)
            assert stored.path(stored.package.payloads[0].name) == library.get("bundle").vib(vib_id).path(
                stored.package.payloads[0].name
            )

    def test_an_iso_that_lacks_a_payload(self, library: DepotLibrary, tmp_path: Path) -> None:
        """Listed, with a warning; only who asks for those bytes is refused."""
        content = look_alike_profile("8.0.3")
        members = installer_files(content)
        gone = next(name for name in members if name.lower().endswith("tools.t00"))
        size = len(members.pop(gone))
        members["other.bin"] = b"x" * size
        plain = {re.sub(r"-|^\.", "_", name): data for name, data in members.items()}
        library.add(str(write_iso(tmp_path / "x.iso", plain)), "iso")
        depot = library.get("iso")
        tools = next(vib_id for vib_id in depot.packages if "tools-light" in vib_id)
        assert any("tools" in warning for warning in depot.warnings)
        with pytest.raises(ImageError, match="the source had everything of this VIB but these bytes"):
            next(depot.vib(tools).chunks("tools"))
        others = [vib_id for vib_id in depot.packages if vib_id != tools]
        assert all(payload.sha256 for vib_id in others for payload in depot.stored(vib_id).payloads)

    def test_a_bundle_that_lacks_a_vib(self, library: DepotLibrary, tmp_path: Path) -> None:
        def drop(members: dict[str, bytes]) -> None:
            del members[driver("b").depot_path]

        path = small_bundle(tmp_path / "x.zip", driver("a"), driver("b"), change=drop)
        library.add(str(path))
        depot = library.get("x")
        assert list(depot.packages) == [driver("a").id, driver("b").id]
        assert any("without their files" in warning for warning in depot.warnings)
        with pytest.raises(ImageError, match=r"lists .*, but did not have it"):
            depot.vib(driver("b").id)
        assert library.add(str(path)).already

    def test_a_payload_without_sha256_is_proved_by_its_other_sums(
        self, library: DepotLibrary, tmp_path: Path
    ) -> None:
        """Only the sum over the unpacked bytes: the address is computed, the proof comes after."""

        def only_sha1(descriptor: bytes) -> bytes:
            at = descriptor.index(b'<checksum checksum-type="sha-256">')
            return descriptor[:at] + descriptor[descriptor.index(b"</checksum>", at) + 11 :]

        made = driver(edit=only_sha1, old_sums=True)
        (tmp_path / "x.vib").write_bytes(made.data)
        library.add(str(tmp_path / "x.vib"))
        assert files(library.get("x")) == {made.id: made.data}
        bad = bytearray(made.data)
        bad[-12] ^= 1  # of the payload's gzip trailer
        (tmp_path / "x.vib").write_bytes(bad)
        with pytest.raises(FormatError, match="labnet"):
            library.add(str(tmp_path / "x.vib"), "bad")
        assert library.names() == ("x",)
        assert len(blobs(library)) == 1

    def test_a_sum_that_is_none(self, library: DepotLibrary, tmp_path: Path) -> None:
        def nonsense(descriptor: bytes) -> bytes:
            return re.sub(rb'("sha-256">)[0-9a-f]{64}', rb"\1../../etc/passwd", descriptor, count=1)

        (tmp_path / "x.vib").write_bytes(driver(edit=nonsense).data)
        with pytest.raises(FormatError, match="in its descriptor is no SHA-256"):
            library.add(str(tmp_path / "x.vib"))
        assert on_disk(library) == {}

    def test_the_same_id_with_other_content_in_another_depot(
        self, library: DepotLibrary, tmp_path: Path
    ) -> None:
        mine = driver()
        other = driver(payloads=[make_payload("labnet", {"opt/lab/net": b"other"})])
        assert mine.id == other.id
        library.add(str(small_bundle(tmp_path / "a.zip", mine)))
        library.add(str(small_bundle(tmp_path / "b.zip", other)))
        assert files(library.get("a")) == {mine.id: mine.data}
        assert files(library.get("b")) == {mine.id: other.data}


class TestNames:
    @pytest.mark.parametrize(
        ("source", "name"),
        [
            ("/x/VMware-ESXi-8.0U3-24022510-depot.zip", "VMware-ESXi-8.0U3-24022510"),
            ("packer-offline-bundle.zip", "packer"),
            ("vghetto-ghettoVCB.vib", "vghetto-ghettoVCB"),
            ("My Drivers (new).zip", "My-Drivers-new"),
            ("zip:/x/lab-depot.zip?index.xml", "lab"),
            ("/x/VMware-VMvisor-Installer-8.0U3-24022510.x86_64.iso", "8.0U3-24022510"),
            ("https://hostupdate.vmware.com/software/main/vmw-depot-index.xml", "hostupdate.vmware.com"),
        ],
    )
    def test_default_names(self, source: str, name: str) -> None:
        assert default_depot_name(source) == name

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "blobs", "Blobs", ".x", "x" * 81, "a b", "a\n"])
    def test_names_that_no_depot_can_have(self, name: str) -> None:
        with pytest.raises(ImageError):
            check_depot_name(name)

    def test_a_source_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "x.zip").write_bytes(b"<!DOCTYPE html>")
        (tmp_path / "y.zip").write_bytes(b"text")
        for source, told in [
            ("x.zip", "is a web page"),
            ("y.zip", "is no depot: a depot is"),
            ("gone.zip", "does not exist"),
            ("a\0b", "does not exist"),
        ]:
            with pytest.raises(ImageError, match=told):
                kind_of(f"{tmp_path}/{source}")
        with pytest.raises(ImageError, match="cannot be fetched"):
            kind_of("ftp://h/index.xml")

    def test_a_wrong_name_is_told_with_the_right_one(self, library: DepotLibrary, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"there are: none; `midwife depot add SOURCE` brings one"):
            library.get("lab")
        library.add(str(small_bundle(tmp_path / "drivers.zip")))
        for ask in (library.get, library.remove, library.refresh, library.download):
            with pytest.raises(ImageError, match=r"did you mean drivers\?"):
                ask("driver")

    def test_a_name_is_given_once(self, library: DepotLibrary, tmp_path: Path) -> None:
        path = small_bundle(tmp_path / "x.zip")
        first = library.add(str(path)).record
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "y.zip", "w") as again:
            for name in reversed(archive.namelist()):
                again.writestr(name, archive.read(name))
        same = library.add(str(tmp_path / "y.zip"), "x")
        assert same.already, "another file, the same content"
        assert same.record == first
        small_bundle(tmp_path / "y.zip", driver("other"))
        with pytest.raises(
            ImageError, match=r"with other content: choose another name with --name, or .*--replace"
        ):
            library.add(str(tmp_path / "y.zip"), "x")
        assert list(library.get("x").packages) == [driver().id]
        library.add(str(tmp_path / "y.zip"), "x", replace=True)
        assert list(library.get("x").packages) == [driver("other").id]
        assert list(library.get("x").directory.glob("content-*")) == [library.get("x").content]


class TestWhatGoesOut:
    def test_only_what_no_other_depot_has_goes(self, library: DepotLibrary, tmp_path: Path) -> None:
        lone = driver("lone", payloads=[make_payload("lone", {"opt/lab/lone": b"l" * 5000})])
        library.add(str(small_bundle(tmp_path / "a.zip", driver(), lone)))
        library.add(str(small_bundle(tmp_path / "b.zip", driver())))
        assert library.remove("a") == len(lone.payloads[0].data)
        assert library.names() == ("b",)
        assert files(library.get("b")) == {driver().id: driver().data}
        assert library.remove("b") == len(driver().payloads[0].data)
        assert on_disk(library) == {}

    def test_replacing_reads_every_byte_again(self, library: DepotLibrary, tmp_path: Path) -> None:
        """So a blob that the disk damaged is mended."""
        path = small_bundle(tmp_path / "x.zip")
        library.add(str(path))
        blob = library.get("x").vib(driver().id).path("labnet")
        blob.chmod(0o644)
        blob.write_bytes(bytes(blob.stat().st_size))
        assert library.add(str(path)).already
        library.add(str(path), replace=True)
        assert files(library.get("x")) == {driver().id: driver().data}

    def test_a_damaged_depot_can_be_removed_and_stops_nothing_else(
        self, library: DepotLibrary, tmp_path: Path
    ) -> None:
        library.add(str(small_bundle(tmp_path / "x.zip")))
        library.add(str(small_bundle(tmp_path / "y.zip", driver("other"))))
        (library.root / "x/depot.json").write_text("{")
        assert library.names() == ("x", "y")
        assert [depot.name for depot in library.all()] == ["y"]
        library.add(str(small_bundle(tmp_path / "z.zip")))
        assert library.remove("x") == 0
        library.remove("z")
        library.remove("y")
        assert on_disk(library) == {}
