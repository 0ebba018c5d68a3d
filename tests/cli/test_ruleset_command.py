"""``midwife ruleset``: the working set is prepared, compared host by host, and activated as a whole or not."""

import json
import os
from pathlib import Path

import pytest
from click.testing import Result

from midwife.cli.rule import book
from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.site.rulesfile import read
from midwife.store.records import HostRow

from .sites import MACS, NOW, STRANGER, midwife, open_store, write_site

RULES = """\
rules:
  - name: hp
    patterns: [vendor=HPE]
    items: {image: rescue}
  - name: dells
    patterns: [vendor=Dell Inc.]
    items: {boot: local}
  - name: rest
    patterns: all
    items: {image: rescue}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three machines: esx-01 has its own image, esx-02 is a Dell, and of a stranger only the MAC is known."""
    root = write_site(tmp_path)
    (root / "midwife.yaml").write_text((root / "midwife.yaml").read_text() + "  other: {kernel: vmlinuz}\n")
    (root / "rules.yaml").write_text(RULES)
    (root / "hosts/disk-03.yaml").unlink()
    (root / "hosts/esx-02.yaml").write_text(f"macs: {MACS['disk-03']}\n")
    store = open_store(root)
    for name, facts in (
        ("esx-02", Facts(vendor="Dell Inc.", model="R640")),
        (STRANGER, Facts(macs=(STRANGER,))),
    ):
        store.save_host(HostRow(name, name[0] == "e", facts, State.DISCOVERED, NOW, "", "", ""))
    store.close()
    return root


def ruleset(site: Path, *words: str) -> Result:
    return midwife("ruleset", *words, "--site", site)


def sets(site: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = read(site).sets
    return found.active, found.working


def test_one_table_while_both_sets_are_the_same(site: Path) -> None:
    assert ruleset(site, "show").stdout.splitlines() == [
        "The active set, and the working set:",
        "INDEX  NAME   PATTERNS          ITEMS",
        "0      hp     vendor=HPE        image=rescue",
        "1      dells  vendor=Dell Inc.  boot=local",
        "2      rest   all hosts         image=rescue",
    ]
    assert ruleset(site, "show", "--working").stdout.startswith("The working set:\nINDEX")


def test_the_working_set_is_prepared_and_the_active_one_stays(site: Path) -> None:
    done = ruleset(site, "remove", "hp")
    assert done.stdout == (
        "the working set differs from the active one: midwife ruleset diff, midwife ruleset activate\n"
    )
    assert ruleset(site, "add", "hp", "--at", "1").exit_code == 0
    assert sets(site) == (("hp", "dells", "rest"), ("dells", "hp", "rest"))
    assert ruleset(site, "order", "rest", "hp", "dells").exit_code == 0
    assert ruleset(site, "remove", "--at", "0", "--at", "2").exit_code == 0
    assert sets(site) == (("hp", "dells", "rest"), ("hp",))
    assert ruleset(site, "show").stdout.splitlines()[-3:] == [
        "The working set:", "INDEX  NAME  PATTERNS    ITEMS", "0      hp    vendor=HPE  image=rescue",
    ]  # fmt: skip
    told = json.loads(ruleset(site, "show", "-o", "json").stdout)
    assert [rule["name"] for rule in told["active"]] == ["hp", "dells", "rest"]
    assert [rule["name"] for rule in told["working"]] == ["hp"]
    assert (site / "rules.yaml").read_text() == RULES + "\nworking:\n  - hp\n"


def test_activation_is_all_or_nothing_and_the_file_gets_simple_again(site: Path) -> None:
    ruleset(site, "order", "dells", "hp", "rest")
    done = ruleset(site, "activate")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "the active set has 3 rules now: dells, hp, rest",
        "no midwife serve is running; it reads the rules when it starts",
        "at their next boot 0 of 3 known hosts get something else",
    ]
    assert (site / "rules.yaml").read_text() == RULES + "\nactive:\n  - dells\n  - hp\n  - rest\n"
    again = ruleset(site, "activate")
    assert (again.exit_code, again.stdout) == (0, "the working set is active already; nothing was written\n")


def test_the_difference_is_told_for_every_known_host(site: Path) -> None:
    same = ruleset(site, "diff")
    assert (same.exit_code, same.stdout) == (0, "the working set is active: nothing would change\n")
    midwife("rule", "copy", "rest", "rest 2", "--replace-item", "image=other", "--site", site)
    ruleset(site, "order", "hp", "rest 2", "dells")
    ruleset(site, "remove", "dells")
    found = ruleset(site, "diff")
    assert found.exit_code == 3
    assert found.stdout.splitlines() == [
        "- dells   (was at index 1)",
        "- rest   (was at index 2)",
        "+ rest 2   (at index 1)",
        "",
        "HOST               ITEM   NOW     THEN   RULE",
        "esx-02             boot   local   -      -",
        "esx-02             image  rescue  other  rest 2",
        f"{STRANGER}  image  rescue  other  rest 2",
        "esx-01 may change: its vendor is not known",
        f"{STRANGER} may change in more: its vendor is not known",
        "2 of 3 known hosts would get something else, 1 more may",
    ]
    told = json.loads(ruleset(site, "diff", "-o", "json").stdout)
    assert told["removed"] == [{"rule": "dells", "index": 1}, {"rule": "rest", "index": 2}]
    assert told["added"] == [{"rule": "rest 2", "index": 1}]
    assert told["known_hosts"] == 3
    (dell,) = (host for host in told["hosts"] if host["host"] == "esx-02")
    assert dell == {
        "host": "esx-02",
        "items": {
            "boot": {"now": "local", "then": None, "rule": None},
            "image": {"now": "rescue", "then": "other", "rule": "rest 2"},
        },
        "unknown": [],
    }


