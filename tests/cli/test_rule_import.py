"""``midwife rule import``, as somebody types it who has an Auto Deploy: look, bring what is missing, import."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from midwife.cli.rule.importer import whole_text
from midwife.rules.autodeploy import Export, ExportedRule, OldItem
from midwife.rules.movein import Known, move_in
from midwife.site.checks.rules import rule_sets
from midwife.site.draft import Draft, read_rules
from midwife.site.load import SiteError, load
from tests.cli.sites import midwife, write_site

DATA = Path(__file__).parents[1] / "data" / "autodeploy"
LAB = DATA / "lab.json"
HEAD = "# What hosts of the lab get.\n\n"
RENAMED = ("--image", "ESXi-8.0U3-24022510-standard=rescue", "--image", "ESXi-7.0U3-lab=rescue")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one image (rescue), and no rules."""
    root = write_site(tmp_path / "site")
    (root / "rules.yaml").write_text(HEAD + "rules:\n")
    return root


@pytest.fixture
def ready(site: Path) -> Path:
    """A site that has everything that the lab's rules speak of, the images under a name of its own."""
    (site / "bundles").mkdir()
    (site / "bundles/firstboot.tgz").write_bytes(gzip.compress(b"scripts", mtime=0))
    (site / "host-configurations/base.yaml").write_text("steps: []\n")
    return site


def run(site: Path, file: Path, *words: str) -> Result:
    return midwife("rule", "import", file, *words, "--site", site)


def text(site: Path) -> str:
    return (site / "rules.yaml").read_text()


def sets(site: Path) -> Any:
    return load(site).site.rule_sets


def test_from_the_first_look_to_the_same_rules_in_force(site: Path) -> None:
    before = text(site)
    look = run(site, LAB, "--dry-run")
    assert look.exit_code == 3
    assert text(site) == before
    assert look.stdout.startswith(
        HEAD + "rules:\n  # Moved from Auto Deploy vcenter.lab.example, exported 2025-"
    )
    left_out = "image profile ESXi-7.0U3-lab of Lab is left out: there is no image ESXi-7.0U3-lab"
    assert f"      # {left_out}\n      # image: ESXi-7.0U3-lab\n" in look.stdout
    heading, *table, summary = look.stderr.splitlines()
    assert heading.split() == ["LEFT", "OUT", "OF", "RULE", "WHY", "WHAT", "TO", "DO"]
    assert [line.split("  ")[0] for line in table] == [
        "script bundle firstboot",
        "image profile ESXi-7.0U3-lab of Lab",
        "image profile ESXi-8.0U3-24022510-standard of VMware, Inc.",
        "host profile base",
    ]
    assert ".esx-07, not yet" in table[0]
    assert "put it into the site: bundles/firstboot.tgz" in table[0]
    assert "write host-configurations/base.yaml" in table[3]
    assert summary.startswith("rules.yaml would have 4 rules, none of them active")

    (site / "bundles").mkdir()
    (site / "bundles/firstboot.tgz").write_bytes(gzip.compress(b"scripts", mtime=0))
    (site / "host-configurations/base.yaml").write_text("steps: []\n")
    done = run(site, LAB, *RENAMED)
    assert done.exit_code == 0, done.output
    assert (
        "rules.yaml has 4 rules, 3 of them active; a running service takes them with midwife reload"
        in done.stdout
    )
    assert "image profile ESXi-7.0U3-lab of Lab is called 'rescue' here" in done.stdout
    assert (
        text(site)
        == HEAD
        + """\
rules:
  # Moved from Auto Deploy vcenter.lab.example, exported 2025-03-07T09:30:00Z.
  - name: ".esx-07"
    patterns:
      - mac=00:50:56:12:34:56
    items:
      script-bundle: firstboot.tgz

  - name: old servers
    patterns:
      - "vendor=Dell Inc.,HP"
      - "model==PowerEdge R630, rev. 2"
      - "ipv4=192.168.1.10-192.168.1.20,192.168.1.40"
    items:
      image: rescue
      location: Lab/Rack 7/ClusterA

  - name: everything else
    patterns: all
    items:
      image: rescue
      configuration: base

  - name: not yet
    patterns:
      - "oemstring=$SPT:web"
    items:
      script-bundle: firstboot.tgz

active:
  - ".esx-07"
  - old servers
  - everything else
"""
    )
    assert midwife("check", site).exit_code == 0
    assert [rule.name for rule in load(site).site.rules] == [".esx-07", "old servers", "everything else"]


