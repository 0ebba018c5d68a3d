"""``midwife image`` with image profiles, as somebody types it: a lab composes, compares and exports an ESXi."""

import json
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import Result

from midwife.cli.main import cli
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.profile.file import read
from tests.cli.imagesite import DEPOT, cells, data, image, text
from tests.cli.sites import midwife
from tests.peers.esximage import Content, make_payload, make_vib


def test_from_the_depot_to_an_image_that_hosts_boot(lab: Path, content: Content) -> None:
    nic, agent = content.extras[0], content.vib("lab-agent")
    old = content.vib("i40en")

    added = image(lab, "add", "lab", "i40en", "lab-agent")
    assert added.exit_code == 0, added.output
    assert added.stdout.splitlines() == [
        f"added     {agent.id}: asked for",
        f"replaced  {old.id} -> {nic.id}: asked for",
        f"lab: {len(content.standard) + 1} VIBs, valid (image-profiles/lab.yaml)",
    ]
    assert f"  - {nic.id}\n" in text(lab)
    assert midwife("check", lab).exit_code == 0

    shown = image(lab, "show", "lab").stdout
    assert "AcceptanceLevel: CommunitySupported" in shown
    assert "Vendor:          Lab" in shown
    assert [line.split() for line in shown.splitlines() if line.startswith("lab-agent")] == [
        ["lab-agent", "1.0.0-1", "Lab", "CommunitySupported", DEPOT]
    ]

    assert image(lab, "validate", "lab").stdout == f"lab: {len(content.standard) + 1} VIBs, valid\n"

    differ = image(lab, "compare", content.profile_name, "lab")
    assert differ.exit_code == 3
    assert [line.split() for line in differ.stdout.splitlines()] == [
        ["Difference", "Name", "Ref", "Comp"],
        ["OnlyInComp", "lab-agent", "-", "1.0.0-1"],
        ["UpgradeFromRef", "i40en", old.version, nic.version],
        cells("AcceptanceLevel: PartnerSupported in the reference, CommunitySupported in the comparison"),
        cells(f"{content.profile_name} and lab differ"),
    ]

    made = image(lab, "netboot", "lab")
    assert made.exit_code == 0, made.output
    assert "with the boot module" in made.stdout
    (lab / "hosts").mkdir()
    (lab / "hosts/esx-01.yaml").write_text("macs: 52:54:00:12:34:56\nimage: lab\n")
    assert midwife("check", lab).exit_code == 0
    listed = image(lab, "list").stdout
    assert "profile lab" in listed
    assert "image-profiles/lab.yaml" in listed
    assert "Hosts boot it as the image lab\n" in image(lab, "show", "lab").stdout

    removed = image(lab, "remove", "lab", "lab-agent")
    assert removed.stdout.splitlines()[0] == f"removed   {agent.id}: asked for"
    assert "Hosts boot the image lab as it was made; anew: midwife image netboot lab" in removed.stdout
    assert "the profile has changed since: midwife image netboot lab" in image(lab, "show", "lab").stdout
    assert image(lab, "netboot", "lab", "--off").exit_code == 0
    assert image(lab, "delete", "lab").exit_code == 0
    assert "Hosts boot it" not in image(lab, "show", "lab").stdout


def test_the_file_of_a_clone(lab: Path, content: Content) -> None:
    file = read(lab, "image-profiles/lab.yaml")
    assert file.depots == (DEPOT,)
    assert set(file.profile.vib_list) == set(content.profiles[content.profile_name])
    assert len(file.profile.guid) == 32
    assert file.pins == {}
    assert not file.profile.read_only


def test_what_breaks_a_profile_is_refused_with_the_reason_and_the_remedy(lab: Path, content: Content) -> None:
    before = text(lab)
    orphan = image(lab, "add", "lab", "acme-tools")
    assert orphan.exit_code == 1
    assert "missing-dependency" in orphan.stderr
    assert "acme-lib" in orphan.stderr
    assert "Error: image-profiles/lab.yaml is not changed: it would have 2 new problems" in orphan.stderr
    needed = image(lab, "remove", "lab", "esx-base")
    assert needed.exit_code == 1
    assert "because it is needed" in needed.stderr
    assert text(lab) == before

    forced = image(lab, "add", "lab", "acme-tools", "--force")
    assert forced.exit_code == 0
    assert "2 problems" in forced.stdout
    assert image(lab, "validate", "lab").exit_code == 1
    # what was wrong before stops nobody
    assert image(lab, "edit", "lab", "--author", "Ann").exit_code == 0
    mended = image(lab, "add", "lab", "acme-tools", "--with-dependencies")
    assert "valid" in mended.stdout


