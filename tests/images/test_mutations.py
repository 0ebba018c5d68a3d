"""Damaged depots, ISOs and VIBs through the front door: an ImageError, or a depot in which every byte is right.

The seeds are whole files of the look-alike; the damage is what disks, networks and editors do, and what somebody
does who wants to break things: other bytes, missing pieces, repeated pieces, other texts in the XML.
"""

import io
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.depot.kept.stored import StoredDepot
from midwife.images.depot.merge import differences
from midwife.images.errors import ImageError
from midwife.images.vib.archives.payload import check_payload
from tests.peers import esximage
from tests.peers.badfiles import driver, small_bundle
from tests.peers.vibmaker import make_payload

EXAMPLES = 60
TEXTS = [
    *(b"", b"-1", b"9" * 30, b"../x", b"/", b".", b"\n", b"a b", b"1-2-3", b"x" * 300, b"\xc3\xa9", b"&#x7;"),
    *(b"\xe2\x80\xae", b"2024-13-45", b"0001-01-01T00:00:00", b"9999-12-31T23:59:59.999999-23:59", b"true"),
    *(b"http://[::1", b"//host/x", b"%2e%2e/x", b"<a/>", b"<![CDATA[x]]>", b"<!--", b"&b;"),
]
PLACES = re.compile(rb'>[^<]*<|"[^"]*"')


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    two = driver("two", payloads=[make_payload("two", {"opt/2": b"2"}, "tgz")])
    whole = esximage.look_alike_profile("8.0.3", payload_size=100)
    few = tuple(whole.vibs[:3])
    content = esximage.Content("8.0.3", whole.build, {"few": tuple(one.id for one in few)}, few)
    paths = {
        "bundle": small_bundle(folder / "a.zip", driver(), two),
        "deflated": small_bundle(folder / "b.zip", driver(), deflate_vibs=True),
        "nested": small_bundle(folder / "c.zip", driver(), nested="deflated"),
        "iso": esximage.write_installer_iso(folder / "d.iso", content),
    }
    return {name: path.read_bytes() for name, path in paths.items()} | {"vib": driver().data}


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """In memory, if the machine has such a place: thousands of imports would wear a disk out with fsync."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def take(scratch: Path, data: bytes) -> None:
    """Import it; whatever is taken in can be read, and is what its descriptors say."""
    (scratch / "given").write_bytes(data)
    library = DepotLibrary(scratch / "data")
    refusal = ""
    try:
        library.add(str(scratch / "given"), "given")
    except ImageError as error:
        refusal = str(error)
        assert library.names() == ()
        assert {path.name for path in (scratch / "data/depots").glob("*")} <= {".lock", "blobs"}
    else:
        check_depot(library.get("given"))
    finally:
        shutil.rmtree(scratch / "data", ignore_errors=True)
    assert len(refusal) < 2500, "a sentence, not the file"


def check_depot(depot: StoredDepot) -> None:
    assert depot.packages
    assert all(profile.name for profile in depot.profiles)
    for vib_id, package in depot.packages.items():
        vib = depot.vib(vib_id)
        assert vib.package.id == package.id == vib_id
        assert differences(vib.package, package) == (), (
            "texts of a depot may differ from the VIB's, contents never"
        )
        whole = not any("not on" in warning and vib_id in warning for warning in depot.warnings)
        for payload in package.payloads if whole else ():
            check_payload(vib, payload)


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A few changes at places that are given in thousandths of the file."""
    changes = draw(
        st.lists(
            st.tuples(
                st.integers(0, 999_999),
                st.sampled_from(["byte", "cut out", "repeat", "end", "insert", "big"]),
                st.binary(max_size=20),
                st.integers(1, 60),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def apply(data: bytes) -> bytes:
        for place, how, some, count in changes:
            at = place * len(data) // 1_000_000
            before, after = data[:at], data[at:]
            data = {
                "byte": before + bytes([(after or b"\0")[0] ^ count]) + after[1:],
                "cut out": before + after[count:],
                "repeat": before + after[:count] + after,
                "end": before,
                "insert": before + some + after,
                "big": before + b"\xff\xff\xff\x7f" + after[4:],
            }[how]
        return data

    return apply


@pytest.mark.parametrize("seed", ["bundle", "deflated", "nested", "iso", "vib"])
def test_any_damage_to_a_file_gives_an_error_or_the_right_bytes(
    seed: str, seeds: dict[str, bytes], scratch: Path
) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(damage())
    def check(apply: Callable[[bytes], bytes]) -> None:
        take(scratch, apply(seeds[seed]))

    check()


def rewritten(bundle: bytes, choose: int, place: int, text: bytes) -> bytes:
    """One text or attribute in one XML file of a bundle is another one; zips and sums are right again."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as outer:
        members = {name: outer.read(name) for name in outer.namelist()}
    with zipfile.ZipFile(io.BytesIO(members["metadata.zip"])) as inner:
        metadata = {name: inner.read(name) for name in inner.namelist()}
    names = [
        *(("metadata", name) for name in metadata),
        ("bundle", "index.xml"),
        ("bundle", "vendor-index.xml"),
    ]
    where, name = names[choose % len(names)]
    target = metadata if where == "metadata" else members
    found = list(PLACES.finditer(target[name]))
    if found:
        hit = found[place % len(found)]
        target[name] = target[name][: hit.start() + 1] + text + target[name][hit.end() - 1 :]
    members["metadata.zip"] = zipped(metadata)
    return zipped(members)


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def test_any_text_anywhere_in_the_metadata_gives_an_error_or_a_depot(
    seeds: dict[str, bytes], scratch: Path
) -> None:
    @settings(max_examples=3 * EXAMPLES, deadline=None)
    @given(st.integers(0, 20), st.integers(0, 200), st.sampled_from(TEXTS) | st.binary(max_size=12))
    def check(choose: int, place: int, text: bytes) -> None:
        take(scratch, rewritten(seeds["bundle"], choose, place, text))

    check()


@settings(max_examples=EXAMPLES, deadline=None)
@given(place=st.integers(0, 200), text=st.sampled_from(TEXTS) | st.binary(max_size=12))
def test_any_text_anywhere_in_a_descriptor_gives_an_error_or_a_vib(place: int, text: bytes) -> None:
    def edit(descriptor: bytes) -> bytes:
        found = list(PLACES.finditer(descriptor))
        hit = found[place % len(found)]
        return descriptor[: hit.start() + 1] + text + descriptor[hit.end() - 1 :]

    with tempfile.TemporaryDirectory() as folder:
        take(Path(folder), driver(edit=edit).data)
