"""The netboot tree and the image made of it: names, bytes, boot.cfg, and nothing left of a failed one."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from midwife.images.boot import imported
from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
from midwife.images.boot.manifest import FILES, MANIFEST, read_manifest
from midwife.images.depot.formats.imgdb import read_imgdb
from midwife.images.depot.sources.isodepot import IsoDepot
from midwife.images.errors import FormatError, ImageError
from midwife.images.export.install import install_tree, profile_digest
from midwife.images.export.tree import write_tree
from midwife.images.flow import BLOCK
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.content import Vib
from midwife.wire.bootcfg import parse
from tests.images.export.composed import in_memory, renamed, resolved_profile, with_vibs
from tests.peers.depotmaker import installer_files
from tests.peers.esximage import Content, look_alike_profile


class Twisted:
    """A VIB, but the bytes of one payload are others."""

    def __init__(self, vib: Vib, payload: str, data: bytes) -> None:
        self._vib, self._payload, self._data = vib, payload, data
        self.package, self.descriptor, self.signature = vib.package, vib.descriptor, vib.signature
        self.exact, self.headers = vib.exact, vib.headers

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        return iter((self._data,)) if payload == self._payload else self._vib.chunks(payload, block)

    def path(self, payload: str) -> Path | None:
        return None


class Kept:
    """A VIB whose payloads are files in a folder, as those of the depot library are."""

    def __init__(self, vib: Vib, folder: Path) -> None:
        self._vib, self._folder = vib, folder
        self.package, self.descriptor, self.signature = vib.package, vib.descriptor, vib.signature
        self.exact, self.headers = vib.exact, vib.headers
        for payload in self.package.payloads:
            path = self.path(payload.name)
            if not path.exists():
                path.write_bytes(b"".join(vib.chunks(payload.name)))
                path.chmod(0o444)

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        return iter((self.path(payload).read_bytes(),))

    def path(self, payload: str) -> Path:
        return self._folder / f"{self.package.name}-{payload}"


def tree_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def resolved(esxi: Content) -> ResolvedProfile:
    return resolved_profile(esxi)


def test_the_modules_are_those_of_the_installers_iso(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile
) -> None:
    written = write_tree(tmp_path / "tree", resolved, in_memory(esxi))
    found, expected = tree_of(tmp_path / "tree"), installer_files(esxi)
    assert set(found) <= set(expected)
    same = set(found) - {"boot.cfg", "imgdb.tgz"}
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}
    assert {"mboot.c32", "efi/boot/bootx64.efi", "efi/boot/crypto64.efi"} <= set(found)
    assert "isolinux.bin" not in found
    assert {name: entry.sha256 for name, entry in written.files.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in found.items()
    }
    assert {name: entry.size for name, entry in written.files.items()} == {
        name: len(data) for name, data in found.items()
    }
    assert written.warnings == ()


def test_its_boot_cfg_loads_all_of_it(tmp_path: Path, esxi: Content, resolved: ResolvedProfile) -> None:
    write_tree(tmp_path / "tree", resolved, in_memory(esxi), kernelopt="runweasel debug")
    text = (tmp_path / "tree" / "boot.cfg").read_bytes()
    keys = [line.split(b"=")[0].decode() for line in text.splitlines()]
    assert " ".join(keys) == "bootstate title timeout prefix kernel kernelopt modules build updated"
    cfg, theirs = parse(text), parse(installer_files(esxi)["boot.cfg"])
    assert cfg.warnings == ()
    assert cfg.title == f"Loading {esxi.profile_name}"
    assert (cfg.kernel, cfg.kernelopt, cfg.build) == ("b.b00", "runweasel debug", esxi.build)
    made_by_vmware = ("/basemisc.tgz", "/imgpayld.tgz")
    assert [f"/{module.name}" for module in cfg.modules] == [
        module.name for module in theirs.modules if module.name not in made_by_vmware
    ]
    assert all((tmp_path / "tree" / module.name).is_file() for module in cfg.modules)


def test_its_database_has_the_names(tmp_path: Path, esxi: Content, resolved: ResolvedProfile) -> None:
    write_tree(tmp_path / "tree", resolved, in_memory(esxi))
    database = read_imgdb(tmp_path / "tree" / "imgdb.tgz")
    names = {entry.id: dict(entry.payloads) for entry in database.profile.vibs}
    assert names[esxi.vib("i40en").id] == {"i40en": "i40en.v00"}
    assert {vib.signature for vib in database.vibs.values()} == {one.signature for one in esxi.standard}


def test_the_same_profile_gives_the_same_tree(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile
) -> None:
    for name in ("one", "two"):
        write_tree(tmp_path / name, resolved, in_memory(esxi))
    assert tree_of(tmp_path / "one") == tree_of(tmp_path / "two")


def test_progress_ends_at_the_whole(tmp_path: Path, esxi: Content, resolved: ResolvedProfile) -> None:
    seen: list[tuple[int, int]] = []
    written = write_tree(
        tmp_path / "tree", resolved, in_memory(esxi), progress=lambda done, whole: seen.append((done, whole))
    )
    size = sum(entry.size for entry in written.files.values())
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda data: data[:-1], "bytes instead of"), (lambda data: b"?" + data[1:], "the sha-256 sum is not")],
)
def test_a_damaged_payload_leaves_nothing(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile, change: object, message: str
) -> None:
    made, vibs = esxi.vib("vsan"), in_memory(esxi)
    data = change(made.payloads[0].data)  # type: ignore[operator]

    def damaged(vib_id: str) -> Vib:
        return Twisted(vibs(vib_id), "vsan", data) if vib_id == made.id else vibs(vib_id)

    with pytest.raises(FormatError, match=f"VIB {made.id}, payload vsan: .*{message}"):
        write_tree(tmp_path / "tree", resolved, damaged)
    assert list(tmp_path.iterdir()) == []


def test_a_payload_with_nothing_but_an_inner_sum_is_checked(tmp_path: Path, esxi: Content) -> None:
    """Seen in old VIBs: sha-1 over the unpacked bytes only."""
    made, vibs = esxi.vib("vsan"), in_memory(esxi)
    base = resolved_profile(esxi)
    package = base.packages[made.id]
    payload = package.payloads[0]
    inner = replace(payload, checksums=tuple(one for one in payload.checksums if one.process == "gunzip"))
    old = replace(package, payloads=(inner,))
    resolved = replace(base, packages={**base.packages, made.id: old})

    def opened(vib_id: str, data: bytes = made.payloads[0].data) -> Vib:
        if vib_id != made.id:
            return vibs(vib_id)
        vib = Twisted(vibs(vib_id), "vsan", data)
        vib.package = old
        return vib

    written = write_tree(tmp_path / "tree", resolved, opened)
    assert written.files["vsan.v00"].sha256 == hashlib.sha256(made.payloads[0].data).hexdigest()
    flipped = bytearray(made.payloads[0].data)
    flipped[len(flipped) // 2] ^= 1
    with pytest.raises(FormatError, match="vsan"):
        write_tree(tmp_path / "other", resolved, lambda vib_id: opened(vib_id, bytes(flipped)))
    assert not (tmp_path / "other").exists()


def test_a_vib_that_is_not_what_the_depot_lists_is_refused(tmp_path: Path, esxi: Content) -> None:
    other = look_alike_profile("8.0.3", seed=2)
    with pytest.raises(FormatError, match="payloads are not those that its depot lists"):
        write_tree(tmp_path / "tree", resolved_profile(esxi), in_memory(other))


def test_a_full_directory_is_left_alone(tmp_path: Path, esxi: Content, resolved: ResolvedProfile) -> None:
    target = tmp_path / "tree"
    target.mkdir()
    write_tree(target, resolved, in_memory(esxi))
    before = tree_of(target)
    with pytest.raises(ImageError, match="exists already; choose a new directory"):
        write_tree(target, resolved, in_memory(esxi))
    assert tree_of(target) == before


def test_loaders_come_from_a_medium_where_the_profile_has_none(
    tmp_path: Path, esxi: Content, esxi_iso: Path
) -> None:
    """The media writer's own modules come along, as they are of the same build."""
    resolved = without_loaders(resolved_profile(esxi))
    vibs = bare(esxi, resolved)
    alone = write_tree(tmp_path / "alone", resolved, vibs)
    assert "mboot.c32" not in alone.files
    written = write_tree(tmp_path / "tree", resolved, vibs, loaders_from=esxi_iso)
    expected = installer_files(esxi)
    for name in ("mboot.c32", "efi/boot/bootx64.efi", "efi/boot/crypto64.efi", "imgpayld.tgz"):
        assert (tmp_path / "tree" / name).read_bytes() == expected[name]
    modules = [module.name for module in parse((tmp_path / "tree" / "boot.cfg").read_bytes()).modules]
    assert modules[-3:] == ["imgdb.tgz", "basemisc.tgz", "imgpayld.tgz"]
    assert written.warnings == ()