def test_as_long_as_something_is_missing_no_rule_is_active(site: Path) -> None:
    done = run(site, LAB)
    assert done.exit_code == 3
    assert "none of them active, because hosts could get what a later rule gives" in done.stdout
    assert sets(site).active == ()
    assert sets(site).working == (".esx-07", "old servers", "everything else")
    assert "Auto Deploy's active set: .esx-07, old servers, everything else" in text(site)

    # Bring it, and import again.
    (site / "bundles").mkdir()
    (site / "bundles/firstboot.tgz").write_bytes(gzip.compress(b"scripts", mtime=0))
    (site / "host-configurations/base.yaml").write_text("steps: []\n")
    assert run(site, LAB, "--replace", *RENAMED).exit_code == 0
    assert sets(site).active == (".esx-07", "old servers", "everything else")
    assert text(site).count("Moved from") == 1


def test_the_item_that_was_left_out_needs_its_comment_sign_taken_away(ready: Path) -> None:
    run(ready, LAB, "--image", "ESXi-8.0U3-24022510-standard=rescue")
    with (ready / "midwife.yaml").open("a") as main:
        main.write("  ESXi-7.0U3-lab:\n    kernel: vmlinuz\n")
    (ready / "rules.yaml").write_text(text(ready).replace("# image: ESXi-7.0U3-lab", "image: ESXi-7.0U3-lab"))
    by_name = {rule.name: rule for rule in sets(ready).every}
    assert by_name["old servers"].items.image == "ESXi-7.0U3-lab"


def test_working_and_active_set_of_an_auto_deploy_that_was_being_changed(site: Path) -> None:
    done = run(site, DATA / "staged.json")
    assert done.exit_code == 3
    assert "rule 'web' is called 'web (2)' here: another one has the name" in done.stdout
    assert "  # Left out: rule 'dummies', pattern serial=To be filled by O.E.M.: " in text(site)
    assert sets(site).working == ("web", "stars", "odd items", "rest (2)", "REST")
    assert sets(site).active == ()


def test_hosts_that_get_something_now_never_get_nothing(site: Path) -> None:
    (site / "rules.yaml").write_text("rules:\n  - {name: ours, patterns: all, items: {image: rescue}}\n")
    before = text(site)
    done = run(site, LAB, "--replace")
    assert done.exit_code == 1
    assert "hosts that get something now would get nothing" in done.stderr
    assert "image profile ESXi-7.0U3-lab of Lab" in done.stderr
    assert text(site) == before


