"""``midwife image``, as somebody types it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from midwife.cli.image.command import command
from tests.peers.esxiso import BUILD, LookAlike

SITE = """\
server:
  address: 192.0.2.3
images:
  rescue:
    kernel: vmlinuz
    initrd: initrd.gz
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "midwife.yaml").write_text(SITE)
    (tmp_path / "vmlinuz").write_bytes(b"k" * 1000)
    (tmp_path / "initrd.gz").write_bytes(b"i" * 24)
    return tmp_path


def image(site: Path, *words: str) -> Result:
    return CliRunner().invoke(command, [*words, "--site", str(site)], catch_exceptions=False)


def test_from_the_iso_to_the_list_and_out_again(site: Path, installer: LookAlike) -> None:
    done = image(site, "import", str(installer.path), "--name", "8.0U3")
    assert done.exit_code == 0
    assert f"8.0U3: ESXi-8.0U3-24022510-standard {BUILD}" in done.stdout
    assert f"{installer.path.name}: 100 %" in done.stderr

    listed = image(site, "list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "KIND", "BUILD", "LOADS", "MODULE", "FROM"]
    assert listed[1].split() == ["8.0U3", "esxi", BUILD, "138.8", "KiB", "-", installer.path.name]
    assert listed[2].split() == ["rescue", "linux", "-", "1.0", "KiB", "-", "midwife.yaml"]

    assert "with the boot module" in image(site, "netboot", "8.0U3").stdout
    shown = image(site, "show", "8.0U3").stdout
    assert "netboot:     yes: the boot module is added" in shown
    assert "loaders:     mboot.efi, crypto64.efi, mboot.c32" in shown
    assert "b.b00" in shown
    assert "without the boot module" in image(site, "netboot", "8.0U3", "--off").stdout
    assert not (site / "data" / "boot-modules").exists(), "no key is needed to look"

    assert image(site, "delete", "8.0U3").exit_code == 0
    assert [row["name"] for row in json.loads(image(site, "list", "-o", "json").stdout)] == ["rescue"]


def test_json_for_scripts(site: Path, installer: LookAlike) -> None:
    done = image(site, "import", str(installer.path), "-o", "json")
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert (found["name"], found["build"], found["netboot"]) == ("8.0.3-24022510", BUILD, False)
    assert found["loads"][0]["name"] == "b.b00"
    assert json.loads(image(site, "show", "rescue", "-o", "json").stdout)["load_size"] == 1024


def test_an_image_can_be_imported_that_a_host_already_names(site: Path, installer: LookAlike) -> None:
    """`midwife check` refuses this site until the image is there."""
    (site / "hosts").mkdir()
    (site / "hosts" / "esx-01.yaml").write_text("macs: 52:54:00:12:34:56\nimage: 8.0U3\n")
    assert image(site, "import", str(installer.path), "--name", "8.0U3").exit_code == 0


def test_a_broken_image_is_listed_with_its_reason(site: Path) -> None:
    (site / "vmlinuz").unlink()
    listed = image(site, "list")
    assert listed.exit_code == 0
    assert "rescue  broken" in listed.stdout
    assert "vmlinuz is not there" in listed.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["import", "gone.iso"], "gone.iso does not exist"),
        (["show", "resceu"], "did you mean rescue?"),
        (["delete", "rescue"], "no imported image is called 'rescue'"),
        (["netboot", "gone"], "no imported image is called 'gone'"),
    ],
)
def test_mistakes_end_in_one_sentence(words: list[str], told: str, site: Path) -> None:
    done = image(site, *words)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_site_at_all(tmp_path: Path) -> None:
    done = image(tmp_path, "list")
    assert done.exit_code == 1
    assert "is not a site directory" in done.stderr


def test_an_empty_library_says_how_to_begin(tmp_path: Path) -> None:
    (tmp_path / "midwife.yaml").write_text("server:\n  address: 192.0.2.3\n")
    assert "midwife image import FILE.iso" in image(tmp_path, "list").stdout
