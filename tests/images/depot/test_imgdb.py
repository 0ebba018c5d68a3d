"""The image database: a real one's layout read, our own written and read back, anything else refused."""

import gzip
import io
import tarfile
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from midwife.images.depot.formats.imgdb import read_imgdb, write_imgdb
from midwife.images.errors import FormatError
from midwife.images.export.modules import plan_modules
from tests.images.export.composed import in_memory, resolved_profile
from tests.peers.depotmaker import profile_xml
from tests.peers.esximage import Content, imgdb_tgz, look_alike_profile

ROOT = "var/db/esximg/"


def unpack(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]


def pack(files: dict[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return io.BytesIO(out.getvalue())


def ours(content: Content) -> bytes:
    resolved = resolved_profile(content)
    plan = plan_modules(resolved)
    entries = tuple(
        replace(
            entry,
            payloads={payload: name for (vib_id, payload), name in plan.names.items() if vib_id == entry.id},
        )
        for entry in resolved.profile.vibs
    )
    vibs = in_memory(content)
    return write_imgdb(
        replace(resolved.profile, vibs=entries), [vibs(vib_id) for vib_id in resolved.packages]
    )


def test_an_images_database_is_read(esxi: Content) -> None:
    read = read_imgdb(io.BytesIO(imgdb_tgz(esxi)))
    assert list(read.vibs) == sorted(one.id for one in esxi.standard)
    for made in esxi.standard:
        vib = read.vibs[made.id]
        assert (vib.descriptor, vib.signature, vib.exact) == (made.descriptor, made.signature, True)
    names = {entry.id: entry.payloads for entry in read.profile.vibs}
    assert names[esxi.vib("esx-base").id]["jumpstrt"] == "jumpstrt.gz"
    assert read.warnings == ()


def test_ours_says_the_same_as_the_look_alikes(esxi: Content) -> None:
    mine, theirs = read_imgdb(io.BytesIO(ours(esxi))), read_imgdb(io.BytesIO(imgdb_tgz(esxi)))
    assert mine.vibs == theirs.vibs
    assert mine.profile == theirs.profile


def test_ours_has_the_layout_of_a_real_one(esxi: Content) -> None:
    """Looked at with tarfile and lxml only."""
    data = ours(esxi)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        members = tar.getmembers()
    folders = [one.name for one in members if one.isdir()]
    assert folders == ["var", "var/db", "var/db/esximg", "var/db/esximg/vibs", "var/db/esximg/profiles"]
    assert {one.mode for one in members if one.isdir()} == {0o755}
    assert {(one.mode, one.uid, one.gid, one.mtime) for one in members if one.isfile()} == {(0o644, 0, 0, 0)}
    assert max(len(one.name) for one in members) <= 99
    files = unpack(data)
    (profile,) = (name for name in files if name.startswith(ROOT + "profiles/"))
    listed = etree.fromstring(files[profile]).findall("viblist/vib/vib-id")
    xml = [name for name in files if name.endswith(".xml")]
    assert len(listed) == len(xml) == len(esxi.standard)
    made = {one.descriptor: one.signature for one in esxi.standard}
    assert {files[name + ".orig"]: files.get(name + ".sig", b"") for name in xml} == made
    assert {etree.fromstring(files[name]).tag for name in xml} == {"vib"}


def test_before_esxi_65_there_are_no_originals() -> None:
    content = look_alike_profile("5.5.0")
    files = unpack(ours(content))
    assert not [name for name in files if name.endswith((".orig", ".sig"))]
    read = read_imgdb(io.BytesIO(ours(content)))
    assert not any(vib.exact or vib.signature for vib in read.vibs.values())
    assert {vib_id: vib.package for vib_id, vib in read.vibs.items()} == resolved_profile(content).packages


def test_the_same_profile_gives_the_same_bytes(esxi: Content) -> None:
    assert ours(esxi) == ours(esxi)


def test_any_file_name_is_accepted(esxi: Content) -> None:
    """ESXi's own rule: contents decide what is a profile and what a VIB."""
    files = unpack(imgdb_tgz(esxi))
    renamed = {
        f"elsewhere/{'vibs' if '/vibs/' in name else 'profiles'}/n{number}": data
        for number, (name, data) in enumerate(files.items())
        if not name.endswith((".orig", ".sig"))
    }
    read = read_imgdb(pack(renamed))
    assert read.profile.name == esxi.profile_name
    assert len(read.vibs) == len(esxi.standard)


def test_a_long_odd_name_still_fits(esxi: Content) -> None:
    resolved = resolved_profile(esxi)
    profile = replace(resolved.profile, name="ESXi für alle / " + "x" * 60)
    vibs = in_memory(esxi)
    files = unpack(write_imgdb(profile, [vibs(vib_id) for vib_id in resolved.packages]))
    (name,) = (name for name in files if "/profiles/" in name)
    assert name.startswith(ROOT + "profiles/ESXi%20f%C3%BCr%20alle%20%2F%20xx")
    assert len(name) <= 99


def test_one_profile_exactly(esxi: Content) -> None:
    files = unpack(imgdb_tgz(esxi))
    profile = next(name for name in files if "/profiles/" in name)
    with pytest.raises(FormatError, match="holds 0 image profiles"):
        read_imgdb(pack({name: data for name, data in files.items() if name != profile}))
    with pytest.raises(FormatError, match="holds 2 image profiles"):
        read_imgdb(pack({**files, profile + "1": files[profile]}))


def test_a_listed_vib_that_is_not_there(esxi: Content) -> None:
    files = unpack(imgdb_tgz(esxi))
    gone = next(name for name in files if "/i40en-" in name and name.endswith(".xml"))
    with pytest.raises(
        FormatError, match=r"lists VMW_bootbank_i40en.* not in the database \(1 are missing\)"
    ):
        read_imgdb(pack({name: data for name, data in files.items() if name != gone}))


def test_a_vib_of_no_profile_is_left_out(esxi: Content) -> None:
    files = unpack(imgdb_tgz(esxi))
    profile = next(name for name in files if "/profiles/" in name)
    fewer = [one.id for one in esxi.standard if one.name != "i40en"]
    read = read_imgdb(pack({**files, profile: profile_xml(esxi, esxi.profile_name, fewer)}))
    assert esxi.vib("i40en").id not in read.vibs
    assert [warning for warning in read.warnings if "is not in the profile" in warning]


def test_an_original_of_another_vib_is_refused(esxi: Content) -> None:
    files = unpack(imgdb_tgz(esxi))
    first, second = [name for name in files if name.endswith(".orig")][:2]
    with pytest.raises(FormatError, match="is the descriptor of"):
        read_imgdb(pack({**files, first: files[second]}))


def test_the_same_id_twice_with_other_contents_is_refused(esxi: Content) -> None:
    files = unpack(imgdb_tgz(esxi))
    name = next(name for name in files if "/i40en-" in name and name.endswith(".xml"))
    changed = files[name].replace(b"<summary>", b"<summary>another ")
    with pytest.raises(FormatError, match="a second VIB"):
        read_imgdb(pack({**files, ROOT + "vibs/x-1.xml": changed}))


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(FormatError, match="unpacks to more than"):
        read_imgdb(io.BytesIO(gzip.compress(bytes(70 << 20), 1)))


def test_a_sparse_file_does_not_become_gigabytes(esxi: Content) -> None:
    """GNU sparse: a header that claims 4 GiB and no data at all."""
    header = bytearray(tarfile.TarInfo("var/db/esximg/vibs/x-1.xml").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[483:495] = b"%011o\0" % (1 << 32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    tar = gzip.decompress(imgdb_tgz(esxi)).rstrip(b"\0")
    tar += bytes(-len(tar) % 512) + bytes(header) + bytes(1024)
    assert len(read_imgdb(io.BytesIO(gzip.compress(tar))).vibs) == len(esxi.standard)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000), st.booleans())
def test_any_bytes_give_a_database_or_one_error(data: bytes, packed: bool) -> None:
    with pytest.raises(FormatError, match=r"imgdb\.tgz"):
        read_imgdb(io.BytesIO(gzip.compress(data) if packed else data))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_database_gives_a_value_or_one_error(esxi: Content, data: st.DataObject) -> None:
    tar = bytearray(gzip.decompress(imgdb_tgz(esxi, esxi.standard[:3])))
    for _ in range(data.draw(st.integers(1, 20))):
        tar[data.draw(st.integers(0, len(tar) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(tar)))
    with suppress(FormatError):
        assert read_imgdb(io.BytesIO(gzip.compress(bytes(tar[:cut]), 1))).profile.name
