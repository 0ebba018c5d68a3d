"""Loose VIBs: a file, a folder, real VIBs that share an id, and everything else that lies in such folders."""

import os
import random
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.images.depot.sources.loose import LooseVibs
from midwife.images.errors import FormatError, ImageError
from midwife.images.vib.archives.payload import check_payload
from tests.peers.vibmaker import MadeVib, make_payload, vib

REAL = Path(__file__).parents[2] / "data"
GHETTO = "virtuallyGhetto_bootbank_ghettoVCB_1.0.0-0.0.0"


def agent(name: str = "agent", text: bytes = b"run", **how: object) -> MadeVib:
    return vib(name, "1.0-1", vendor="Lab", payloads=[make_payload("agent", {f"opt/{name}": text})], **how)  # type: ignore[arg-type]


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_one_real_vib() -> None:
    depot = LooseVibs(REAL / "ghettoVCB" / "0b431ab2-vghetto-ghettoVCB.vib")
    assert list(depot.packages) == [GHETTO]
    assert (depot.name, depot.profiles, depot.bulletins) == ("0b431ab2-vghetto-ghettoVCB.vib", (), ())
    opened = depot.vib(GHETTO)
    for payload in opened.package.payloads:
        check_payload(opened, payload, every=True)


def test_eleven_real_files_with_one_id_are_named_and_none_is_chosen() -> None:
    depot = LooseVibs(REAL / "ghettoVCB")
    assert list(depot.packages) == ["virtuallyGhetto_bootbank_ghettoVCB_1.0.1-0.0.0"]
    (warning,) = [one for one in depot.warnings if GHETTO in one]
    assert warning.count("-vghetto-ghettoVCB.vib") == 11
    assert "11 files with different contents" in warning
    assert "differ in payloads" in warning
    with pytest.raises(ImageError, match="no VIB virtually"):
        depot.vib(GHETTO)


def test_a_folder_with_everything_in_it(tmp_path: Path) -> None:
    put(tmp_path, "b/deep/agent.VIB", agent().data)
    put(tmp_path, "same.vib", agent().data)
    put(tmp_path, "driver.vib", agent("driver").data)
    put(tmp_path, "readme.txt", b"hello")
    put(tmp_path, "._driver.vib", b"what a Mac leaves")
    put(tmp_path, "half.vib", agent("half").data[:-20])
    os.mkfifo(tmp_path / "pipe.vib")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    depot = LooseVibs(tmp_path)
    assert list(depot.packages) == ["Lab_bootbank_agent_1.0-1", "Lab_bootbank_driver_1.0-1"]
    followed, warning = depot.warnings
    assert followed == f"{tmp_path}/b/up is a link to a folder, and not followed; give that folder itself"
    assert "half.vib" in warning
    assert warning.endswith("it is left out")
    assert depot.file("Lab_bootbank_agent_1.0-1") == tmp_path / "b/deep/agent.VIB"
    for vib_id, made in (
        ("Lab_bootbank_agent_1.0-1", agent()),
        ("Lab_bootbank_driver_1.0-1", agent("driver")),
    ):
        assert b"".join(depot.vib(vib_id).chunks("agent", 7)) == made.payloads[0].data


def test_of_two_equal_ones_the_newer_counts(tmp_path: Path) -> None:
    put(tmp_path, "a.vib", agent(edit=lambda d: d.replace(b"2024", b"2023")).data)
    put(tmp_path, "b.vib", agent(edit=lambda d: d.replace(b"2024", b"2025")).data)
    depot = LooseVibs(tmp_path)
    assert depot.file("Lab_bootbank_agent_1.0-1").name == "b.vib"
    assert depot.warnings == ()


def test_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        LooseVibs(tmp_path / "missing")
    with pytest.raises(ImageError, match=r"holds no \.vib file"):
        LooseVibs(tmp_path)
    bad = put(tmp_path, "bad.vib", b"!<arch>\nnonsense")
    with pytest.raises(FormatError, match=r"no VIB in it can be used.*bad\.vib"):
        LooseVibs(tmp_path)
    with pytest.raises(FormatError, match=r"bad\.vib: at byte 8"):
        LooseVibs(bad)


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    path = put(tmp_path, "agent.vib", agent(text=random.Random(1).randbytes(100_000)).data)
    depot = LooseVibs(path)
    chunks = depot.vib("Lab_bootbank_agent_1.0-1").chunks("agent", 20_000)
    next(chunks)
    put(tmp_path, "agent.vib", agent(text=b"something else").data)
    with pytest.raises(ImageError, match="changed while it was read"):
        next(chunks)
    with pytest.raises(FormatError, match="changed since it was listed"):
        depot.vib("Lab_bootbank_agent_1.0-1")
    path.unlink()
    with pytest.raises(ImageError, match="cannot open"):
        depot.vib("Lab_bootbank_agent_1.0-1")


def test_many_vibs_take_no_descriptors(tmp_path: Path) -> None:
    for number in range(60):
        put(tmp_path, f"{number}.vib", agent(f"a{number}").data)
    depot = LooseVibs(tmp_path)
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
    try:
        opened = [depot.vib(vib_id) for vib_id in depot.packages]
        assert all(sum(map(len, one.chunks("agent"))) == one.package.payloads[0].size for one in opened)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@given(st.binary() | st.integers(0, 400).map(lambda at: agent().data[:at] + b"\xff" + agent().data[at + 1 :]))
def test_any_file_is_a_vib_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = put(tmp_path_factory.getbasetemp(), "any.vib", data)
    try:
        depot = LooseVibs(path)
    except ImageError as error:
        assert "any.vib" in str(error)  # noqa: PT017
    else:
        (vib_id,) = depot.packages
        assert sum(map(len, depot.vib(vib_id).chunks("agent"))) == len(agent().payloads[0].data)
