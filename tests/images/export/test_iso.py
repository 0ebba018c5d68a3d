"""The installer ISO: read back with xorriso, as a depot and as an image; bootable, reproducible, never half."""

import hashlib
import os
import re
import struct
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
from midwife.images.depot.sources.isodepot import IsoDepot
from midwife.images.errors import ImageError, ProfileError
from midwife.images.export.iso import write_iso
from midwife.images.export.isoboot import boot_warnings, iso_path, isolinux_cfg
from midwife.images.isofs import IsoReader
from midwife.images.objects.profile import ProfileVib
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.content import Vib
from midwife.wire.bootcfg import parse
from tests.images.export.composed import in_memory, resolved_profile
from tests.images.export.test_tree import Twisted, bare, without_loaders
from tests.peers.depotmaker import installer_files
from tests.peers.esximage import Content, look_alike_profile


def xorriso(iso: Path, *words: str) -> str:
    """What it prints of an ISO."""
    done = subprocess.run(["xorriso", "-indev", str(iso), *words], check=True, capture_output=True, text=True)
    return done.stdout


def extracted(iso: Path, folder: Path) -> dict[str, bytes]:
    """Every file, by lower-case name, as xorriso unpacks it."""
    subprocess.run(
        ["xorriso", "-osirrox", "on", "-indev", str(iso), "-extract", "/", str(folder)],
        check=True,
        capture_output=True,
    )
    return {
        path.relative_to(folder).as_posix().lower(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def resolved(esxi: Content) -> ResolvedProfile:
    return resolved_profile(esxi)


@pytest.fixture(scope="module")
def iso(esxi: Content, resolved: ResolvedProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by us out of the look-alike's VIBs."""
    path = tmp_path_factory.mktemp("written") / "lab.iso"
    written = write_iso(path, resolved, in_memory(esxi))
    assert written.warnings == ()
    assert written.size == path.stat().st_size
    return path


def test_xorriso_finds_every_file(tmp_path: Path, esxi: Content, iso: Path) -> None:
    """Against the look-alike's own ISO, which other code lays out."""
    found, expected = extracted(iso, tmp_path / "out"), installer_files(esxi)
    made_by_vmware = {"basemisc.tgz", "imgpayld.tgz", ".discinfo"}
    assert set(expected) - set(found) == made_by_vmware
    assert set(found) - set(expected) == {"boot.cat", "isolinux.b00"}
    ours = {
        "boot.cfg",
        "efi/boot/boot.cfg",
        "isolinux.cfg",
        "isolinux.bin",
        "imgdb.tgz",
        "upgrade/profile.xml",
    }
    same = set(expected) - made_by_vmware - ours
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}
    assert found["isolinux.b00"] == expected["isolinux.bin"]


def test_its_boot_cfg_is_that_of_a_medium(tmp_path: Path, esxi: Content, iso: Path) -> None:
    files = extracted(iso, tmp_path / "out")
    cfg = parse(files["boot.cfg"])
    assert files["efi/boot/boot.cfg"] == files["boot.cfg"]
    assert (cfg.kernel, cfg.kernelopt) == ("/b.b00", "runweasel cdromBoot")
    assert all(module.name.startswith("/") for module in cfg.modules)
    assert all(module.name[1:] in files for module in cfg.modules)
    assert cfg.build == esxi.build


def test_el_torito_has_both_firmwares(iso: Path) -> None:
    report = xorriso(iso, "-report_el_torito", "plain")
    images = re.findall(r"El Torito boot img : +(\d) +(\w+) +y +none", report)
    assert images == [("1", "BIOS"), ("2", "UEFI")]
    assert re.search(r"img path : +1 +/ISOLINUX\.BIN\n", report)
    assert re.search(r"img path : +2 +/EFIBOOT\.IMG\n", report)
    assert re.search(r"img opts : +1 +boot-info-table\n", report)  # xorriso checks its sum


def test_the_boot_information_table_is_right(tmp_path: Path, esxi: Content, iso: Path) -> None:
    """By the description in mkisofs(8): block of the volume descriptor, own block, length, sum of the rest."""
    image = extracted(iso, tmp_path / "out")["isolinux.bin"]
    volume, block, length, total = struct.unpack_from("<4I", image, 8)
    original = installer_files(esxi)["isolinux.bin"]
    padded = original + bytes(-len(original) % 4)
    assert image[64:] == original[64:]
    assert (volume, length) == (16, len(original))
    assert total == sum(struct.unpack(f"<{len(padded) // 4 - 16}I", padded[64:])) & 0xFFFFFFFF
    with iso.open("rb") as raw:
        raw.seek(block * 2048)
        assert raw.read(len(image)) == image


def test_its_vibs_come_back(esxi: Content, iso: Path) -> None:
    with IsoDepot(iso) as depot:
        assert depot.warnings == ()
        assert dict(depot.packages) == resolved_profile(esxi).packages
        for made in esxi.standard:
            vib = depot.vib(made.id)
            assert (vib.descriptor, vib.signature) == (made.descriptor, made.signature)
            assert {one.name: b"".join(vib.chunks(one.name)) for one in made.payloads} == {
                one.name: one.data for one in made.payloads
            }
        assert depot.profiles[0].name == esxi.profile_name


def test_it_can_be_imported_as_an_image(esxi: Content, iso: Path, library: Library) -> None:
    manifest = import_iso(iso, library, "lab")
    assert (manifest.profile, manifest.build) == (esxi.profile_name, esxi.build)
    assert {"mboot.efi", "mboot.c32", "crypto64.efi"} <= set(library.describe("lab").files)


def test_the_same_profile_gives_the_same_bytes_at_any_time(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile, iso: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 400 * 86400)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        write_iso(tmp_path / "again.iso", resolved, in_memory(esxi))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (
        hashlib.sha256((tmp_path / "again.iso").read_bytes()).digest()
        == hashlib.sha256(iso.read_bytes()).digest()
    )


def test_its_files_have_the_date_of_the_profile(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile
) -> None:
    moment = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
    dated = replace(resolved, profile=replace(resolved.profile, modified_time=moment))
    write_iso(tmp_path / "dated.iso", dated, in_memory(esxi))
    listing = xorriso(tmp_path / "dated.iso", "-find", "/", "-exec", "lsdl")
    assert len(listing.splitlines()) > 60
    assert all(" Mar  4  2025 " in line for line in listing.splitlines())
    assert "2025030405060700" in xorriso(tmp_path / "dated.iso", "-pvd_info")


def test_a_damaged_payload_leaves_the_old_iso(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile
) -> None:
    made, vibs = esxi.vib("vsan"), in_memory(esxi)
    out = tmp_path / "lab.iso"
    out.write_bytes(b"the ISO of yesterday")

    def damaged(vib_id: str, data: bytes) -> Vib:
        return Twisted(vibs(vib_id), "vsan", data) if vib_id == made.id else vibs(vib_id)

    good = made.payloads[0].data
    for data in (b"?" + good[1:], good[:-1], good + b"?", b""):
        with pytest.raises(ImageError, match=r"vsan"):
            write_iso(out, resolved, lambda vib_id, data=data: damaged(vib_id, data))  # type: ignore[misc]
        assert out.read_bytes() == b"the ISO of yesterday"
        assert [path.name for path in tmp_path.iterdir()] == ["lab.iso"]


def test_it_is_not_written_over_its_own_source(
    tmp_path: Path, esxi: Content, iso: Path, resolved: ResolvedProfile
) -> None:
    copy = tmp_path / "copy.iso"
    os.link(iso, copy)
    with pytest.raises(ImageError, match="is the source ISO itself"):
        write_iso(copy, resolved, in_memory(esxi), iso)


def test_without_loaders_it_says_what_to_do(tmp_path: Path, esxi: Content) -> None:
    resolved = without_loaders(resolved_profile(esxi))
    with pytest.raises(ProfileError, match=r"brings no boot loader.*isolinux\.bin.*--source-iso"):
        write_iso(tmp_path / "lab.iso", resolved, bare(esxi, resolved))
    assert list(tmp_path.iterdir()) == []


def test_loaders_from_a_source_iso(tmp_path: Path, esxi: Content, esxi_iso: Path) -> None:
    resolved = without_loaders(resolved_profile(esxi))
    written = write_iso(tmp_path / "lab.iso", resolved, bare(esxi, resolved), esxi_iso)
    files, expected = extracted(tmp_path / "lab.iso", tmp_path / "out"), installer_files(esxi)
    assert written.warnings == ()
    for name in ("efiboot.img", "mboot.c32", "efi/boot/bootx64.efi", "upgrade/precheck.py", "imgpayld.tgz"):
        assert files[name] == expected[name]
    assert "imgpayld.tgz" in parse(files["boot.cfg"]).modules[-1].name
    assert "UEFI" in xorriso(tmp_path / "lab.iso", "-report_el_torito", "plain")
    assert files["upgrade/profile.xml"] != expected["upgrade/profile.xml"]


def test_one_firmware_is_better_than_none(tmp_path: Path, esxi: Content) -> None:
    """An image that brings UEFI's loaders only."""
    base = resolved_profile(esxi)
    vib_id = esxi.vib("esx-base").id
    package = base.packages[vib_id]
    kept = tuple(one for one in package.payloads if one.type not in ("boot_com32_bios", "boot_iso_bios"))
    resolved = replace(base, packages={**base.packages, vib_id: replace(package, payloads=kept)})
    written = write_iso(tmp_path / "efi.iso", resolved, bare(esxi, resolved))
    assert [one for one in written.warnings if "does not start on BIOS machines" in one]
    report = xorriso(tmp_path / "efi.iso", "-report_el_torito", "plain")
    assert re.findall(r"El Torito boot img : +(\d) +(\w+)", report) == [("1", "UEFI")]


def test_a_large_efi_image_has_a_size_that_fits_its_field(tmp_path: Path, esxi: Content) -> None:
    """El Torito counts 16 bits of half-kilobytes; UEFI takes 1 for all that follows."""
    base = resolved_profile(esxi)
    made, vibs = esxi.vib("esx-base"), in_memory(esxi)
    data = bytes(33 << 20)
    payload = next(one for one in base.packages[made.id].payloads if one.name == "efiboot.img")
    large = replace(
        payload,
        size=len(data),
        checksums=(replace(payload.checksums[0], value=hashlib.sha256(data).hexdigest()),),
    )
    package = replace(
        base.packages[made.id],
        payloads=tuple(large if one is payload else one for one in base.packages[made.id].payloads),
    )
    resolved = replace(base, packages={**base.packages, made.id: package})

    def opened(vib_id: str) -> Vib:
        if vib_id != made.id:
            return vibs(vib_id)
        vib = Twisted(vibs(vib_id), "efiboot.img", data)
        vib.package = package
        return vib

    write_iso(tmp_path / "large.iso", resolved, opened)
    report = xorriso(tmp_path / "large.iso", "-report_el_torito", "plain")
    assert re.search(r"boot img : +2 +UEFI +y +none +\S+ +\S+ +1 ", report)


def test_names_that_iso_9660_hardly_knows(tmp_path: Path) -> None:
    """Two dots, dashes: they come back as they were."""
    content = look_alike_profile("6.7.0")
    base = resolved_profile(content)
    vib_id = content.vib("i40en").id
    entries = tuple(
        ProfileVib(one.id, payloads={"i40en": "i40.en-x.v00"}) if one.id == vib_id else one
        for one in base.profile.vibs
    )
    resolved = replace(base, profile=replace(base.profile, vibs=entries))
    write_iso(tmp_path / "x.iso", resolved, in_memory(content))
    assert "i40.en-x.v00" in extracted(tmp_path / "x.iso", tmp_path / "out")
    with IsoReader(tmp_path / "x.iso") as reader:
        assert "i40.en-x.v00" in reader.files
        assert "vmware-esx-base-osl.txt" in reader.files


def test_a_directory_that_is_not_there_is_said(
    tmp_path: Path, esxi: Content, resolved: ResolvedProfile
) -> None:
    with pytest.raises(ImageError, match=r"cannot write .*nowhere.*No such file"):
        write_iso(tmp_path / "nowhere" / "lab.iso", resolved, in_memory(esxi))


def test_progress_ends_at_the_whole(tmp_path: Path, esxi: Content, resolved: ResolvedProfile) -> None:
    seen: list[tuple[int, int]] = []
    write_iso(
        tmp_path / "x.iso", resolved, in_memory(esxi), progress=lambda done, whole: seen.append((done, whole))
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 50_000


def test_the_menu_needs_no_menu_program() -> None:
    assert isolinux_cfg({"mboot.c32"}).startswith(b"DEFAULT install\n")
    assert isolinux_cfg({"mboot.c32", "menu.c32"}).startswith(b"DEFAULT menu.c32\n")
    assert b"  KERNEL mboot.c32\n  APPEND -c boot.cfg\n" in isolinux_cfg(set())


def test_paths_and_warnings() -> None:
    assert iso_path("efi/boot/bootx64.efi") == "/EFI/BOOT/BOOTX64.EFI;1"
    assert iso_path("vmware-esx-base-readme") == "/VMWARE-ESX-BASE-README.;1"
    assert boot_warnings({"efiboot.img", "efi/boot/bootaa64.efi"}, "arm") == ()


def test_an_unsigned_vib_stays_unsigned(esxi: Content, tmp_path: Path) -> None:
    """Signatures are proved before an export; the ISO only carries them."""
    made, vibs = esxi.vib("vsan"), in_memory(esxi)

    def odd(vib_id: str) -> Vib:
        vib = Twisted(vibs(vib_id), "", b"")
        vib.signature = b"" if vib_id == made.id else vib.signature
        return vib

    write_iso(tmp_path / "x.iso", resolved_profile(esxi), odd)
    with IsoDepot(tmp_path / "x.iso") as depot:
        assert depot.vib(made.id).signature == b""
        assert depot.vib(made.id).exact
