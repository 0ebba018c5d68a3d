"""Other people's VIBs: all of them are read, every sum is right, and independent programs see the same."""

import hashlib
import io
import zipfile
from pathlib import Path

import arpy
import pytest

from midwife.images.vib.archives.archive import extract, list_files
from midwife.images.vib.archives.payload import check_payload
from midwife.images.vib.container import VibFile, write_vib
from midwife.images.vib.descriptor import DepotFields, parse_descriptor, write_descriptor
from tests.images.vib.given import REAL_BUNDLES, REAL_VIBS

SHORT = [path.name[:8] for path in REAL_VIBS]


@pytest.mark.parametrize("path", REAL_VIBS, ids=SHORT)
def test_a_real_vib(path: Path) -> None:
    with VibFile(path) as vib:
        assert vib.warnings == ()
        assert vib.signature == b""
        assert write_descriptor(vib.package) == vib.descriptor
        out = io.BytesIO()
        size, digest = write_vib(out, vib)
        assert out.getvalue() == path.read_bytes()
        assert (size, digest) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for payload in vib.package.payloads:
            check_payload(vib, payload, every=True)
            check_payload(vib, payload)


@pytest.mark.parametrize("path", REAL_VIBS, ids=SHORT)
def test_arpy_sees_the_same_members(path: Path) -> None:
    with VibFile(path) as vib, arpy.Archive(str(path)) as peer:
        peer.read_all_headers()
        assert [name.decode() for name in peer.namelist()] == [
            "descriptor.xml",
            "sig.pkcs7",
            *(payload.name for payload in vib.package.payloads),
        ]
        assert peer.open(b"descriptor.xml").read() == vib.descriptor
        for payload in vib.package.payloads:
            assert peer.open(payload.name.encode()).read() == b"".join(vib.chunks(payload.name))


@pytest.mark.parametrize("path", REAL_VIBS, ids=SHORT)
def test_its_archives_hold_the_files_that_it_lists(path: Path, tmp_path: Path) -> None:
    with VibFile(path) as vib:
        listed = [
            entry.name
            for payload in vib.package.payloads
            for entry in list_files(vib, payload)
            if not entry.is_directory
        ]
        assert sorted(listed) == sorted(vib.package.files)
        for payload in vib.package.payloads:
            assert extract(vib, payload, tmp_path).skipped == ()
        unpacked = [str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*") if found.is_file()]
        assert sorted(unpacked) == sorted(vib.package.files)


def test_eleven_vibs_of_one_id() -> None:
    packages = []
    for path in REAL_VIBS:
        with VibFile(path) as vib:
            packages.append(vib.package)
    same = [one for one in packages if one.id == "virtuallyGhetto_bootbank_ghettoVCB_1.0.0-0.0.0"]
    assert len(same) == 11
    assert len({one.payloads for one in same}) == 11
    assert {one.version for one in packages if one.name == "thgpio"} == {
        "0.0.1-1OEM.701.1.0.40650718",
        "0.1.0-1OEM.701.1.0.40650718",
    }


@pytest.mark.parametrize("path", REAL_BUNDLES, ids=[path.name[:8] for path in REAL_BUNDLES])
def test_a_bundle_says_the_same_of_a_vib_as_the_vib(path: Path) -> None:
    """Its metadata are what we would write, byte for byte."""
    with zipfile.ZipFile(path) as bundle:
        metadata = zipfile.ZipFile(io.BytesIO(bundle.read("metadata.zip")))
        told = [metadata.read(name) for name in metadata.namelist() if name.startswith("vibs/")]
        for data in told:
            kept = parse_descriptor(data)
            assert kept.relative_path
            assert kept.packed_size
            assert kept.checksum
            fields = DepotFields(kept.relative_path, kept.packed_size, kept.checksum)
            assert write_descriptor(kept.package, depot=fields) == data

            file = bundle.read(kept.relative_path)
            assert (len(file), hashlib.sha256(file).hexdigest()) == (kept.packed_size, kept.checksum)
            with VibFile.from_stream(io.BytesIO(file), kept.relative_path) as vib:
                assert vib.package == kept.package
    assert told