def test_loaders_of_another_build_come_without_its_modules(
    tmp_path: Path, esxi_iso: Path, library: Library
) -> None:
    """From an imported image this time."""
    import_iso(esxi_iso, library, "newer")
    old = look_alike_profile("7.0.3")
    resolved = without_loaders(resolved_profile(old))
    written = write_tree(
        tmp_path / "tree", resolved, bare(old, resolved), loaders_from=library.images_dir / "newer"
    )
    assert "mboot.c32" in written.files
    assert "imgpayld.tgz" not in written.files
    assert [one for one in written.warnings if "imgpayld.tgz of newer are left out" in one]


def test_an_image_is_made_that_the_library_serves(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile, library: Library
) -> None:
    manifest = install_tree(library, resolved, in_memory(esxi))
    image = library.describe(manifest.name)
    assert manifest.name == esxi.profile_name
    assert (image.kind, image.build, image.netboot) == ("esxi", esxi.build, True)
    assert image.loads[0] == "b.b00"
    assert image.files["mboot.efi"].path.read_bytes() == installer_files(esxi)["efi/boot/bootx64.efi"]
    assert library.get(manifest.name).loads[-1] == "midwife.tgz"
    assert read_manifest(library.images_dir / manifest.name) == manifest
    assert manifest.source == f"profile {esxi.profile_name}"


