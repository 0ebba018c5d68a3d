"""``midwife rule list|show|new|copy|set|remove`` as a person uses them on a site directory."""

import json
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import Result

from midwife.cli.main import cli
from midwife.rules.sets import RuleSets
from midwife.site.model import Rule
from midwife.site.rulesfile import read

from .sites import midwife, write_site

RULES = """\
# Who changes this tells Ann.
rules:
  - name: dells      # until the new ones come
    patterns:
      - vendor=Dell Inc.
      - model=R630,R730
    items:
      image: rescue

  - name: rest
    patterns: all
    items: {image: rescue, boot: install}

  - name: .later
    patterns: ["label.rack!=r7", "ipv4=192.0.2.1-192.0.2.9"]
    items: {boot: local}
active: [dells, rest]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = write_site(tmp_path)
    (root / "rules.yaml").write_text(RULES)
    return root


def rule(site: Path, *words: str) -> Result:
    return midwife("rule", *words, "--site", site)


def text(site: Path) -> str:
    return (site / "rules.yaml").read_text()


def sets(site: Path) -> RuleSets[Rule]:
    return read(site).sets


def test_the_list(site: Path) -> None:
    assert rule(site, "list").stdout.splitlines() == [
        "NAME   SETS             INDEX  PATTERNS                           ITEMS",
        "dells  active, working  0      vendor=Dell Inc.; model=R630,R730  image=rescue",
        "rest   active, working  1      all hosts                          image=rescue, boot=install",
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ["dells", "rest"]),
        (("--all",), ["dells", "rest", ".later"]),
        (("*S*",), ["dells", "rest"]),
        (("d*",), ["dells"]),
        ((".*",), [".later"]),
        (("*later", "--all"), [".later"]),
    ],
)
def test_hidden_rules_are_listed_only_when_asked_for(
    site: Path, words: tuple[str, ...], names: list[str]
) -> None:
    assert [one["name"] for one in json.loads(rule(site, "list", *words, "-o", "json").stdout)] == names


def test_a_list_of_nothing_says_what_to_do(site: Path) -> None:
    assert rule(site, "list", "zz*").stdout == "no rule matches zz*; 1 hidden: --all\n"
    (site / "rules.yaml").unlink()
    assert rule(site, "list").stdout == "there are no rules yet; midwife rule new makes one\n"


def test_show_marks_what_auto_deploy_does_not_know(site: Path) -> None:
    shown = rule(site, "show", ".LATER")
    assert shown.stdout.splitlines() == [
        "name:      .later",
        "sets:      none; midwife ruleset add puts it into the working set",
        "patterns:  label.rack!=r7   (an extension of midwife's)",
        "           ipv4=192.0.2.1-192.0.2.9",
        "items:     boot           local",
    ]
    assert json.loads(rule(site, "show", "rest", "-o", "json").stdout) == {
        "name": "rest",
        "hidden": False,
        "active": 1,
        "working": 1,
        "patterns": [],
        "items": {"image": "rescue", "boot": "install"},
    }
    missing = rule(site, "show", "dell")
    assert missing.exit_code == 1
    assert missing.stderr == "Error: there is no rule 'dell'; did you mean 'dells'?\n"


def test_a_new_rule_has_no_effect_until_it_is_activated(site: Path) -> None:
    made = rule(
        site, "new", "hp", "--pattern", "vendor=HPE", "--item", "image=rescue", "--item", "location=Lab/R7"
    )
    assert made.exit_code == 0, made.output
    assert "midwife ruleset add" in made.stdout
    assert sets(site).sets_of("hp") == ()
    assert text(site) == RULES.replace(
        "active:",
        "\n  - name: hp\n    patterns:\n      - vendor=HPE\n    items:\n      image: rescue\n"
        "      location: Lab/R7\nactive:",
    )


def test_a_new_rule_straight_into_the_active_set(site: Path) -> None:
    made = rule(
        site, "new", "hp", "--pattern", "vendor=HPE", "--item", "boot=local", "--at", "1", "--activate"
    )
    assert made.exit_code == 0, made.output
    assert "the active set has 3 rules now: dells, hp, rest\nno midwife serve is running" in made.stdout
    assert sets(site).active == sets(site).working == ("dells", "hp", "rest")
    assert text(site).endswith("active: [dells, hp, rest]\n")


def test_everything_wrong_with_a_new_rule_at_once(site: Path) -> None:
    refused = rule(site, "new", "x", "--pattern", "colour=red", "--pattern", "ipv4=9-2", "--item", "imag=x")
    assert refused.exit_code == 1
    lines = refused.stderr.splitlines()
    assert lines[0].startswith("Error: patterns.0: 'colour' is not an attribute; there are asset,")
    assert lines[1].startswith("patterns.1: '9-2' is not an IPv4 address or range")
    assert lines[2] == "unknown key 'imag' in items; did you mean image?"
    assert text(site) == RULES


def test_what_does_not_exist_is_refused_and_nothing_is_written(site: Path) -> None:
    refused = rule(
        site, "new", "x", "--all-hosts", "--item", "image=recsue", "--item", "script-bundle=no.tgz"
    )
    assert refused.exit_code == 1
    assert "Error: rule 'x': items.image: there is no image 'recsue'; did you mean rescue?" in refused.stderr
    assert "rule 'x': items.script-bundle: bundles/no.tgz: No such file or directory" in refused.stderr
    assert refused.stderr.endswith("nothing was written\n")
    assert text(site) == RULES


def test_mistakes_elsewhere_do_not_stand_in_the_way_of_a_rule(site: Path) -> None:
    (site / "hosts/esx-09.yaml").write_text("macs: nonsense\n")
    (site / "rules.yaml").write_text(RULES.replace("image: rescue\n", "image: not-yet\n"))
    assert rule(site, "new", "x", "--all-hosts", "--item", "boot=local").exit_code == 0
    refused = rule(site, "new", "y", "--all-hosts", "--item", "boot=local", "--activate")
    assert refused.exit_code == 1, "but nothing is activated then"
    assert "hosts/esx-09.yaml:1:7" in refused.stderr
    assert "rules.yaml:8:14: rules.0.items.image: there is no image 'not-yet'" in refused.stderr
    assert "2 errors in the site" in refused.stderr
    assert [one.name for one in sets(site).every] == ["dells", "rest", ".later", "x"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("new", "x", "--item", "image=rescue"), "say for which hosts it is"),
        (("new", "x", "--all-hosts", "--pattern", "vendor=HPE"), "say for which hosts it is"),
        (("new", "x", "--all-hosts", "--item", "rescue"), "'rescue' is no item; write KIND=VALUE"),
        (
            ("new", "x", "--all-hosts", "--item", "boot=local", "--item", "boot=install"),
            "two items of the kind boot",
        ),
        (("new", "x", "--all-hosts", "--at", "-1"), "-1 is not in the range"),
        (("set", ".later"), "say what to change"),
        (("set", ".later", "--all-hosts", "--pattern", "vendor=HPE"), "not both"),
        (
            ("copy", "dells", "x", "--all-hosts", "--replace-pattern", "vendor=HPE"),
            "--all-hosts goes with no pattern",
        ),
        (("copy", "dells", "x", "--clear-patterns"), "a rule without patterns says so: --all-hosts"),
        (
            ("copy", "dells", "x", "--clear-patterns", "--replace-pattern", "vendor=HPE"),
            "neither of the other two",
        ),
        (("remove",), "Missing argument 'RULE...'"),
    ],
)
def test_wrong_usage(site: Path, words: tuple[str, ...], said: str) -> None:
    result = rule(site, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert text(site) == RULES


@pytest.mark.parametrize(
    ("words", "patterns"),
    [
        ((), ("vendor=Dell Inc.", "model=R630,R730")),
        (("--replace-pattern", "vendor=HPE"), ("vendor=HPE",)),
        (("--add-or-replace-pattern", "model=R740"), ("vendor=Dell Inc.", "model=R740")),
        (
            ("--add-or-replace-pattern", "serial=A1", "--add-or-replace-pattern", "VENDOR=HPE"),
            ("VENDOR=HPE", "model=R630,R730", "serial=A1"),
        ),
        (("--clear-patterns", "--add-or-replace-pattern", "serial=A1"), ("serial=A1",)),
        (("--all-hosts",), ()),
    ],
)
def test_a_copy_with_other_patterns(site: Path, words: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    done = rule(site, "copy", "DELLS", "dells 2", *words)
    assert done.exit_code == 0, done.output
    assert sets(site).find("dells 2").patterns == patterns


def test_a_copy_takes_the_place_of_the_original_and_waits_for_activation(site: Path) -> None:
    done = rule(site, "copy", "dells", "dells 2", "--replace-item", "boot=local")
    assert "rule dells 2 stands in place of dells in the working set" in done.stdout
    after = sets(site)
    assert (after.active, after.working) == (("dells", "rest"), ("dells 2", "rest"))
    assert after.find("dells 2").items.given() == {"image": "rescue", "boot": "local"}
    assert "# until the new ones come" in text(site)
    assert rule(site, "copy", "rest", "rest 2", "--activate").exit_code == 0
    assert sets(site).active == ("dells 2", "rest 2"), "whatever else is pending is activated too"
    aside = rule(site, "copy", "rest 2", "rest 3", "--no-replace")
    assert "it is in no rule set" in aside.stdout
    assert sets(site).sets_of("rest 3") == ()


def test_only_a_rule_in_no_set_is_changed_in_place(site: Path) -> None:
    refused = rule(site, "set", "dells", "--all-hosts")
    assert refused.exit_code == 1
    assert "'dells' is in the active and the working set and cannot be changed in place" in refused.stderr
    assert "midwife rule copy" in refused.stderr
    assert text(site) == RULES
    done = rule(
        site, "set", ".later", "--name", "sooner", "--pattern", "vendor=HPE", "--item", "boot=install"
    )
    assert done.exit_code == 0, done.output
    changed = RULES.replace("name: .later", "name: sooner").replace("boot: local", "boot: install")
    assert text(site) == changed.replace('["label.rack!=r7", "ipv4=192.0.2.1-192.0.2.9"]', "[vendor=HPE]")


def test_a_rule_in_a_set_is_removed_only_if_that_is_meant(site: Path) -> None:
    assert rule(site, "remove", ".later").stdout == "removed: .later\n"
    refused = rule(site, "remove", "dells")
    assert refused.exit_code == 1
    assert (
        "take it out first (midwife ruleset remove, midwife ruleset activate), or say --from-sets"
        in refused.stderr
    )
    done = rule(site, "remove", "dells", "--from-sets")
    assert "the active set has 1 rule now: rest" in done.stdout
    assert text(site) == (
        "# Who changes this tells Ann.\nrules:\n  - name: rest\n    patterns: all\n"
        "    items: {image: rescue, boot: install}\nactive: [rest]\n"
    )


def test_a_broken_file_is_told_with_its_place_and_left_alone(site: Path) -> None:
    (site / "rules.yaml").write_text(RULES.replace("vendor=Dell Inc.", "colour=red"))
    for words in (("list",), ("new", "x", "--all-hosts", "--item", "boot=local")):
        refused = rule(site, *words)
        assert refused.exit_code == 1
        assert "rules.yaml:5:9: rules.0.patterns.0: 'colour' is not an attribute" in refused.stderr


def test_no_site(tmp_path: Path) -> None:
    refused = rule(tmp_path, "list")
    assert refused.exit_code == 1
    assert "is not a site directory" in refused.stderr


def test_completion_knows_the_rules(site: Path) -> None:
    shell = ShellComplete(cli, {}, "midwife", "_MIDWIFE_COMPLETE")
    words = ["rule", "show", "--site", str(site)]
    assert [item.value for item in shell.get_completions(words, "d")] == ["dells"]
    assert shell.get_completions([*words[:3], str(site / "nowhere")], "d") == []
