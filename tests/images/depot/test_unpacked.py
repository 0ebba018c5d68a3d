"""Folders with an index: unpacked bundles and mirrors of online depots; and folders that only look like one."""

import shutil
import zipfile
from pathlib import Path

import pytest

from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.depot.sources.bundle import OfflineBundle
from midwife.images.depot.sources.loose import LooseVibs
from midwife.images.depot.sources.opening import default_depot_name, kind_of, open_depot
from midwife.images.depot.sources.unpacked import unpacked_index
from midwife.images.errors import FormatError, ImageError
from tests.images.depot.test_bundle import assert_complete, driver, small
from tests.peers.depotmaker import Content, write_bundle


def unpacked(folder: Path, content: Content) -> Path:
    """A bundle, unpacked by zipfile."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(write_bundle(folder.parent / "made.zip", content)) as archive:
        archive.extractall(folder)
    (folder.parent / "made.zip").unlink()
    return folder


def test_an_unpacked_bundle_is_the_same_depot(tmp_path: Path) -> None:
    content = small(driver(), driver("second"))
    folder = unpacked(tmp_path / "mirror", content)
    assert kind_of(str(folder)) == "bundle"
    with open_depot(str(folder)) as depot:
        assert list(depot.packages) == sorted(content.everything)
        assert [one.name for one in depot.profiles] == ["lab"]
        assert depot.warnings == ()
        for vib_id, made in content.everything.items():
            vib = depot.vib(vib_id)
            assert (vib.descriptor, vib.signature) == (made.descriptor, made.signature)
            assert b"".join(vib.chunks("labnet", 1000)) == made.payloads[0].data
    assert_complete(write_bundle(tmp_path / "x.zip", content), content)


def test_the_library_keeps_it_like_the_zip(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "ESXi-8", small(driver()))
    library = DepotLibrary(tmp_path / "data")
    from_zip = library.add(str(write_bundle(tmp_path / "ESXi-8.zip", small(driver()))))
    again = library.add(str(folder))
    assert again.already
    index = library.add(f"{folder}/index.xml", "again")
    assert (index.record.kind, index.record.vibs, index.record.profiles) == ("bundle", 1, 1)
    assert index.record.sha256 == ""  # of a folder there is none
    assert from_zip.record.sha256
    assert library.get("again").profiles == library.get("ESXi-8").profiles


@pytest.mark.parametrize("name", ["index.xml", "INDEX.XML", "vmw-depot-index.xml", "__hostupdate20__.xml"])
@pytest.mark.parametrize("around", ["", "a", "a/b"])
def test_whatever_the_index_is_called_and_wherever_it_was_unpacked(
    name: str, around: str, tmp_path: Path
) -> None:
    folder = unpacked(tmp_path / "m" / around if around else tmp_path / "m", small(driver()))
    (folder / "index.xml").rename(folder / name)
    found = unpacked_index(tmp_path / "m")
    assert found == folder / name
    with OfflineBundle(tmp_path / "m", found) as depot:
        assert list(depot.packages) == [driver().id]
        assert depot.vib(driver().id).package.name == "lab-net"


def test_a_vendors_index_alone(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "m", small(driver()))
    (folder / "index.xml").unlink()
    with open_depot(str(folder)) as depot:
        assert list(depot.packages) == [driver().id]
        (warning,) = depot.warnings
        assert "has no index.xml; its vendor-index.xml is used" in warning


def test_names_of_depots() -> None:
    assert default_depot_name("/srv/ESXi 8/index.xml") == "ESXi-8"
    assert default_depot_name("/srv/imgdb.tgz") == "imgdb"


def test_what_lies_beside_is_told(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "m", small(driver()))
    (folder / "extra.vib").write_bytes(driver("extra").data)
    (folder / "elsewhere").symlink_to(tmp_path)
    with open_depot(str(folder)) as depot:
        assert list(depot.packages) == [driver().id]
        link, extra = depot.warnings
    assert "elsewhere is a link to a folder, and not followed" in link
    assert "index does not list (1): extra.vib; they are left out" in extra


def test_folders_that_are_no_depot_of_their_own_give_their_vibs(tmp_path: Path) -> None:
    (tmp_path / "a.vib").write_bytes(driver().data)
    (tmp_path / "index.xml").write_bytes(b"<html><body/></html>")
    (tmp_path / "note.xml").write_bytes(b"<vendorList")
    unpacked(tmp_path / "below", small(driver("other")))
    assert unpacked_index(tmp_path) is None
    assert kind_of(str(tmp_path)) == "vibs"
    assert set(LooseVibs(tmp_path).packages) == {driver().id, driver("other").id}


def test_unpacked_metadata_are_no_depot(tmp_path: Path) -> None:
    (tmp_path / "vibs").mkdir()
    (tmp_path / "vibs" / "a.xml").write_bytes(driver().descriptor)
    (tmp_path / "vendor-index.xml").write_bytes(b"<metaList/>")
    assert unpacked_index(tmp_path) is None


def test_a_damaged_index_is_told_not_passed_over(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "m", small(driver()))
    index = folder / "index.xml"
    index.write_bytes(index.read_bytes()[:-30])
    with pytest.raises(FormatError, match=r"index\.xml"), open_depot(str(folder)):
        pass


def test_files_that_vanish_or_grow_while_it_is_read(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "m", small(driver(), driver("second")))
    with open_depot(str(folder)) as depot:
        (folder / driver().depot_path).unlink()
        (folder / driver("second").depot_path).write_bytes(driver("second").data + b"!")
        with pytest.raises(ImageError, match="cannot open"):
            depot.vib(driver().id)
        with pytest.raises(FormatError):
            depot.vib(driver("second").id)
    library = DepotLibrary(tmp_path / "data")
    with pytest.raises(ImageError):
        library.add(str(folder))
    assert library.names() == ()


def test_an_incomplete_mirror(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "m", small(driver(), driver("second")))
    (folder / driver().depot_path).unlink()
    with open_depot(str(folder)) as depot:
        assert f"lists 1 VIBs without their files: {driver().id}" in depot.warnings[0]
    shutil.rmtree(folder / "vib20", ignore_errors=True)
    (folder / "metadata.zip").unlink()
    with (
        pytest.raises(FormatError, match=r"has no metadata\.zip, which its index names"),
        open_depot(str(folder)),
    ):
        pass


def test_references_do_not_leave_the_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret.zip"
    folder = unpacked(tmp_path / "m", small(driver()))
    (folder / "metadata.zip").rename(secret)
    vendor = folder / "vendor-index.xml"
    for place in ("../secret.zip", str(secret), f"file://{secret}"):
        vendor.write_bytes(b"<metaList><metadata><url>%s</url></metadata></metaList>" % place.encode())
        with pytest.raises(FormatError), open_depot(str(folder)):
            pass


def test_a_folder_of_bundles_says_what_to_give(tmp_path: Path) -> None:
    write_bundle(tmp_path / "ESXi-8.zip", small(driver()))
    with pytest.raises(
        ImageError, match=r"no \.vib file and no index\.xml, but ESXi-8\.zip: add each of them"
    ):
        LooseVibs(tmp_path)
