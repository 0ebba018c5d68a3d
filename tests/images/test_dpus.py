"""VIBs for DPUs: profiles of 8.0 and later hold a second ESXi, for ARM, which hosts neither load nor need."""

import re
from pathlib import Path

import pytest

from midwife.images.depot.formats.imgdb import read_imgdb
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.errors import ImageError
from midwife.images.export.bundle import write_bundle
from midwife.images.export.iso import write_iso
from midwife.images.export.tree import write_tree
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.validate import validate
from tests.peers import esximage, esxiso
from tests.peers.depotmaker import installer_files
from tests.peers.esximage import Content


@pytest.fixture(scope="module")
def library(esxi_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> DepotLibrary:
    """The look-alike's bundle, imported."""
    library = DepotLibrary(tmp_path_factory.mktemp("library"))
    library.add(str(esxi_bundle), "esxi")
    return library


def test_a_netboot_tree_has_nothing_of_them(library: DepotLibrary, esxi: Content, tmp_path: Path) -> None:
    """Though their payloads have the boot orders and names of the host's."""
    catalogue = Catalogue(library.all())
    resolved = catalogue.resolve(catalogue.profile(esxi.profile_name)[1])
    assert validate(resolved, catalogue) == ()

    write_tree(tmp_path / "tree", resolved, library.get("esxi").vib)
    for_dpus = [one for one in esxi.standard if one.dpu]
    theirs = {payload.data for one in for_dpus for payload in one.payloads if len(payload.data) > 100}
    assert theirs
    assert not theirs & {path.read_bytes() for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    entries = read_imgdb(tmp_path / "tree" / "imgdb.tgz").profile.vibs
    assert {entry.id for entry in entries if not entry.boot} == {one.id for one in for_dpus}


def test_vmwares_iso_has_their_files_in_a_form_of_its_own(esxi: Content, tmp_path: Path) -> None:
    """Nobody can read them there; who has the ISO alone can boot hosts with it, and make another ISO."""
    names = esximage.media_names(esxi.standard)
    theirs = {names[one.id, payload.name] for one in esxi.standard if one.dpu for payload in one.payloads}
    files = {name: data for name, data in installer_files(esxi).items() if name not in theirs}
    plain = {re.sub(r"-|^\.", "_", name): data for name, data in files.items()}
    library = DepotLibrary(tmp_path / "data")
    library.add(str(esxiso.write_iso(tmp_path / "x.iso", plain)), "iso")
    depot = library.get("iso")
    (warning,) = depot.warnings
    assert "3 VIBs for DPUs are listed" in warning

    catalogue = Catalogue([depot])
    resolved = catalogue.resolve(catalogue.profile(esxi.profile_name)[1])
    assert validate(resolved, catalogue) == ()
    assert write_tree(tmp_path / "tree", resolved, depot.vib).warnings == ()
    (warning,) = write_iso(tmp_path / "again.iso", resolved, depot.vib).warnings
    assert "the files of 3 VIBs for DPUs are left out" in warning
    with pytest.raises(ImageError, match="the source had everything of this VIB but these bytes"):
        write_bundle(tmp_path / "x.zip", resolved, depot.vib)
    assert not (tmp_path / "x.zip").exists()