def test_dependencies_come_along(lab: Path, content: Content) -> None:
    done = data(lab, "add", "lab", "acme-tools", "--with-dependencies")
    assert [entry["Vib"].split("_")[2] for entry in done["Added"]] == [  # type: ignore[attr-defined]
        "acme-agent", "acme-lib", "acme-tools",
    ]  # fmt: skip
    assert done["Valid"] is True


def test_a_newer_version_gives_way_only_on_demand(lab: Path, content: Content) -> None:
    image(lab, "add", "lab", "i40en")
    old, new = content.vib("i40en"), content.extras[0]
    assert old.version != new.version
    refused = image(lab, "add", "lab", f"i40en={old.version}")
    assert refused.exit_code == 1
    assert "--allow-downgrade" in refused.stderr
    done = image(lab, "add", "lab", old.id, "--allow-downgrade")
    assert f"replaced  {new.id} -> {old.id}" in done.stdout
    assert image(lab, "compare", content.profile_name, "lab").exit_code == 3, "the levels differ"


def test_comments_survive_commands(lab: Path, content: Content) -> None:
    path = lab / "image-profiles/lab.yaml"
    old, new = content.vib("i40en").id, content.extras[0].id
    path.write_text(
        path.read_text().replace(f"  - {old}\n", f"\n  # the Intel cards\n  - {old}  # ticket 12\n")
    )
    image(lab, "add", "lab", "i40en")
    image(lab, "edit", "lab", "--author", "Ann", "--description", "For the cellar: all of it")
    assert f"\n  # the Intel cards\n  - {new}  # ticket 12\n" in text(lab)
    assert 'description: "For the cellar: all of it"\n' in text(lab)


def test_one_id_with_two_contents(lab: Path, tmp_path: Path) -> None:
    """As ghettoVCB, which was published with eleven contents under one id."""
    library = DepotLibrary(lab / "data")
    for depot in ("first", "second"):
        payload = make_payload("ghetto", {"opt/ghetto/run.sh": depot.encode()}, "tgz")
        path = tmp_path / f"{depot}.vib"
        path.write_bytes(
            make_vib("ghetto", "1.0-1", vendor="Lab", acceptance="community", payloads=[payload])
        )
        library.add(str(path), depot)
    vib = "Lab_bootbank_ghetto_1.0-1"

    unclear = image(lab, "add", "lab", "ghetto")
    assert unclear.exit_code == 1
    assert "first" in unclear.stderr
    assert "second" in unclear.stderr
    assert image(lab, "add", "lab", "ghetto", "--depot", "second").exit_code == 0
    assert read(lab, "image-profiles/lab.yaml").depots == (DEPOT, "second")
    assert image(lab, "show", "lab").exit_code == 0

    assert image(lab, "remove", "lab", "ghetto").exit_code == 0
    path = lab / "image-profiles/lab.yaml"
    path.write_text(path.read_text().replace("  - second\n", "  - second\n  - first\n"))
    assert image(lab, "add", "lab", "first:ghetto").exit_code == 0
    assert f"  - id: {vib}\n    depot: first\n" in text(lab)
    (row,) = [line for line in image(lab, "show", "lab").stdout.splitlines() if line.startswith("ghetto")]
    assert row.split()[-1] == "first"
    assert image(lab, "clone", "lab", "copy").exit_code == 0
    assert read(lab, "image-profiles/copy.yaml").pins == {vib: "first"}


def test_new_from_nothing(site: Path, content: Content) -> None:
    done = image(site, "new", "tiny", "--vendor", "Lab", "--author", "Ann", "--acceptance-level", "certified")
    assert done.exit_code == 0
    assert "tiny: 0 VIBs, 2 problems (image-profiles/tiny.yaml)" in done.stdout
    grown = data(site, "add", "tiny", "esx-base", "--with-dependencies", "--force")
    assert {entry["Vib"].split("_")[2] for entry in grown["Added"]} == {"esx-base", "esx-update", "vsan"}  # type: ignore[attr-defined]
    assert grown["Valid"] is True
    at_once = data(
        site, "new", "tiny 2", "--vendor", "Lab", "--vib", "esx-base", "--depot", DEPOT, "--with-dependencies"
    )
    assert at_once["File"] == "image-profiles/tiny-2.yaml"
    assert at_once["Profile"]["AcceptanceLevel"] == "PartnerSupported"  # type: ignore[index]


