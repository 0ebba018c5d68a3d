"""Images of the library made of image profiles: made anew, taken away, found damaged; what is said on the way."""

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.imagesite import DEPOT, image
from tests.cli.sites import midwife
from tests.peers.esximage import Content


def image_file(site: Path, name: str, file: str = "image.json") -> Path:
    return site / "data" / "images" / name / file


def no_module(site: Path, name: str) -> bool:
    return json.loads(image_file(site, name).read_text())["netboot"] is False


def test_an_image_of_a_depots_profile_is_made_anew_by_the_same_name(site: Path, content: Content) -> None:
    """Once made, its name is that of an image too: naming it again must not only switch the boot module."""
    name = content.profile_name
    assert image(site, "netboot", name).exit_code == 0
    kernel = image_file(site, name, "files/b.b00")
    kernel.unlink()
    again = image(site, "netboot", name)
    assert again.exit_code == 0, again.output
    assert kernel.is_file()
    assert image(site, "netboot", name, "--as", "other").exit_code == 0
    assert image_file(site, "other").is_file()


def test_of_an_image_without_its_profile_only_the_boot_module_is_switched(
    site: Path, content: Content
) -> None:
    image(site, "netboot", content.profile_name, "--as", "old")
    done = image(site, "netboot", "old", "--off")
    assert "is served without the boot module" in done.stdout
    assert no_module(site, "old")
    refused = image(site, "netboot", "old", "--force")
    assert refused.exit_code == 2
    assert "old is an image in the library" in refused.stderr


@pytest.mark.parametrize("name", ["日本", "(…)", "a", "pxelinux.cfg"])
def test_a_profile_whose_name_is_no_image_name(lab: Path, name: str) -> None:
    image(lab, "edit", "lab", "--name", name)
    refused = image(lab, "netboot", name)
    assert refused.exit_code == 1
    assert f"no image name can be made from {name!r}: give one with --as" in refused.stderr
    for bad in ("", "two words", "files"):
        assert image(lab, "netboot", name, "--as", bad).exit_code == 1
    done = image(lab, "netboot", name, "--as", "nippon")
    assert done.exit_code == 0, done.output
    assert "Hosts get it with `image: nippon`" in done.stdout


def test_two_profiles_that_would_make_images_of_one_name(lab: Path) -> None:
    image(lab, "clone", "lab", "a b")
    image(lab, "clone", "lab", "a-b")
    assert image(lab, "netboot", "a b").exit_code == 0
    refused = image(lab, "netboot", "a-b")
    assert refused.exit_code == 1
    assert "an image called a-b is there already, made of profile a b: choose another name (--as)" in (
        " ".join(refused.stderr.split())
    )


def test_an_image_that_the_site_hides(lab: Path) -> None:
    main = lab / "midwife.yaml"
    main.write_text(main.read_text() + "images:\n  lab: {kernel: vmlinuz}\n")
    (lab / "vmlinuz").write_bytes(b"kernel")
    done = image(lab, "netboot", "lab")
    assert done.exit_code == 0
    assert "midwife.yaml describes an image lab, and hosts get that one" in done.stderr


def test_who_loads_the_image_that_is_replaced_is_told(lab: Path) -> None:
    assert "loading" not in image(lab, "netboot", "lab").stderr
    with closing(sqlite3.connect(lab / "data" / "midwife.db")) as db, db:
        db.execute("CREATE TABLE hosts (id TEXT, state TEXT, image TEXT)")
        rows = [("esx-01", "loading", "lab"), ("esx-02", "ready", "lab"), ("esx-03", "loading", "other")]
        db.executemany("INSERT INTO hosts VALUES (?, ?, ?)", rows)
    done = image(lab, "netboot", "lab")
    assert done.exit_code == 0
    assert "warning: esx-01: loading lab now" in done.stderr


def test_a_database_that_cannot_be_read_stops_nobody(lab: Path) -> None:
    image(lab, "netboot", "lab")
    (lab / "data" / "midwife.db").write_bytes(b"no database" * 1000)
    assert image(lab, "netboot", "lab").exit_code == 0


def test_who_names_the_image_that_is_deleted_is_told(lab: Path) -> None:
    image(lab, "netboot", "lab")
    (lab / "hosts").mkdir()
    (lab / "hosts/esx-01.yaml").write_text("macs: 52:54:00:00:00:01\nimage: lab\n")
    (lab / "rules.yaml").write_text("rules:\n  - name: all\n    patterns: all\n    items: {image: lab}\n")
    done = image(lab, "delete", "lab")
    assert done.exit_code == 0
    assert "warning: hosts/esx-01.yaml:2, rules.yaml:4 name it: the service will not start" in done.stderr
    image(lab, "netboot", "lab", "--as", "other")
    assert "warning" not in image(lab, "delete", "other").stderr


