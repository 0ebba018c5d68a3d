"""Bad input, item by item, as it comes to the public doors: the depot library and the command line.

Each is refused in one sentence or tolerated with a warning that the documentation names; nothing is left behind,
and what the library had before is as it was.
"""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from midwife.cli.main import cli
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.errors import FormatError, ImageError
from midwife.images.vib.archives.payload import unpacked
from midwife.images.vib.verify import verify_vib
from tests.peers.badfiles import REFUSED, driver, small_bundle
from tests.peers.vibmaker import ar, make_payload, vib

GOOD = driver("good-net", payloads=[make_payload("goodnet", {"opt/good": b"good"})])
REAL = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one good depot."""
    folder = tmp_path_factory.mktemp("stocked")
    DepotLibrary(folder / "data").add(str(small_bundle(folder / "good.zip", GOOD)), "good")
    return folder / "data"


@pytest.fixture
def site(tmp_path: Path, stocked: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "midwife.yaml").write_text("server:\n  address: 192.0.2.3\n")
    shutil.copytree(stocked, folder / "data", symlinks=True)
    return folder


def midwife(site: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--site", str(site)])


def footprint(data: Path) -> dict[str, bytes]:
    """Every file of the depots by name; locks are empty and may be there or not."""
    files = [path for path in (data / "depots").rglob("*") if path.is_file() and path.stat().st_size]
    return {str(path.relative_to(data)): path.read_bytes() for path in files}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_in_a_sentence_and_leaves_nothing(what: str, tmp_path: Path, site: Path) -> None:
    make, pattern = REFUSED[what]
    folder = tmp_path / "sent"
    folder.mkdir()
    source = make(folder)
    before = footprint(site / "data")
    done = midwife(site, "depot", "add", str(source), "--name", "bad")
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 1, done.output
    assert re.search(pattern, done.stderr, re.IGNORECASE | re.DOTALL), done.stderr
    assert "Traceback" not in done.output
    assert len(done.stderr) < 2000, "a sentence, not the file"
    assert footprint(site / "data") == before
    library = DepotLibrary(site / "data")
    assert library.names() == ("good",)
    good = library.get("good")
    assert not any(verify_vib(good.vib(one), signature=False) for one in good.packages)


def test_the_python_api_raises_image_errors_only(tmp_path: Path, stocked: Path) -> None:
    for number, (make, _) in enumerate(REFUSED.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(ImageError):
            DepotLibrary(folder / "data").add(str(make(folder)), "bad")
        assert not footprint(folder / "data")


def test_members_that_nobody_asks_for_do_no_harm(tmp_path: Path, site: Path) -> None:
    def add(members: dict[str, bytes]) -> None:
        for name in (
            "../../evil",
            "/etc/evil",
            "C:\\evil",
            "vib20/../../../evil",
            "a/" * 900 + "evil",
            "\x1b[31mevil",
        ):
            members[name] = b"evil"

    source = small_bundle(tmp_path / "x.zip", change=add, change_metadata=add)
    done = midwife(site, "depot", "add", str(source), "--name", "odd")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert DepotLibrary(site / "data").get("odd").packages
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_terminal_escapes_in_a_descriptor_do_not_reach_the_terminal(tmp_path: Path, site: Path) -> None:
    evil = driver(
        summary="fine \x9b31m \u202e", description="\u2028", urls=[("\x85", "http://example.com/\x9d")]
    )
    source = small_bundle(tmp_path / "x.zip", evil)
    midwife(site, "depot", "add", str(source), "--name", "odd")
    for words in (
        ["depot", "show", "odd"],
        ["vib", "list"],
        ["vib", "show", evil.id],
        ["vib", "verify", evil.id],
    ):
        output = midwife(site, *words).output
        assert not set(output) & set("\x85\x9b\x9d\u202e\u2028\x1b"), words


def test_unknown_payloads_and_a_missing_signature_are_kept_with_a_warning(tmp_path: Path, site: Path) -> None:
    later = driver(payloads=[make_payload("later", b"of ESXi 12", "hologram")])
    unsigned = ar([("descriptor.xml", later.descriptor), ("later", b"of ESXi 12")])
    (tmp_path / "later.vib").write_bytes(unsigned)
    done = midwife(site, "depot", "add", str(tmp_path / "later.vib"), "--name", "later")
    assert done.exit_code == 0, done.output
    assert "hologram" in done.output
    depot = DepotLibrary(site / "data").get("later")
    assert b"".join(depot.vib(later.id).chunks("later")) == b"of ESXi 12"
    assert any("hologram" in warning for warning in depot.warnings)


def test_a_damaged_copy_of_a_payload_that_is_in_the_library_does_no_harm(tmp_path: Path, site: Path) -> None:
    def damaged(_: str, data: bytes) -> bytes:
        return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]

    source = small_bundle(tmp_path / "x.zip", GOOD, change_vib=damaged)
    assert midwife(site, "depot", "add", str(source), "--name", "copy").exit_code == 0
    (vib_id,) = DepotLibrary(site / "data").get("copy").packages
    for name in ("good", "copy"):
        stored = DepotLibrary(site / "data").get(name).vib(vib_id)
        assert b"".join(stored.chunks("goodnet")) == GOOD.payloads[0].data


def test_missing_elements_have_the_defaults_of_esxi(tmp_path: Path, site: Path) -> None:
    bare = driver(
        edit=lambda text: re.sub(
            rb"<(release-date|urls|relationships|software-tags|system-requires|file-list|acceptance-level|overlay"
            rb"|live-install-allowed|live-remove-allowed|cimom-restart|stateless-ready|type)>.*?</\1>",
            b"",
            text,
        )
    )
    (tmp_path / "bare.vib").write_bytes(bare.data)
    assert midwife(site, "depot", "add", str(tmp_path / "bare.vib"), "--name", "bare").exit_code == 0
    package = DepotLibrary(site / "data").get("bare").packages[bare.id]
    assert (package.type, str(package.acceptance_level), package.maintenance_mode_remove) == (
        "bootbank",
        "community",
        True,
    )
    assert (package.release_date, package.files, package.overlay) == (None, (), False)


def test_eleven_real_vibs_of_one_id_live_side_by_side_but_not_in_one_depot(site: Path) -> None:
    vibs = sorted((REAL / "ghettoVCB").glob("*.vib"))
    together = midwife(site, "depot", "add", str(REAL / "ghettoVCB"), "--name", "together")
    assert "virtuallyGhetto_bootbank_ghettoVCB_1.0.0-0.0.0" in together.output
    assert "Traceback" not in together.output
    contents = set()
    for number, path in enumerate(vibs):
        assert midwife(site, "depot", "add", str(path), "--name", f"g{number}").exit_code == 0
        depot = DepotLibrary(site / "data").get(f"g{number}")
        contents |= {(one, depot.vib(one).descriptor) for one in depot.packages}
    assert len(contents) == len(vibs) == 12
    ambiguous = midwife(site, "vib", "show", "virtuallyGhetto_bootbank_ghettoVCB_1.0.0-0.0.0")
    assert ambiguous.exit_code == 1
    assert "--depot" in ambiguous.stderr


@pytest.mark.parametrize("type_", ["tgz", "vgz"])
def test_a_payload_is_never_extracted_outside(type_: str, tmp_path: Path, site: Path) -> None:
    tree = {
        "opt/fine": b"fine",
        "../../evil-a": b"evil",
        "/evil-b": b"evil",
        "opt/../../../evil-c": b"evil",
        "opt/up": "../../..",
        "opt/up/evil-d": b"evil",
        "opt/root": "/tmp",
    }
    evil = driver(payloads=[make_payload("x", tree, type_)], files=["opt/fine"])
    (tmp_path / "evil.vib").write_bytes(evil.data)
    target = tmp_path / "deep" / "deeper" / "out"
    done = midwife(site, "vib", "extract", str(tmp_path / "evil.vib"), "-d", str(target))
    assert isinstance(done.exception, SystemExit | None), done.exception
    outside = [path for path in tmp_path.rglob("evil-*") if target not in path.parents]
    assert not outside
    assert not Path("/evil-b").exists()


def test_a_gzip_bomb_in_a_payload_is_stored_but_not_unpacked_beyond_bounds(tmp_path: Path) -> None:
    bomb = make_payload("bomb", bytes(64 << 20), "boot", boot_order=10, level=9)
    made = vib("bomb", "1.0-1", payloads=[bomb])
    (tmp_path / "bomb.vib").write_bytes(made.data)
    library = DepotLibrary(tmp_path / "data")
    library.add(str(tmp_path / "bomb.vib"), "bomb")
    with pytest.raises(FormatError, match=r"bomb|more than|limit"):
        for _ in unpacked(library.get("bomb").vib(made.id).chunks("bomb"), "boot", 1 << 20):
            pass
