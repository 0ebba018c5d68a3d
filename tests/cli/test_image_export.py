"""``midwife image export|netboot|verify|import``: what leaves is whole, valid and signed, or it does not leave."""

import json
import shutil
import zipfile
from pathlib import Path

from midwife.images.depot.kept.library import DepotLibrary
from tests.cli.imagesite import DEPOT, image, text
from tests.peers.esximage import Content, write_installer_iso


def test_a_bundle_that_reads_back(lab: Path, content: Content, tmp_path: Path) -> None:
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    assert image(lab, "export", "lab", "--bundle", first).exit_code == 0
    assert image(lab, "export", "lab", "--bundle", second, "-o", "json").exit_code == 0
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as bundle:
        assert sum(name.endswith(".vib") for name in bundle.namelist()) == len(content.standard)
    DepotLibrary(lab / "data").add(str(first), "back")
    same = image(lab, "compare", "lab", "back:lab", "-o", "json")
    assert same.exit_code == 0
    assert json.loads(same.stdout)["Equal"] is True


def test_a_netboot_tree_of_its_own(lab: Path, tmp_path: Path) -> None:
    done = image(lab, "export", "lab", "--netboot", tmp_path / "tree")
    assert done.exit_code == 0, done.output
    assert "kernel=" in (tmp_path / "tree/boot.cfg").read_text()
    again = image(lab, "export", "lab", "--netboot", tmp_path / "tree")
    assert again.exit_code == 1
    assert "exists already" in again.stderr


def test_an_export_of_an_invalid_profile_writes_nothing(lab: Path, tmp_path: Path) -> None:
    image(lab, "add", "lab", "acme-orphan", "--force")
    out = tmp_path / "out.zip"
    refused = image(lab, "export", "lab", "--bundle", out)
    assert refused.exit_code == 1
    assert "missing-dependency" in refused.stderr
    assert "nothing was exported" in refused.stderr
    assert not out.exists()
    forced = image(lab, "export", "lab", "--bundle", out, "--force")
    assert forced.exit_code == 0
    assert "because of --force" in forced.stderr
    assert out.exists()


def test_signatures_are_checked_unless_somebody_says_it_loudly(lab: Path, tmp_path: Path) -> None:
    shutil.rmtree(lab / "trust")
    found = image(lab, "validate", "lab", "-o", "json")
    assert found.exit_code == 1
    assert {finding["Kind"] for finding in json.loads(found.stdout)["Findings"]} == {"signature"}
    out = tmp_path / "out.zip"
    assert image(lab, "export", "lab", "--bundle", out).exit_code == 1
    assert not out.exists()

    forced = image(lab, "export", "lab", "--bundle", out, "--force")
    assert forced.exit_code == 1, "force is for other problems"
    assert not out.exists()

    done = image(lab, "export", "lab", "--bundle", out, "--no-signature-check")
    assert done.exit_code == 0
    assert "WARNING: lab: signatures are not checked" in done.stderr
    assert "signature-check" not in text(lab), "an export does not change the profile"

    assert image(lab, "add", "lab", "lab-agent", "--no-signature-check").exit_code == 0
    assert "signature-check: false\n" in text(lab)
    valid = image(lab, "validate", "lab")
    assert valid.exit_code == 0
    assert "WARNING" in valid.stderr, "it is never forgotten"
    assert image(lab, "edit", "lab", "--signature-check").exit_code == 1
    assert image(lab, "edit", "lab", "--signature-check", "--force").exit_code == 0
    assert "signature-check" not in text(lab)


def test_an_iso(lab: Path, tmp_path: Path) -> None:
    done = image(lab, "export", "lab", "--iso", tmp_path / "lab.iso")
    assert done.exit_code == 0, done.output
    added = DepotLibrary(lab / "data").add(str(tmp_path / "lab.iso"), "from-iso")
    assert added.record.kind == "iso"
    assert image(lab, "compare", "lab", "from-iso:lab").exit_code == 0


def test_an_image_is_verified_and_comes_back_when_it_is_mended(lab: Path) -> None:
    assert image(lab, "netboot", "lab").exit_code == 0
    assert image(lab, "verify", "lab").stdout == "lab: ok\n"
    module = lab / "data/images/lab/files/vim.v00"
    good = module.read_bytes()
    module.unlink()
    module.write_bytes(good[:-1] + b"?")

    broken = image(lab, "verify", "--all", "-o", "json")
    assert broken.exit_code == 1
    (report,) = json.loads(broken.stdout)
    assert (report["name"], report["ok"]) == ("lab", False)
    assert "vim.v00" in report["problems"][0]
    assert "vim.v00" in image(lab, "list").stdout, "it is out of service, and the list says why"

    module.write_bytes(good)
    assert image(lab, "verify", "--all").exit_code == 0
    assert image(lab, "verify", "gone").exit_code == 1
    assert image(lab, "verify").exit_code == 2


def test_an_iso_as_image_and_as_depot(site: Path, content: Content, tmp_path: Path) -> None:
    iso = write_installer_iso(tmp_path / "VMware-VMvisor-Installer-8.0U3-24022510.x86_64.iso", content)
    done = image(site, "import", iso, "--depot")
    assert done.exit_code == 0, done.output
    assert "Its VIBs are in the depot 8.0U3-24022510." in done.stdout
    mine, theirs = f"{DEPOT}:{content.profile_name}", f"8.0U3-24022510:{content.profile_name}"
    assert image(site, "compare", mine, theirs).exit_code == 0


def test_netboot_of_a_profile_of_a_depot(site: Path, content: Content) -> None:
    done = image(site, "netboot", content.profile_name, "--as", "esxi", "--off")
    assert done.exit_code == 0, done.output
    assert "without the boot module" in done.stdout
    shown = json.loads(image(site, "show", "esxi", "-o", "json").stdout)
    assert (shown["profile"], shown["netboot"]) == (content.profile_name, False)
    assert image(site, "netboot", "esxi").exit_code == 0
    assert json.loads(image(site, "show", "esxi", "-o", "json").stdout)["netboot"] is True
