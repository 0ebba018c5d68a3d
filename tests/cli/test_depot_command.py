"""``midwife depot``, as somebody types it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from midwife.cli.depot import command
from midwife.cli.progress import progress_shown
from tests.peers.badfiles import driver, small_bundle
from tests.peers.depotserver import files_of, serving

from .sites import midwife


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "midwife.yaml").write_text("server:\n  address: 192.0.2.3\n")
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return small_bundle(tmp_path / "lab-drivers-depot.zip", driver("a"), driver("b"))


def depot(site: Path, *words: str) -> Result:
    return CliRunner().invoke(command, [*words, "--site", str(site)], catch_exceptions=False)


def test_from_the_bundle_to_the_list_and_out_again(site: Path, bundle: Path) -> None:
    done = depot(site, "add", str(bundle))
    assert done.exit_code == 0
    assert f"lab-drivers: 2 VIBs, 1 image profile from {bundle}" in done.stdout
    assert "sha256 of the file " in done.stdout
    assert "lab-drivers-depot.zip: 100 %" in done.stderr
    assert (site / "data/depots/lab-drivers/depot.json").is_file()

    again = depot(site, "add", str(bundle))
    assert again.exit_code == 0
    assert "lab-drivers is there already, with the same content" in again.stdout

    head, row = depot(site, "list").stdout.splitlines()
    assert head.split() == ["NAME", "KIND", "VIBS", "PROFILES", "SIZE", "ADDED", "FROM"]
    assert row.split()[:4] == ["lab-drivers", "bundle", "2", "1"]
    assert row.endswith(str(bundle))

    shown = depot(site, "show", "lab-drivers").stdout
    assert "VIBs:        2\n" in shown
    assert "  lab (VMware, Inc., 2 VIBs)" in shown

    removed = depot(site, "remove", "lab-drivers")
    assert removed.exit_code == 0
    assert "lab-drivers is removed; " in removed.stdout
    assert "are free again" in removed.stdout
    assert "midwife depot add SOURCE" in depot(site, "list").stdout


def test_json_for_scripts(site: Path, bundle: Path) -> None:
    done = depot(site, "add", str(bundle), "--name", "x", "-o", "json")
    added = json.loads(done.stdout)
    assert done.stderr == ""
    assert (added["name"], added["kind"], added["vibs"], added["already"]) == ("x", "bundle", 2, False)
    assert added["profiles"][0]["VibList"] == [driver("a").id, driver("b").id]
    assert [row["name"] for row in json.loads(depot(site, "list", "-o", "json").stdout)] == ["x"]
    assert json.loads(depot(site, "show", "x", "-o", "json").stdout)["downloaded"] == 2
    assert json.loads(depot(site, "add", str(bundle), "--name", "x", "-o", "json").stdout)["already"] is True


def test_an_online_depot(site: Path, bundle: Path) -> None:
    with serving(files_of(bundle)) as server:
        url = server.url.replace("//", "//lab:s3cret@")
        added = depot(site, "add", f"{url}/index.xml", "--name", "web")
        assert "VIBs are downloaded when they are needed" in added.stdout
        assert "VIBs:        2, 0 of them here" in depot(site, "show", "web").stdout
        assert "web: 1 VIB downloaded" in depot(site, "download", "web", driver("a").id).stdout
        assert json.loads(depot(site, "download", "web", "-o", "json").stdout) == {
            "name": "web",
            "downloaded": [driver("b").id],
        }
        assert depot(site, "refresh", "web").exit_code == 0
        shown = [added.stdout, added.stderr]
        shown += [
            depot(site, *words).stdout
            for words in (("list",), ("show", "web"), ("show", "web", "-o", "json"))
        ]
    assert not [text for text in shown if "s3cret" in text]
    assert json.loads(depot(site, "show", "web", "-o", "json").stdout)["downloaded"] == 2


PROFILE = """\
name: lab
vendor: Lab
depots: [lab-drivers]
vibs: [Lab_bootbank_a_1.0-1]
"""


def test_a_depot_that_a_profile_needs_is_not_removed_by_mistake(site: Path, bundle: Path) -> None:
    depot(site, "add", str(bundle))
    (site / "image-profiles").mkdir()
    (site / "image-profiles/lab.yaml").write_text(PROFILE)
    refused = depot(site, "remove", "lab-drivers")
    assert refused.exit_code == 1
    assert "image profiles take VIBs from lab-drivers: lab (image-profiles/lab.yaml)" in refused.stderr
    assert depot(site, "remove", "lab-drivers", "--force").exit_code == 0


def test_warnings_are_told(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drivers"
    folder.mkdir()
    (folder / "a.vib").write_bytes(driver("a").data)
    (folder / "bad\x1b[2J.vib").write_bytes(b"nonsense")
    done = depot(site, "add", str(folder))
    assert done.exit_code == 0
    assert "warning: " in done.stderr
    assert "warning: " in depot(site, "show", "drivers").stdout
    assert "\x1b" not in done.stderr + depot(site, "show", "drivers").stdout


def test_a_broken_depot_is_listed_with_its_reason(site: Path, bundle: Path) -> None:
    depot(site, "add", str(bundle))
    (site / "data/depots/lab-drivers/depot.json").write_text("{")
    listed = depot(site, "list")
    assert listed.exit_code == 0
    assert "lab-drivers  broken" in listed.stdout
    assert "is damaged" in listed.stdout
    assert depot(site, "remove", "lab-drivers").exit_code == 0


def test_a_damaged_record_stops_neither_other_depots_nor_scripts(
    site: Path, bundle: Path, tmp_path: Path
) -> None:
    depot(site, "add", str(bundle), "--name", "bad")
    content = site / "data/depots/bad/content-1.jsonl"
    content.write_bytes(content.read_bytes().replace(b'"here":true', b'"here":TRUE', 1))
    (site / "data/depots/.unfinished").touch()  # something was killed, so the library is cleared up first
    (tmp_path / "x.vib").write_bytes(driver("x").data)
    added = depot(site, "add", str(tmp_path / "x.vib"), "-o", "json")
    assert json.loads(added.stdout)["name"] == "x"
    assert added.stderr.count("warning: depot bad is damaged") == 1
    assert "Until then nothing that other depots leave behind is cleared away" in added.stderr
    listed = midwife("vib", "list", "-o", "json", "--site", site)
    assert [one["Depot"] for one in json.loads(listed.stdout)] == ["x"]
    assert "warning: depot bad is damaged" in listed.stderr
    assert midwife("vib", "verify", "x", "--no-signature-check", "--site", site).exit_code == 0
    mended = depot(site, "add", str(bundle), "--name", "bad", "--replace")
    assert mended.exit_code == 0
    assert midwife("vib", "list", "--site", site).stderr == ""


def test_data_that_are_somebody_elses(site: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice is not to remove the depot."""
    depot(site, "add", str(bundle))
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, _mode: path.name != "depots")
        for words in (["depot", "list"], ["depot", "add", bundle], ["vib", "list"], ["image", "list"]):
            done = midwife(*words, "--site", site)
            assert done.exit_code == 1
            assert (
                f"cannot read {site}/data/depots: it is {(site / 'data').owner()}'s; give the" in done.stderr
            )

    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    done = depot(site, "show", "lab-drivers")
    assert "depot.json: Permission denied; give the command as root, or as the user who added" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["add", "gone.zip"], "gone.zip does not exist"),
        (["add", ""], "no source was given"),
        (["add", "/dev/null"], "/dev/null is neither a file nor a folder"),
        (["add", "ftp://h/index.xml"], "an online depot is at http:// or https://"),
        (["add", "http://127.0.0.1:1/index.xml", "--name", "a/b"], "is not a depot name"),
        (["show", "gone"], "no depot is called 'gone'"),
        (["remove", "gone"], "no depot is called 'gone'"),
        (["refresh", "gone"], "no depot is called 'gone'"),
        (["download", "gone"], "no depot is called 'gone'"),
    ],
)
def test_mistakes_end_in_one_sentence(words: list[str], told: str, site: Path) -> None:
    done = depot(site, *words)
    assert done.exit_code == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    assert told in line


def test_a_log_without_a_known_total_shows_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown("index.xml", quiet=False) as progress:
        assert progress
        for done in range(1, 50):
            progress(done << 20, 0)
    assert capsys.readouterr().err == "index.xml: 1 MiB\n"


def test_a_name_is_no_markup_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rich would obey brackets, str.format braces, and the terminal escapes."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_shown("[bold]{x}\x1b]0;t\x07.zip", quiet=False) as progress:
        assert progress
        progress(5, 10)
        progress(10, 10)
    shown = capsys.readouterr().err
    assert "[bold]{x}" in shown
    assert "\x1b]0;" not in shown