def test_payloads_of_the_depot_library_are_shared(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile, library: Library
) -> None:
    kept, vibs = tmp_path / "blobs", in_memory(esxi)
    kept.mkdir()
    manifest = install_tree(library, resolved, lambda vib_id: Kept(vibs(vib_id), kept), "shared")
    files = library.images_dir / "shared" / FILES
    blob = kept / "i40en-i40en"
    assert (files / "i40en.v00").read_bytes() == blob.read_bytes()
    assert manifest.files["i40en.v00"].sha256 == hashlib.sha256(blob.read_bytes()).hexdigest()
    # A hard link, or a clone that has an inode of its own: then it has the blob's mode.
    assert (files / "i40en.v00").stat().st_mode == blob.stat().st_mode


def test_an_export_never_links(tmp_path: Path, esxi: Content, resolved: ResolvedProfile) -> None:
    """Who edits a file of an exported tree must not change the depot library."""
    kept, vibs = tmp_path / "blobs", in_memory(esxi)
    kept.mkdir()
    write_tree(tmp_path / "tree", resolved, lambda vib_id: Kept(vibs(vib_id), kept))
    assert (kept / "i40en-i40en").stat().st_nlink == 1


def test_a_damaged_blob_is_found_although_it_is_only_linked(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile, library: Library
) -> None:
    kept, vibs = tmp_path / "blobs", in_memory(esxi)
    kept.mkdir()
    made = esxi.vib("i40en")
    vib = Kept(vibs(made.id), kept)
    vib.path("i40en").chmod(0o644)
    vib.path("i40en").write_bytes(b"?" + made.payloads[0].data[1:])
    with pytest.raises(FormatError, match="i40en: the sha-256 sum"):
        install_tree(library, resolved, lambda vib_id: Kept(vibs(vib_id), kept), "shared")
    assert imported.stored(library.images_dir) == []
    assert [path for path in library.images_dir.iterdir() if path.name != ".lock"] == []