def test_a_pin_is_not_changed_by_rules(site: Path) -> None:
    ruleset(site, "remove", "dells")
    assert "esx-02  boot  local  -" in ruleset(site, "diff").stdout
    (site / "pins.yaml").write_text("esx-02: {boot: local}\n")
    assert "esx-02" not in ruleset(site, "diff").stdout


def test_too_many_changes_are_not_activated(site: Path) -> None:
    midwife("rule", "copy", "rest", "rest 2", "--replace-item", "image=other", "--site", site)
    before = (site / "rules.yaml").read_bytes()
    refused = ruleset(site, "activate", "--max-changes", "1")
    assert refused.exit_code == 1
    assert refused.stderr == (
        "Error: 2 of 3 known hosts would get something else, and --max-changes is 1: nothing was done. "
        "midwife ruleset diff lists them\n"
    )
    assert (site / "rules.yaml").read_bytes() == before
    done = ruleset(site, "activate", "--max-changes", "2")
    assert "at their next boot 2 of 3 known hosts get something else" in done.stdout
    assert sets(site)[0] == ("hp", "dells", "rest 2")


def test_a_set_with_an_error_is_not_activated_and_the_active_one_stays(site: Path) -> None:
    ruleset(site, "remove", "hp")
    (site / "vmlinuz").unlink()
    (site / "hosts/esx-02.yaml").write_text("macs: nonsense\n")
    before = (site / "rules.yaml").read_bytes()
    refused = ruleset(site, "activate")
    assert refused.exit_code == 1
    assert "hosts/esx-02.yaml:1:7:" in refused.stderr
    assert "midwife.yaml:5:13: images.rescue.kernel: vmlinuz cannot be read" in refused.stderr
    assert (site / "rules.yaml").read_bytes() == before


def test_a_rule_that_stays_active_is_not_forgotten(site: Path) -> None:
    refused = ruleset(site, "remove", "hp", "--delete")
    assert refused.exit_code == 1
    assert "'hp' is in the active set" in refused.stderr
    done = ruleset(site, "remove", "hp", "--delete", "--activate")
    assert done.exit_code == 0, done.output
    assert "removed: hp" in done.stdout
    assert (site / "rules.yaml").read_text() == RULES.replace(
        "  - name: hp\n    patterns: [vendor=HPE]\n    items: {image: rescue}\n", ""
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "hp"), 1, "'hp' is in the working set already, at index 0; --at moves it"),
        (("add", "hpe"), 1, "there is no rule 'hpe'; did you mean 'hp'?"),
        (("add", "hp", "--at", "3"), 1, "the working set has the indexes 0 to 1; the end is 2"),
        (("order", "hp"), 1, "the order leaves out 'dells', 'rest'"),
        (("order", "hp", "hp"), 1, "'hp' is named twice"),
        (("remove",), 2, "name the rules, or give their indexes with --at"),
        (("remove", "hp", "--at", "1"), 2, "name the rules, or give their indexes with --at"),
        (("remove", "--at", "7"), 1, "the working set has no index 7; it has the indexes 0 to 2"),
        (("activate", "--max-changes", "-1"), 2, "-1 is not in the range"),
    ],
)
def test_what_cannot_be_done(site: Path, words: tuple[str, ...], code: int, said: str) -> None:
    result = ruleset(site, *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert (site / "rules.yaml").read_text() == RULES


def test_somebody_else_was_quicker(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = book.open_rules

    def slowly(root: Path) -> object:
        file = opened(root)
        assert midwife("ruleset", "remove", "rest", "--site", root).exit_code == 0
        return file

    # >> I begin to read << somebody else has written >> I write
    monkeypatch.setattr("midwife.cli.rule.edit.open_rules", slowly)
    refused = midwife("rule", "new", "x", "--all-hosts", "--item", "boot=local", "--site", site)
    assert refused.exit_code == 1
    assert "rules.yaml was changed by somebody else since it was read; nothing was written" in refused.stderr
    assert (site / "rules.yaml").read_text() == RULES + "\nworking:\n  - hp\n  - dells\n"


def test_a_service_that_cannot_be_told_is_no_silent_success(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr("midwife.cli.reload.service_pid", lambda site: 4711)
    monkeypatch.setattr(os, "kill", refuse)
    told = ruleset(site, "remove", "hp", "--activate")
    assert told.exit_code == 1
    assert "rules.yaml is written, but midwife serve (process 4711) runs as another user" in told.stderr
    assert sets(site)[0] == ("dells", "rest")
