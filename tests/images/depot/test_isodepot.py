"""VIBs put together again out of an installer ISO."""

import gzip
import io
import random
import re
import struct
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midwife.images.depot.sources.isodepot import IsoDepot
from midwife.images.errors import ImageError
from midwife.images.vib.container import write_vib
from midwife.images.vib.content import Vib
from tests.peers.depotmaker import installer_files
from tests.peers.esximage import Content, look_alike_profile, write_installer_iso
from tests.peers.esxiso import look_alike, write_iso


def whole(vib: Vib) -> bytes:
    out = io.BytesIO()
    write_vib(out, vib)
    return out.getvalue()


def test_every_vib_is_there_byte_for_byte(esxi: Content, esxi_iso: Path) -> None:
    """Descriptor, signature and payloads; only the ar headers are lost."""
    with IsoDepot(esxi_iso) as depot:
        assert list(depot.packages) == sorted(one.id for one in esxi.standard)
        assert depot.warnings == ()
        for made in esxi.standard:
            vib = depot.vib(made.id)
            assert vib.exact
            assert (vib.descriptor, vib.signature) == (made.descriptor, made.signature)
            for payload in made.payloads:
                assert b"".join(vib.chunks(payload.name, 100)) == payload.data
                assert vib.path(payload.name) is None
            assert vib.headers == ()


def test_its_one_profile_names_the_files(esxi: Content, esxi_iso: Path) -> None:
    with IsoDepot(esxi_iso) as depot:
        (profile,) = depot.profiles
        assert profile.name == esxi.profile_name
        assert profile.vib_list == tuple(sorted(one.id for one in esxi.standard))
        base = next(entry for entry in profile.vibs if "esx-base" in entry.id)
        assert base.payloads["b"] == "b.b00"
        assert depot.bulletins == ()
        assert depot.name == "8.0.3"


def test_a_vib_taken_from_it_can_be_written_as_a_file(esxi_iso: Path, esxi: Content) -> None:
    with IsoDepot(esxi_iso) as depot:
        made = esxi.vib("i40en")
        data = whole(depot.vib(made.id))
        assert made.descriptor in data
        assert made.payloads[0].data in data


def test_an_old_iso_has_no_originals(tmp_path: Path) -> None:
    iso = write_installer_iso(tmp_path / "old.iso", look_alike_profile("5.5.0"))
    with IsoDepot(iso) as depot:
        vib = depot.vib(next(iter(depot.packages)))
        assert not vib.exact
        assert vib.signature == b""
        assert any("have lost their original descriptor" in warning for warning in depot.warnings)


def iso_without(path: Path, content: Content, *names: str, **more: bytes) -> Path:
    files = {name: data for name, data in installer_files(content).items() if name not in names}
    files |= {name.replace("__", "."): data for name, data in more.items()}
    return write_iso(path, {re.sub(r"-|^\.", "_", name): data for name, data in files.items()})


def test_a_payload_that_is_not_on_the_iso_is_told(tmp_path: Path, esxi: Content) -> None:
    iso = iso_without(tmp_path / "x.iso", esxi, "i40en.v00")
    with IsoDepot(iso) as depot:
        vib_id = esxi.vib("i40en").id
        assert vib_id in depot.packages
        assert [warning for warning in depot.warnings if vib_id in warning]
        with pytest.raises(ImageError, match=f"{vib_id}: its payload i40en is not on .*offline bundle"):
            list(depot.vib(vib_id).chunks("i40en"))


def test_a_file_of_another_size_is_not_taken_for_the_payload(tmp_path: Path, esxi: Content) -> None:
    iso = iso_without(tmp_path / "x.iso", esxi, i40en__v00=b"somebody else's module")
    with IsoDepot(iso) as depot, pytest.raises(ImageError, match="is not on"):
        list(depot.vib(esxi.vib("i40en").id).chunks("i40en"))


def test_a_payload_in_the_media_writers_archive_is_found(tmp_path: Path, esxi: Content) -> None:
    made = esxi.vib("esx-base")
    lost = next(payload for payload in made.payloads if payload.name == "safeboot.efi")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in (("other", b"x" * len(lost.data)), ("var/db/payloads/safeboot.efi", lost.data)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    packed = gzip.compress(archive.getvalue(), mtime=0)
    iso = iso_without(tmp_path / "x.iso", esxi, "efi/boot/safeboot.efi", "imgpayld.tgz", imgpayld__tgz=packed)
    with IsoDepot(iso) as depot:
        assert depot.warnings == ()
        assert b"".join(depot.vib(made.id).chunks("safeboot.efi", 100)) == lost.data


@pytest.mark.parametrize("known", [True, False])
def test_isolinux_is_told_from_what_a_boot_information_table_made_of_it(
    tmp_path: Path, esxi: Content, known: bool
) -> None:
    """As SYSLINUX ships it: length and sum filled in or not, the rest "dead beef" (seen in Debian's 6.04)."""
    lengths = struct.pack("<II", 1500, 0x1234567) if known else b"\xef\xbe\xad\xde" * 2
    original = b"12345678" + struct.pack("<II", 16, 0) + lengths + b"\xef\xbe\xad\xde" * 10 + bytes(1436)
    content = look_alike_profile("8.0.3", replace={"isolinux.bin": original})
    table = struct.pack("<4I40x", 16, 77, 1500, 0x1234567)
    changed = original[:8] + table + original[64:]
    iso = iso_without(tmp_path / "x.iso", content, isolinux__bin=changed)
    with IsoDepot(iso) as depot:
        assert depot.warnings == ()
        assert b"".join(depot.vib(content.vib("esx-base").id).chunks("isolinux.bin")) == original


def test_unknown_ids_and_payloads_are_told(esxi_iso: Path) -> None:
    with IsoDepot(esxi_iso) as depot:
        with pytest.raises(ImageError, match="holds no VIB 'nobody'"):
            depot.vib("nobody")
        with pytest.raises(ImageError, match="has no payload 'x'"):
            list(depot.vib(next(iter(depot.packages))).chunks("x"))


def test_other_isos_are_refused(tmp_path: Path) -> None:
    plain = write_iso(tmp_path / "plain.iso", {"readme.txt": b"hello"})
    with pytest.raises(ImageError, match=r"has no imgdb\.tgz, so it is no ESXi installer ISO"):
        IsoDepot(plain)
    noise = look_alike(tmp_path, file_name="noise.iso").path
    with pytest.raises(ImageError, match=r"imgdb\.tgz"):
        IsoDepot(noise)
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(ImageError, match="is not an ISO 9660 image"):
        IsoDepot(tmp_path / "page.html")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 30))
def test_a_damaged_iso_gives_its_vibs_or_one_error(
    esxi_iso: Path, tmp_path: Path, seed: int, count: int
) -> None:
    dice = random.Random(seed)
    data = bytearray(esxi_iso.read_bytes())
    for _ in range(count):
        data[dice.randrange(16 * 2048, len(data))] = dice.randrange(256)
    damaged = tmp_path / "damaged.iso"
    damaged.write_bytes(data)
    with suppress(ImageError), IsoDepot(damaged) as depot:
        assert isinstance(depot.warnings, tuple)
        for vib_id, package in depot.packages.items():
            for payload in package.payloads:
                assert sum(map(len, depot.vib(vib_id).chunks(payload.name))) == payload.size