def test_a_damaged_image_says_how_it_is_made_anew(lab: Path) -> None:
    image(lab, "netboot", "lab", "--as", "eight")
    image_file(lab, "eight", "files/b.b00").unlink()
    shown = image(lab, "show", "eight")
    assert shown.exit_code == 1
    assert "make the image anew (`midwife image netboot lab --as eight`)" in shown.stderr
    assert image(lab, "netboot", "lab", "--as", "eight").exit_code == 0
    assert image(lab, "verify", "eight").exit_code == 0


def test_check_tells_of_an_image_that_is_out_of_service(lab: Path) -> None:
    image(lab, "netboot", "lab")
    (lab / "hosts").mkdir()
    for number in (1, 2):
        host = f"macs: 52:54:00:00:00:0{number}\nimage: lab\n"
        (lab / f"hosts/esx-0{number}.yaml").write_text(host)
    assert "image lab" not in midwife("check", lab).stdout
    kernel = image_file(lab, "lab", "files/b.b00")
    kernel.unlink()
    kernel.write_bytes(b"something else")
    checked = midwife("check", lab)
    assert checked.exit_code == 0, "it is no error: hosts with other images boot"
    warnings = [line for line in checked.stdout.splitlines() if "image lab" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "hosts/esx-01.yaml:2:8: warning: image lab is out of service: b.b00 has 14 bytes"
    )


def test_two_exports_do_not_go_to_one_place(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused = image(lab, "export", "lab", "--bundle", out, "--iso", tmp_path / "x" / ".." / "out")
    assert refused.exit_code == 2
    assert not out.exists()


def test_what_was_saved_before_the_editor_died_is_kept(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (lab / "image-profiles/lab.yaml").read_text()
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\necho "# an hour of work" >>"$1"\nkill -9 $$\n')
    script.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = image(lab, "edit", "lab", env={"EDITOR": str(script), "VISUAL": str(script)})
    assert done.exit_code == 1
    (kept,) = tmp_path.glob("lab-*.yaml")
    assert f"your text is kept in {kept}" in done.stderr
    assert kept.read_text() == f"{before}# an hour of work\n"
    assert (lab / "image-profiles/lab.yaml").read_text() == before


def test_a_read_only_profile_is_not_opened_in_an_editor(lab: Path) -> None:
    image(lab, "edit", "lab", "--read-only")
    before = (lab / "image-profiles/lab.yaml").read_text()
    editor = "sed -i s/partner/community/"
    done = image(lab, "edit", "lab", env={"EDITOR": editor, "VISUAL": editor})
    assert done.exit_code == 1
    assert "is read-only" in done.stderr
    assert (lab / "image-profiles/lab.yaml").read_text() == before


def test_vibs_of_a_depot_that_is_gone_are_removed_by_name_too(lab: Path) -> None:
    from midwife.images.depot.kept.library import DepotLibrary

    DepotLibrary(lab / "data").remove(DEPOT)
    done = image(lab, "remove", "lab", "gc", "tools-light", "-o", "json")
    assert done.exit_code == 0, done.output
    removed = [one["Vib"] for one in json.loads(done.stdout)["Removed"]]
    assert [vib.split("_")[2] for vib in removed] == ["gc", "tools-light"]


def test_a_remedy_comes_from_the_profiles_own_depot(lab: Path, tmp_path: Path) -> None:
    """Another, newer ESXi in the library has newer VIBs of every name, and none of them fits."""
    from midwife.images.depot.kept.library import DepotLibrary
    from tests.peers.esximage import look_alike_profile, write_bundle

    newer = write_bundle(tmp_path / "nine.zip", look_alike_profile("9.0.1"))
    DepotLibrary(lab / "data").add(str(newer), "nine")
    image(lab, "add", "lab", "acme-tools", "--force")
    found = json.loads(image(lab, "validate", "lab", "-o", "json").stdout)["Findings"]
    remedies = [one["Remedy"] for one in found if one["Kind"] == "missing-dependency"]
    assert len(remedies) == 2
    assert all(remedy.startswith(f"Depot {DEPOT} has ") for remedy in remedies), remedies
    assert all("(depot nine)" in remedy for remedy in remedies)


def test_a_rule_set_that_names_an_invalid_profile_is_not_activated(lab: Path) -> None:
    """Its image may be there, made before the profile was broken: hosts would get what nobody wants any more."""
    assert image(lab, "netboot", "lab").exit_code == 0
    (lab / "rules.yaml").write_text(
        "rules:\n  - {name: all, patterns: all, items: {image: lab}}\nactive: []\nworking: [all]\n"
    )
    assert image(lab, "remove", "lab", "esx-base", "--force").exit_code == 0
    before = (lab / "rules.yaml").read_bytes()
    refused = midwife("ruleset", "activate", "--site", lab)
    assert refused.exit_code == 1, refused.output
    assert "image profile 'lab' has" in refused.stderr
    assert "the active set stays as it is; nothing was written" in refused.stderr
    assert (lab / "rules.yaml").read_bytes() == before
    assert image(lab, "add", "lab", "esx-base").exit_code == 0
    assert midwife("ruleset", "activate", "--site", lab).exit_code == 0
