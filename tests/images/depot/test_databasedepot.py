"""An image database by itself as a depot: everything it says, no payload, and payloads that another depot has."""

from pathlib import Path

import pytest

from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.depot.sources.opening import kind_of, open_depot
from midwife.images.errors import FormatError, ImageError
from midwife.images.vib.archives.payload import check_payload
from tests.peers.esximage import Content, imgdb_tgz, look_alike_profile, write_bundle


@pytest.fixture(scope="module")
def content() -> Content:
    return look_alike_profile("8.0.3")


@pytest.fixture
def database(content: Content, tmp_path: Path) -> Path:
    path = tmp_path / "imgdb.tgz"
    path.write_bytes(imgdb_tgz(content))
    return path


def test_lists_profile_and_vibs_and_refuses_payloads(content: Content, database: Path) -> None:
    assert kind_of(str(database)) == "imgdb"
    with open_depot(str(database)) as depot:
        (profile,) = depot.profiles
        assert profile.name == content.profile_name
        assert set(depot.packages) == {one.id for one in content.standard}
        for made in content.standard:
            vib = depot.vib(made.id)
            assert (vib.descriptor, vib.signature, vib.exact) == (made.descriptor, made.signature, True)
            assert vib.path("x") is None
            with pytest.raises(
                ImageError, match=r"imgdb\.tgz is an image database: it has descriptors and no"
            ):
                next(iter(vib.chunks("x")))
        with pytest.raises(ImageError, match="holds no VIB 'nope'"):
            depot.vib("nope")


def test_in_the_library_a_bundle_that_comes_later_has_the_payloads(
    content: Content, database: Path, tmp_path: Path
) -> None:
    library = DepotLibrary(tmp_path / "data")
    report = library.add(str(database), "host")
    assert (report.record.kind, report.record.vibs, report.new_bytes) == ("imgdb", len(content.standard), 0)
    (warning,) = report.record.warnings
    assert "compared and validated, not exported" in warning
    vib = library.get("host").vib(next(one.id for one in content.standard if one.name == "vsan"))
    (payload,) = vib.package.payloads
    with pytest.raises(ImageError, match="add a depot that has it whole"):
        check_payload(vib, payload)
    assert library.add(str(database), "host").already

    library.add(str(write_bundle(tmp_path / "bundle.zip", content)))
    check_payload(vib, payload)
    library.remove("bundle")
    with pytest.raises(ImageError, match="add a depot that has it whole"):
        check_payload(vib, payload)


def test_added_after_a_bundle_it_keeps_the_payloads(content: Content, database: Path, tmp_path: Path) -> None:
    library = DepotLibrary(tmp_path / "data")
    library.add(str(write_bundle(tmp_path / "bundle.zip", content)))
    for replace in (False, True):
        report = library.add(str(database), "host", replace=replace)
        assert (report.new_bytes, report.record.warnings) == (0, ())
    library.remove("bundle")
    for made in content.standard:
        vib = library.get("host").vib(made.id)
        for payload in vib.package.payloads:
            check_payload(vib, payload)


def test_other_gzip_files_say_what_they_are_not(tmp_path: Path, database: Path) -> None:
    (tmp_path / "half.tgz").write_bytes(database.read_bytes()[:-100])
    with pytest.raises(FormatError, match=r"half\.tgz ends too soon"), open_depot(f"{tmp_path}/half.tgz"):
        pass
