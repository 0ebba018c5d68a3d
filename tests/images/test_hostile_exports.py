"""VIBs and profiles that want to steer an export: names that climb, that are taken, that write into boot.cfg."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.depot.kept.stored import StoredDepot
from midwife.images.errors import ImageError, ProfileError
from midwife.images.export.bundle import write_bundle
from midwife.images.export.iso import write_iso
from midwife.images.export.tree import write_tree
from midwife.images.objects.profile import ProfileVib
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.resolved import ResolvedProfile
from midwife.wire.bootcfg import parse
from tests.peers.badfiles import driver, small_bundle
from tests.peers.vibmaker import MadePayload, MadeVib, make_payload, vib

CLIMBING = ["../../evil.gz", "/evil.gz", "a/b.gz", "..\\evil.gz", ".."]
TAKEN = [
    "...gz",
    "boot.cfg",
    "BOOT.CFG",
    "imgdb.tgz",
    "mboot.c32",
    "efi",
    "isolinux.cfg",
    "midwife.tgz",
    "b.b00",
]
EXPORTS: dict[str, Callable[..., object]] = {"tree": write_tree, "iso": write_iso, "bundle": write_bundle}


def base(*payloads: MadePayload) -> MadeVib:
    kernel = make_payload("b", b"\x7fELF kernel", "boot", boot_order=10)
    return vib("esx-base", "8.0.3-0.0.1", payloads=[kernel, *payloads], provides=["esx-version = 8.0.3"])


def loaders() -> MadeVib:
    raw = {"isolinux.bin": "boot_iso_bios", "mboot.c32": "boot_com32_bios", "BOOTx64.EFI": "boot_loader_efi"}
    raw["efiboot.img"] = "eltorito_image_efi"
    payloads = [make_payload(name, b"good" * 300, type_) for name, type_ in raw.items()]
    return vib("loaders", "8.0.3-0.0.1", payloads=payloads)


def taken_in(folder: Path, *vibs: MadeVib) -> tuple[StoredDepot, ResolvedProfile]:
    library = DepotLibrary(folder / "data")
    library.add(str(small_bundle(folder / "x.zip", *vibs, loaders())), "x")
    depot = library.get("x")
    return depot, Catalogue([depot]).resolve(depot.profiles[0])


def new_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "payload",
    [
        *(("evil", "vgz", wish) for wish in CLIMBING),
        *((name, "text", None) for name in ("..", ".", "a/b", "x\\y")),
    ],
)
def test_a_vib_whose_payload_would_climb_is_left_out_and_told(
    payload: tuple[str, str, str | None], tmp_path: Path
) -> None:
    name, type_, vfat_name = payload
    evil = driver(
        payloads=[
            make_payload(name, b"1" if type_ == "text" else {"opt/x": b"1"}, type_, vfat_name=vfat_name)
        ]
    )
    depot, resolved = taken_in(tmp_path, base(), evil)
    assert resolved.missing == (evil.id,)
    assert any(evil.id in warning or "lab-net" in warning for warning in depot.warnings)
    before = new_files(tmp_path)
    for export in EXPORTS.values():
        with pytest.raises(ImageError, match=evil.id):
            export(tmp_path / "out", resolved, depot.vib)
    assert new_files(tmp_path) == before


@pytest.mark.parametrize("wish", TAKEN)
def test_a_vfat_name_is_a_wish(wish: str, tmp_path: Path) -> None:
    depot, resolved = taken_in(tmp_path, base(), driver(payloads=[_wishing(wish)]))
    write_tree(tmp_path / "tree", resolved, depot.vib)
    config = parse((tmp_path / "tree/boot.cfg").read_bytes())
    assert (tmp_path / "tree" / config.kernel).read_bytes() == base().payloads[0].data
    assert all(re.fullmatch(r"[a-z0-9_.]+", one.name) for one in config.modules)
    assert all((tmp_path / "tree" / one.name).is_file() for one in config.modules)
    write_iso(tmp_path / "x.iso", resolved, depot.vib)


def _wishing(name: str) -> MadePayload:
    return make_payload("evil", {"opt/x": b"1"}, vfat_name=name)


@pytest.mark.parametrize("given", [*CLIMBING, *TAKEN, "\n", "x\0", "é.v00", " ", "a" * 300])
def test_names_that_a_profile_fixes_are_checked_too(given: str, tmp_path: Path) -> None:
    depot, resolved = taken_in(tmp_path, base(), driver())
    fixed = tuple(
        ProfileVib(one.id, payloads={"labnet": given} if "lab-net" in one.id else {})
        for one in resolved.profile.vibs
    )
    resolved = replace(resolved, profile=replace(resolved.profile, vibs=fixed))
    (tmp_path / "deep").mkdir()
    write_tree(tmp_path / "deep/tree", resolved, depot.vib)
    config = parse((tmp_path / "deep/tree/boot.cfg").read_bytes())
    assert (tmp_path / "deep/tree" / config.kernel).read_bytes() == base().payloads[0].data
    assert all(one.name in new_files(tmp_path / "deep/tree") for one in config.modules)
    assert not [name for name in new_files(tmp_path) if "evil" in name]


@pytest.mark.parametrize(
    "type_", ["boot_com32_bios", "boot_loader_efi", "upgrade", "text", "boot_iso_bios", "new"]
)
@pytest.mark.parametrize("name", ["boot.cfg", "imgdb.tgz", "..efi", "-", "mboot.c32", "b.b00"])
def test_loaders_cannot_take_the_place_of_other_files(type_: str, name: str, tmp_path: Path) -> None:
    loader = make_payload(name, b"I am evil", type_)
    depot, resolved = taken_in(tmp_path, base(loader), driver())
    for export in (write_tree, write_iso):
        before = new_files(tmp_path)
        try:
            export(tmp_path / export.__name__, resolved, depot.vib)
        except ProfileError:
            assert new_files(tmp_path) == before, "two files of one name: refused, and nothing is left"
    if (tree := tmp_path / "write_tree").exists():
        assert parse((tree / "boot.cfg").read_bytes()).kernel == "b.b00"
        for own in ("boot.cfg", "imgdb.tgz", "b.b00"):
            assert b"evil" not in (tree / own).read_bytes()


@pytest.mark.parametrize(
    "name", ["lab\nkernel=/evil", "lab\r\nmodules=x", "\x1b[31mlab", "a --- b", "=", "ä" * 80]
)
@pytest.mark.parametrize("what", EXPORTS)
def test_a_profile_name_does_not_write_into_boot_cfg(what: str, name: str, tmp_path: Path) -> None:
    depot, resolved = taken_in(tmp_path, base(), driver())
    resolved = replace(resolved, profile=replace(resolved.profile, name=name))
    before = new_files(tmp_path)
    try:
        EXPORTS[what](tmp_path / "out", resolved, depot.vib)
    except ImageError:
        assert new_files(tmp_path) == before, "refused, and nothing is left"
        return
    if what == "tree":
        text = (tmp_path / "out/boot.cfg").read_bytes()
        assert parse(text).kernel == "b.b00"
        assert len(text.splitlines()) == 9
        assert b"\x1b" not in text


def test_two_thousand_payloads_of_one_name_are_told_not_lost(tmp_path: Path) -> None:
    many = [driver(f"lab-{n}", payloads=[make_payload("same", {f"opt/{n}": b"%d" % n})]) for n in range(257)]
    depot, resolved = taken_in(tmp_path, base(), *many)
    with pytest.raises(ImageError, match="256"):
        write_tree(tmp_path / "out", resolved, depot.vib)
    assert not (tmp_path / "out").exists()


def test_a_tree_is_never_written_through_a_link(tmp_path: Path) -> None:
    depot, resolved = taken_in(tmp_path, base(), driver())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImageError, match="exists"):
        write_tree(tmp_path / "out", resolved, depot.vib)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_blob_that_rots_is_noticed_by_every_export(tmp_path: Path) -> None:
    depot, resolved = taken_in(tmp_path, base(), driver())
    victim = next(one for one in resolved.packages if "lab-net" in one)
    blob = depot.vib(victim).path("labnet")
    assert blob
    data = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(data[:-9] + b"\0" + data[-8:])
    before = new_files(tmp_path)
    for export in EXPORTS.values():
        with pytest.raises(ImageError, match="labnet"):
            export(tmp_path / "out", resolved, depot.vib)
        assert new_files(tmp_path) == before
    blob.unlink()
    for export in EXPORTS.values():
        with pytest.raises(ImageError, match="labnet"):
            export(tmp_path / "out", resolved, depot.vib)
    assert new_files(tmp_path) == before - {str(blob.relative_to(tmp_path))}