def test_read_only_profiles(lab: Path, content: Content) -> None:
    assert image(lab, "edit", "lab", "--read-only").exit_code == 0
    for words in (
        ["add", "lab", "i40en"],
        ["remove", "lab", "gc"],
        ["edit", "lab", "--author", "Bob"],
        ["delete", "lab", "--profile"],
    ):
        refused = image(lab, *words)
        assert refused.exit_code == 1, words
        assert "read-only" in refused.stderr
    assert image(lab, "clone", "lab", "copy").exit_code == 0
    assert image(lab, "edit", "copy", "--author", "Bob").exit_code == 0
    assert image(lab, "edit", "lab", "--no-read-only").exit_code == 0
    assert image(lab, "edit", "lab", "--author", "Bob").exit_code == 0
    depots = image(lab, "add", content.profile_name, "i40en")
    assert depots.exit_code == 1
    assert f"midwife image clone {DEPOT}:{content.profile_name} NEWNAME" in depots.stderr


def test_name_and_vendor_are_unique(lab: Path) -> None:
    twice = image(lab, "clone", "lab", "lab")
    assert twice.exit_code == 1
    assert "an image profile 'lab' of 'Lab' is in image-profiles/lab.yaml" in twice.stderr
    assert image(lab, "clone", "lab", "lab", "--vendor", "Other").exit_code == 0
    several = image(lab, "show", "lab")
    assert several.exit_code == 1
    assert "image-profiles/lab-Other.yaml (Other)" in several.stderr
    assert "Vendor:          Other" in image(lab, "show", "image-profiles/lab-Other.yaml").stdout
    assert "Vendor:          Other" in image(lab, "show", "lab-Other").stdout
    renamed = image(lab, "edit", "lab-Other", "--vendor", "Lab")
    assert renamed.exit_code == 1
    assert "is in image-profiles/lab.yaml" in renamed.stderr


def test_in_an_editor(lab: Path, content: Content, tmp_path: Path) -> None:
    editor = tmp_path / "editor"

    def with_editor(script: str) -> Result:
        editor.write_text(f"#!/bin/sh\n{script}\n")
        editor.chmod(0o755)
        return image(lab, "edit", "lab", env={"EDITOR": str(editor), "TMPDIR": str(tmp_path)})

    gone = content.vib("gc").id
    done = with_editor(f"sed -i '/{gone}/d; s/^author:.*/author: Ann/' \"$1\"")
    assert done.exit_code == 0, done.output
    assert f"removed   {gone}: by hand" in done.stdout
    assert gone not in text(lab)

    before = text(lab)
    broken = with_editor('echo "colour: red" >> "$1"')
    assert broken.exit_code == 1
    assert "unknown key 'colour'" in broken.stderr
    assert text(lab) == before
    kept = Path(broken.stderr.rstrip().rpartition(" ")[2])
    assert kept.read_text().endswith("colour: red\n")
    kept.unlink()

    assert "was not changed in the editor" in with_editor("true").stderr
    raced = with_editor(f"echo '# me' >> \"$1\"; echo '# they' >> {lab}/image-profiles/lab.yaml")
    assert raced.exit_code == 1
    assert "changed by somebody else" in raced.stderr
    assert text(lab) == before + "# they\n"


def test_lists(lab: Path, content: Content) -> None:
    rows = json.loads(image(lab, "list", "-o", "json").stdout)
    assert [(row["name"], row["kind"], row["source"]) for row in rows] == [
        ("lab", "profile", "image-profiles/lab.yaml")
    ]
    assert rows[0]["VibList"] == sorted(content.profiles[content.profile_name])
    (lab / "image-profiles/odd.yaml").write_text("vendor: Lab\nvibs: [esx-base]\n")
    every = image(lab, "list", "--depots").stdout
    assert "odd" in every
    assert "is not a VIB id" in every
    assert [line.split()[-1] for line in every.splitlines() if content.profile_name in line] == [DEPOT]


