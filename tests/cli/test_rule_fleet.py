"""``midwife rule test|compliance|coverage|suggest``: answers about hosts that were seen, and others."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from midwife.core.facts import Facts
from midwife.core.lifecycle import State

from .fleetsite import DELL, GOT, RULES, dell, make_site, rule, seen
from .sites import MACS, STRANGER, midwife


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return make_site(tmp_path / "site")


# rule test


def test_every_rule_of_the_active_set_says_why(site: Path) -> None:
    dell(site)
    result = rule(site, "test", DELL)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{DELL}, by the active set:",
        "INDEX  RULE    SAYS      GIVES                 WHY",
        "0      dells   match     image, configuration  its vendor Dell Inc. matches vendor=Dell Inc.; "
        "its model PowerEdge R630 matches model=PowerEdge R6*",
        "1      racked  no match  -                     it has no label.rack, label.rack=r7 asks for one",
        "",
        "ITEM           VALUE   RULE   NOTE",
        "image          rescue  dells  -",
        "configuration  base    dells  -",
        "model=PowerEdge R6* (rule dells) is an extension of midwife's",
        "label.rack=r7 (rule racked) is an extension of midwife's",
    ]


def test_the_working_set_and_another_file(site: Path, tmp_path: Path) -> None:
    dell(site)
    working = json.loads(rule(site, "test", DELL, "--set", "working", "-o", "json").stdout)
    assert working["items"]["image"] == {"value": "spare", "rule": "next"}
    assert [one["rule"] for one in working["rules"]] == ["next", "dells"]
    other = tmp_path / "branch.yaml"
    other.write_text("rules:\n  - {name: serials, patterns: serial=D1, items: {image: spare}}\n")
    told = json.loads(rule(site, "test", DELL, "--set", other, "-o", "json").stdout)
    assert told["items"] == {"image": {"value": "spare", "rule": "serials"}}
    other.write_text("rules:\n  - {name: serials, patterns: seriel=D1, items: {image: spare}}\n")
    refused = rule(site, "test", DELL, "--set", other)
    assert refused.exit_code == 1
    assert f"{other}:1:" not in refused.stderr
    assert f"{other}:2:" in refused.stderr
    assert "'seriel' is not an attribute" in refused.stderr
    assert (site / "rules.yaml").read_text() == RULES


def test_its_own_file_comes_first(site: Path) -> None:
    facts = Facts(macs=(MACS["esx-01"],), vendor="Dell Inc.", model="PowerEdge R640")
    seen(site, "esx-01", facts)
    (site / "hosts/esx-01.yaml").write_text(f"macs: {MACS['esx-01']}\nimage: spare\nlabels: {{rack: R7}}\n")
    told = rule(site, "test", "esx-01").stdout
    assert "image          rescue  dells  it gets spare instead: host file esx-01\n" in told
    assert (
        "1      racked  match  -                     its label.rack R7 matches label.rack=r7; gives nothing"
        in told
    )


def test_what_is_not_known_is_said(site: Path) -> None:
    told = rule(site, "test", STRANGER).stdout
    assert "not known: its vendor, model, which are asked for before it boots\n" in told
    assert "no rule gives it anything\n" in told


@pytest.mark.parametrize(
    "facts",
    [
        {"mac": "02-00-00-00-01-01", "vendor": "dell inc.", "model": ["PowerEdge R640"], "label.rack": "r7"},
        {"facts": {"macs": [DELL], "vendor": "DELL INC.", "model": "poweredge r640"}, "ipxe": "…"},
    ],
)
def test_a_machine_out_of_a_file(site: Path, tmp_path: Path, facts: dict[str, object]) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps(facts))
    for words, stdin in ((["--facts", file], None), (["--facts", "-"], file.read_text())):
        told = json.loads(rule(site, "test", *words, "-o", "json", stdin=stdin).stdout)
        assert told["host"] == DELL
        assert told["items"]["image"] == {"value": "rescue", "rule": "dells"}
        assert told["rules"][0]["extensions"] == ["model=PowerEdge R6*"]
        assert told["rules"][1]["outcome"] == ("match" if "label.rack" in facts else "no match")


def test_explain_and_rule_test_write_what_it_reads(site: Path) -> None:
    dell(site)
    explained = midwife("explain", DELL, "-o", "json", "--site", site).stdout
    tested = rule(site, "test", "--facts", "-", "-o", "json", stdin=explained).stdout
    again = rule(site, "test", "--facts", "-", "-o", "json", stdin=tested).stdout
    assert (
        json.loads(tested) == json.loads(again) == json.loads(rule(site, "test", DELL, "-o", "json").stdout)
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "is not JSON; write"),
        ("[" * 100_000, "is not JSON; write"),
        ("[]", "is not a JSON object"),
        ('{"vendor": 1}', "vendor: write a text"),
        ('{"colour": "red"}', "colour: is no attribute; there are asset,"),
        ('{"mac": "zz"}', "mac: 'zz' is not a MAC address"),
        ('{"uuid": "1"}', "uuid: '1' is not a UUID"),
        ('{"firmware": "amiga"}', "firmware: is one of bios, efi"),
        ('{"model": ["a", "b"]}', "model: a machine has one value of it"),
        ('{"vendor": "' + "x" * (1 << 20) + '"}', "is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_has_no_facts(site: Path, text: str, wrong: str) -> None:
    result = rule(site, "test", "--facts", "-", stdin=text)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: standard input")
    assert wrong in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "wrong"),
    [
        (["test"], 2, "name a machine, or give --facts FILE"),
        (["test", "esx-01", "--facts", "-"], 2, "name a machine, or give --facts FILE"),
        (["test", "nobody"], 1, "'nobody' is no host of the site"),
        (["test", "--facts", "nowhere.json"], 1, "nowhere.json: No such file"),
        (["test", "esx-01", "--set", "nowhere.yaml"], 1, "there is no file nowhere.yaml"),
        (["test", "esx-01", "--set", "/"], 1, "/ is not a regular file"),
        (["compliance", "nobody"], 1, "nobody is no machine that is known here"),
        (["compliance", "--repair", "--set", "working"], 2, "--repair is about the active set"),
        (["suggest", "nobody"], 1, "nobody is no machine that is known here"),
        (["suggest", "esx-01", "--item", "image"], 2, "'image' is no item"),
    ],
)
def test_wrong_words(site: Path, words: Sequence[str], code: int, wrong: str) -> None:
    result = rule(site, *words)
    assert result.exit_code == code
    assert wrong in result.stderr


# rule compliance


def test_a_fleet_that_has_what_the_rules_say(site: Path) -> None:
    dell(site, GOT)
    seen(site, "disk-03", Facts(macs=(MACS["disk-03"],), asked=("vendor", "model")), {}, state=State.LOCAL)
    result = rule(site, "compliance")
    assert result.stdout == "3 known hosts, by the active set: 2 as they should be, 1 not booted yet\n"
    assert result.exit_code == 0


def test_the_last_boot_counts_and_nothing_else(site: Path) -> None:
    dell(site, GOT, {**GOT, "image": "spare", "configuration": ""})
    result = rule(site, "compliance", DELL)
    assert [line.split("  ")[:2] for line in result.stdout.splitlines()[1:3]] == [
        [DELL, "image"],
        [DELL, "configuration"],
    ]
    assert result.stdout.splitlines()[2].split()[2:5] == ["nothing", "base", "dells"]
    assert result.stdout.endswith("1 known host, by the active set: 0 as they should be, 1 not\n")
    assert result.exit_code == 3
    [told] = json.loads(rule(site, "compliance", DELL.upper(), "-o", "json").stdout)["hosts"]
    assert (told["host"], told["compliant"], told["booted"]) == (DELL, False, True)
    assert told["differences"][1] == {
        "item": "configuration",
        "got": "",
        "expected": "base",
        "rule": "dells",
        "pinned": None,
        "pin_dropped": False,
    }


def test_what_the_working_set_would_change(site: Path) -> None:
    dell(site, GOT)
    assert rule(site, "compliance", "D1").exit_code == 0, "by its serial number"
    result = rule(site, "compliance", "--set", "working", DELL)
    assert result.exit_code == 3
    assert result.stdout.splitlines()[1].split() == [
        DELL,
        "image",
        "rescue",
        "spare",
        "next",
        *["at", "its", "next", "boot"],
    ]


def test_a_fact_is_missing(site: Path) -> None:
    seen(site, STRANGER, Facts(macs=(STRANGER,)), GOT)
    result = rule(site, "compliance", STRANGER)
    assert f"{STRANGER} may differ: its vendor, model are not known\n" in result.stdout
    assert result.exit_code == 3
    [told] = json.loads(rule(site, "compliance", STRANGER, "-o", "json").stdout)["hosts"]
    assert (told["compliant"], told["unknown"]) == (None, ["vendor", "model"])


def test_a_host_that_was_taken_as_up_has_an_image_that_nobody_knows(site: Path) -> None:
    dell(site, {**GOT, "image": ""})
    assert rule(site, "compliance", DELL).exit_code == 0


# rule coverage


def test_gaps(site: Path) -> None:
    (site / "rules.yaml").write_text(
        RULES.partition("active:")[0].replace("vendor=Dell Inc., ", "")
        + "  - {name: one, patterns: serial=S9, items: {image: rescue}}\n"
    )
    dell(site, asset="")
    result = rule(site, "coverage")
    assert result.exit_code == 3
    assert result.stdout.splitlines()[:4] == [
        "RULE    INDEX  WHAT",
        "racked  1      matches no known host",
        "one     3      never has an effect: 'next' above it takes every host it matches",
        "one     3      matches no known host for certain: facts are missing",
    ]
    told = json.loads(rule(site, "coverage", "-o", "json").stdout)
    assert told["shadowed"] == [{"rule": "one", "by": ["next"]}]
    assert (told["never_matching"], told["unsure"], told["known_hosts"]) == (["racked"], ["one"], 3)


def test_hosts_without_a_rule(site: Path) -> None:
    facts = Facts(macs=(STRANGER,), vendor="HPE", model="DL360")
    seen(site, STRANGER, facts)
    dell(site)
    result = rule(site, "coverage")
    assert f"{STRANGER}  no rule matches it" in result.stdout
    assert result.stdout.count(f"midwife rule suggest {STRANGER}\n") == 1
    assert (
        "esx-01             no rule matches it for certain: its vendor, model are not known; its own file or a pin"
        in result.stdout
    )
    assert result.exit_code == 3


def test_nothing_is_missing(site: Path) -> None:
    (site / "rules.yaml").write_text("rules:\n  - {name: all, patterns: all, items: {image: rescue}}\n")
    result = rule(site, "coverage")
    assert result.exit_code == 0
    assert (
        result.stdout
        == "1 rule of the active set, 2 known hosts: every rule has its hosts, every host has a rule\n"
    )


# rule suggest


def discover(site: Path, *numbers: int, model: str = "DL360") -> list[str]:
    macs = [f"02:00:00:00:02:{number:02x}" for number in numbers]
    for number, mac in zip(numbers, macs, strict=True):
        seen(site, mac, Facts(macs=(mac,), vendor="HPE", model=model, serial=f"H{number}"))
    return macs


def test_a_rule_for_machines_of_one_model(site: Path) -> None:
    first, second = discover(site, 1, 2)
    dell(site)
    result = rule(site, "suggest", first)
    assert result.exit_code == 0
    assert result.stdout == (
        "  - name: HPE DL360\n    patterns:\n      - vendor=HPE\n      - model=DL360\n"
        "    items:\n      image: rescue\n"
    )
    assert f"it matches {first}, and {second}\n" in result.stderr
    assert "rescue: most machines get it; --item image=NAME takes another\n" in result.stderr
    assert (site / "rules.yaml").read_text() == RULES


def test_it_is_written_and_works_when_it_is_activated(site: Path) -> None:
    first, second = discover(site, 1, 2)
    result = rule(site, "suggest", second, "--item", "image=rescue", "--item", "boot=install", "--write")
    assert result.exit_code == 0, result.output
    assert "midwife ruleset add 'HPE DL360' --at 0, midwife ruleset activate" in result.stderr
    text = (site / "rules.yaml").read_text()
    assert text.startswith("# the lab's\n")
    assert "# for rack 7" in text
    assert text.endswith("active: [dells, racked]\nworking: [next, dells]\n"), "it is in no set"
    for words in (["add", "HPE DL360", "--at", "0"], ["activate"]):
        assert midwife("ruleset", *words, "--site", site).exit_code == 0
    told = json.loads(rule(site, "test", first, "-o", "json").stdout)
    assert told["items"]["boot"] == {"value": "install", "rule": "HPE DL360"}
    again = rule(site, "suggest", first, "--write")
    assert "gets the image rescue already" in again.stderr
    assert "name: host 02:00:00:00:02:01" in again.stdout


def test_a_rule_for_one_machine(site: Path) -> None:
    [mac] = discover(site, 1)
    for named in (mac, "h1", mac.upper().replace(":", "-")):
        told = json.loads(rule(site, "suggest", named, "-o", "json").stdout)
        assert told == {
            "host": mac,
            "name": f"host {mac}",
            "patterns": [f"mac={mac}"],
            "items": {"image": "rescue"},
            "also_matches": [],
            "at": 0,
        }


def test_a_machine_that_never_asked(site: Path) -> None:
    result = rule(site, "suggest", "0200.5e00.5301", "--item", "image=spare")
    assert "      - mac=02:00:5e:00:53:01\n    items:\n      image: spare\n" in result.stdout


def test_no_image_is_known(site: Path) -> None:
    (site / "hosts/esx-01.yaml").unlink()
    (site / "rules.yaml").unlink()
    [mac] = discover(site, 1)
    result = rule(site, "suggest", mac)
    assert result.stdout.endswith("image: NAME\n")
    assert "say which image instead of NAME" in result.stderr
    refused = rule(site, "suggest", mac, "--write")
    assert refused.exit_code == 1
    assert "say one: --item image=NAME" in refused.stderr
    assert not (site / "rules.yaml").exists()


def test_the_names_of_strangers_do_not_reach_the_terminal(site: Path) -> None:
    macs = discover(site, 1, 2, model="DL\x1b[2J")
    for words in (["suggest", macs[0]], ["test", macs[0]], ["coverage"], ["compliance"]):
        assert "\x1b" not in rule(site, *words).output