def test_a_newer_one_takes_the_place_of_an_older(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile, library: Library
) -> None:
    first = install_tree(library, resolved, in_memory(esxi), "lab")
    fewer = with_vibs(esxi, tuple(one for one in esxi.standard if one.name != "i40en"))
    second = install_tree(library, fewer, in_memory(esxi), "lab")
    assert "i40en.v00" in first.files
    assert "i40en.v00" not in library.describe("lab").files
    assert not (library.images_dir / "lab" / FILES / "i40en.v00").exists()
    assert first.profile_digest != second.profile_digest
    assert {path.name for path in library.images_dir.iterdir()} == {".lock", "lab"}


def test_another_image_is_never_replaced(
    tmp_path: Path, esxi: Content, esxi_iso: Path, resolved: ResolvedProfile, library: Library
) -> None:
    import_iso(esxi_iso, library, "lab")
    with pytest.raises(ImageError, match=r"lab is there already, made of VMware-ESXi-8\.0\.3\.iso"):
        install_tree(library, resolved, in_memory(esxi), "lab")
    install_tree(library, resolved, in_memory(esxi), "mine")
    with pytest.raises(ImageError, match="mine is there already, made of profile ESXi"):
        install_tree(library, renamed(resolved, "another"), in_memory(esxi), "mine")


def test_the_digest_tells_a_stale_image(esxi: Content) -> None:
    resolved = resolved_profile(esxi)
    digest = profile_digest(resolved)
    later = replace(resolved, profile=replace(resolved.profile, serial=7, modified_time=None))
    assert profile_digest(later) == digest
    vib_id = esxi.vib("i40en").id
    touched = replace(resolved.packages[vib_id], summary="another")
    for changed in (
        renamed(resolved, "another"),
        replace(resolved, packages={**resolved.packages, vib_id: touched}),
        with_vibs(esxi, esxi.standard[1:]),
    ):
        assert profile_digest(changed) != digest


def test_an_image_json_without_the_new_keys_is_still_read(library: Library, esxi_iso: Path) -> None:
    import_iso(esxi_iso, library, "old")
    path = library.images_dir / "old" / MANIFEST
    path.write_text(path.read_text().replace('"profile_digest": "",', ""))
    assert "profile_digest" not in path.read_text()
    assert read_manifest(library.images_dir / "old").profile_digest == ""


def test_an_iso_becomes_an_image_by_way_of_its_vibs(esxi_iso: Path, library: Library, esxi: Content) -> None:
    with IsoDepot(esxi_iso) as depot:
        (profile,) = depot.profiles
        resolved = ResolvedProfile(profile, depot.packages)
        manifest = install_tree(library, resolved, depot.vib, "from-iso", loaders_from=esxi_iso)
    expected = installer_files(esxi)
    files = tree_of(library.images_dir / "from-iso" / FILES)
    assert set(manifest.files) == set(files)
    assert (
        read_imgdb(io.BytesIO(files["imgdb.tgz"])).vibs == read_imgdb(io.BytesIO(expected["imgdb.tgz"])).vibs
    )
    assert sorted(name for name in files if files[name] != expected[name]) == ["boot.cfg", "imgdb.tgz"]


def without_loaders(resolved: ResolvedProfile) -> ResolvedProfile:
    """esx-base as a depot may have it: without its raw payloads."""
    packages = {
        vib_id: replace(
            package,
            payloads=tuple(one for one in package.payloads if one.type in ("boot", "vgz", "tgz")),
        )
        for vib_id, package in resolved.packages.items()
    }
    return replace(resolved, packages=packages)


def bare(content: Content, resolved: ResolvedProfile):  # type: ignore[no-untyped-def]
    """VIBs with the descriptors of ``resolved``."""
    vibs = in_memory(content)

    def opened(vib_id: str) -> Vib:
        vib = Twisted(vibs(vib_id), "", b"")
        vib.package = resolved.packages[vib_id]
        return vib

    return opened