def test_profiles_go_only_when_it_is_said(lab: Path) -> None:
    refused = image(lab, "delete", "lab")
    assert refused.exit_code == 1
    assert "image-profiles/lab.yaml is an image profile" in refused.stderr
    assert image(lab, "delete", "lab", "--profile").exit_code == 0
    assert not (lab / "image-profiles/lab.yaml").exists()


def test_validate_all(lab: Path) -> None:
    image(lab, "new", "empty", "--vendor", "Lab")
    (lab / "image-profiles/odd.yaml").write_text("vendor: Lab\nvibs: [esx-base]\n")
    (lab / "image-profiles/torn.yaml").write_text("vibs: [\n")
    (lab / "image-profiles/far.yaml").write_text("vendor: Lab\ndepots: nowhere\n")
    done = image(lab, "validate", "--all", "-o", "json")
    assert done.exit_code == 1
    reports = {report["Name"]: report for report in json.loads(done.stdout)}
    assert {name: report["Valid"] for name, report in reports.items()} == {
        "empty": False, "far": False, "image-profiles/odd.yaml": False, "image-profiles/torn.yaml": False,
        "lab": True,
    }  # fmt: skip
    assert reports["far"]["Findings"][0]["Kind"] == "missing-depot"
    assert image(lab, "validate", "--all").exit_code == 1


def test_check_looks_at_profiles_too(lab: Path) -> None:
    assert "warning" not in midwife("check", lab).stdout.replace("0 warnings", "")
    image(lab, "add", "lab", "acme-orphan", "--force")
    (lab / "image-profiles/far.yaml").write_text("vendor: Lab\ndepots:\n  - nowhere\n")
    done = midwife("check", lab)
    assert done.exit_code == 0
    assert "image-profiles/far.yaml:3:5: warning: the depot nowhere is not in the library" in done.stdout
    assert "image-profiles/lab.yaml:1:1: warning: image profile 'lab' has 1 problem" in done.stdout
    assert "midwife image validate lab" in done.stdout


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["validate"], 2, "name an image profile, or say --all"),
        (["validate", "labb"], 1, "did you mean lab"),
        (["compare", "lab"], 2, "give one thing to compare with"),
        (["export", "lab"], 2, "say what to write"),
        (["new", "x"], 2, "--vendor is needed"),
        (["new", "x", "--vendor", "Lab", "--vib", "esx-bas"], 1, "nearest: esx-base"),
        (["new", "x" * 81, "--vendor", "Lab"], 1, "80 at most"),
        (["add", "lab", "i40em"], 1, "nearest: i40en"),
        (["add", "lab", "i40en", "--depot", "nowhere"], 1, "there is no depot 'nowhere'"),
        (["remove", "lab", "i40em"], 1, "nearest: i40en"),
        (["edit", "labb", "--author", "x"], 1, "did you mean lab"),
        (["clone", "nowhere:x", "y"], 1, "nowhere:x"),
        (["compare", "lab", "--host", "esx-09"], 1, "no host of the site"),
        (["delete", "labb", "--profile"], 1, "there are: lab"),
        (["netboot", "labb"], 1, "did you mean lab"),
    ],
)
def test_mistakes_end_in_a_sentence(lab: Path, command: list[str], code: int, told: str) -> None:
    done = image(lab, *command)
    assert done.exit_code == code, done.output
    assert told in done.stderr
    assert "Traceback" not in done.output


def test_names_for_the_shell(lab: Path, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDWIFE_SITE", str(lab))

    def completed(words: str, incomplete: str) -> set[str]:
        shell = ShellComplete(cli, {}, "midwife", "_MIDWIFE_COMPLETE")
        return {str(item.value) for item in shell.get_completions(["image", *words.split()], incomplete)}

    assert completed("show", "la") == {"lab"}
    assert completed("clone", DEPOT[:6]) == {f"{DEPOT}:{name}" for name in content.profiles}
    assert completed("add lab", "i40") == {"i40en"}
    assert completed("add lab", "INT_") == {content.extras[0].id}
    assert completed("add lab x --depot", "VM") == {DEPOT}
    assert completed(f"netboot --site {lab / 'nowhere'}", "l") == set()