def test_beside_rules_that_are_there_the_new_ones_are_in_no_set(ready: Path) -> None:
    ours = "rules:\n  # the whole lab\n  - name: ours\n    patterns: all\n    items:\n      image: rescue\n"
    (ready / "rules.yaml").write_text(ours)
    done = run(ready, LAB, *RENAMED)
    assert done.exit_code == 0, done.output
    assert "in no rule set" in done.stdout
    assert text(ready).startswith(ours)
    assert sets(ready).active == sets(ready).working == ("ours",)
    assert {rule.name for rule in sets(ready).every} == {
        "ours",
        ".esx-07",
        "old servers",
        "everything else",
        "not yet",
    }

    once = text(ready)
    assert run(ready, LAB, *RENAMED).exit_code == 0
    assert text(ready) == once  # the second time there is nothing new

    other = run(ready, LAB, *RENAMED, "--configuration", "base=base", "--image", "ESXi-7.0U3-lab=other")
    assert other.exit_code == 1
    assert "'old servers'; rename them" in other.stderr
    assert text(ready) == once

    assert run(ready, LAB, *RENAMED, "--replace").exit_code == 0
    assert sets(ready).active == (".esx-07", "old servers", "everything else")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--image", "nonsense"), 2, "write OLD=NEW"),
        (("--image", "ESXi-7.0U3-lab=a b"), 2, "write OLD=NEW"),
        (
            ("--image", "ESXi-9=x"),
            1,
            "the export has no image profile 'ESXi-9'; it has ESXi-7.0U3-lab, ESXi-8.0U3-",
        ),
        (("--configuration", "top=x"), 1, "the export has no host profile 'top'; it has base"),
    ],
)
def test_names_that_are_none(site: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = run(site, LAB, *words)
    assert done.exit_code == code
    assert said in done.stderr
    assert text(site) == HEAD + "rules:\n"


def test_files_that_are_no_export(site: Path, tmp_path: Path) -> None:
    assert "No such file" in run(site, tmp_path / "none.json").stderr
    assert "Is a directory" in run(site, tmp_path).stderr
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    assert "must come from boot/tools/export-autodeploy.ps1" in run(site, bad).stderr


def test_a_site_with_errors_stays_as_it_is(site: Path) -> None:
    (site / "hosts/esx-01.yaml").write_text("macs: nonsense\n")
    done = run(site, LAB)
    assert done.exit_code == 1
    assert "hosts/esx-01.yaml:1" in done.stderr
    assert text(site) == HEAD + "rules:\n"
    with pytest.raises(SiteError):
        load(site)


def test_nothing_in_an_export_reaches_the_terminal_or_breaks_out_of_a_comment(
    site: Path, tmp_path: Path
) -> None:
    whole = json.loads(LAB.read_text())
    evil = "x\nboot: local\x1b[2J\u2028y"
    for rule in (*whole["rules"], *whole["active"], *whole["working"]):
        for item in rule["items"]:
            item["name"] = evil
        rule["name"] += "\x1b[2J"
    odd = {"name": "odd", "allHosts": False, "patterns": ["vendor=\x1b[2J\n- b"], "items": []}
    whole["rules"].append(odd)
    whole["server"] = evil
    file = tmp_path / "evil.json"
    file.write_text(json.dumps(whole))
    for words in (("--dry-run",), ()):
        done = run(site, file, *words)
        assert done.exit_code == 3, done.output
        assert "\x1b" not in done.output
    assert all(c.isprintable() or c == "\n" for c in text(site))
    for rule in load(site).site.rule_sets.every:
        assert set(rule.items.given()) <= {"location"}


_texts = st.text(min_size=1, max_size=12)
_rules = st.builds(
    ExportedRule,
    _texts,
    st.lists(_texts.map("vendor=={}".format), max_size=2).map(tuple),
    st.lists(
        st.builds(OldItem, st.sampled_from(["image-profile", "cluster", "unknown"]), _texts), max_size=2
    ).map(tuple),
)


@given(st.lists(_rules, max_size=4), _texts)
def test_whatever_is_written_says_what_was_moved(rules: list[ExportedRule], server: str) -> None:
    export = Export(tuple(rules), tuple(rules[:2]), tuple(rules[::-1]), server)
    moved = move_in(export, Known(images=frozenset({"a", "A", "0"})))
    draft = Draft(Path(), Path())
    read_rules(draft, whole_text(b"", export, moved).encode())
    assert draft.problems == []
    found = [(rule.value.name, rule.value.patterns, rule.value.items.given()) for rule in draft.rules]
    assert found == [(rule.name, rule.patterns, rule.items) for rule in moved.rules]
    assert rule_sets(draft).active == (moved.active if moved.complete else ())
    assert rule_sets(draft).working == moved.working


def test_an_auto_deploy_without_rules(site: Path, tmp_path: Path) -> None:
    empty = json.loads(LAB.read_text()) | {"rules": [], "active": [], "working": []}
    file = tmp_path / "empty.json"
    file.write_text(json.dumps(empty))
    done = run(site, file)
    assert done.exit_code == 0, done.output
    assert sets(site).every == ()
