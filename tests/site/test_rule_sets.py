"""The rule sets of a site: what is active without a word about it, what is refused, with its place."""

import gzip

import pytest

from midwife.site.load import SiteError, load
from tests.site.conftest import RULES, SiteFolder


def names(site: SiteFolder) -> tuple[list[str], list[str]]:
    sets = site.load().site.rule_sets
    return [rule.name for rule in sets.rules("active")], [rule.name for rule in sets.rules("working")]


def test_without_sets_all_rules_are_active_in_their_order_hidden_ones_too(site: SiteFolder) -> None:
    site.write("rules.yaml", RULES.replace("name: dells", "name: .dells"))
    assert names(site) == ([".dells", "rest"], [".dells", "rest"])
    assert [rule.name for rule in site.load().site.rules] == [".dells", "rest"]


def test_the_active_set_decides_and_the_working_set_waits(site: SiteFolder) -> None:
    site.write("rules.yaml", RULES + "active: [rest]\nworking: [dells, rest]\n")
    loaded = site.load().site
    assert names(site) == (["rest"], ["dells", "rest"])
    assert [rule.name for rule in loaded.rules] == ["rest"]
    assert [rule.name for rule in loaded.rule_sets.every] == ["dells", "rest"]


def test_without_working_it_is_as_the_active_set(site: SiteFolder) -> None:
    site.write("rules.yaml", RULES + "active:\n- rest\n- dells\nworking:\n")
    assert names(site) == (["rest", "dells"], ["rest", "dells"])


NO_LIST = "a list of rule names is expected; write one name a line, each with - in front"
EMPTY = "rule set is empty: no rule gives a host anything; name rules in it, or take"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("active: [rest, Dells]\n", "10:16: active.1: there is no rule 'Dells'; did you mean dells?"),
        (
            "active: [rest]\nworking:\n  - rest\n  - dells\n  - rest\n",
            "14:5: working.2: rule 'rest' is already at index 0 of this set; "
            "a rule has one place in a set; take one out",
        ),
        ("active: rest\n", f"10:9: active: {NO_LIST}"),
        ("working: [{name: rest}]\n", f"10:10: working: {NO_LIST}"),
        ("activ: [rest]\n", "10:1: unknown key 'activ'; did you mean active?"),
        ("active: []\n", f"10:9: warning: the active {EMPTY} active: out: then all rules are active"),
        ("working: []\n", f"10:10: warning: the working {EMPTY} working: out: then it is as the active set"),
    ],
)
def test_what_is_wrong_with_a_set(site: SiteFolder, more: str, problem: str) -> None:
    site.write("rules.yaml", RULES + more)
    assert site.problems() == [f"rules.yaml:{problem}"]


def test_a_broken_rule_is_no_unknown_one(site: SiteFolder) -> None:
    site.write("rules.yaml", RULES.replace("vendor=Dell Inc.", "colour=red") + "active: [dells, rest]\n")
    (problem,) = site.problems()
    assert problem.startswith("rules.yaml:3:16: rules.0.patterns.0: 'colour' is not an attribute")


def test_a_rule_without_effect_is_told_for_each_set(site: SiteFolder) -> None:
    rules = (
        "rules:\n- {name: a, patterns: all, items: {image: lab}}\n"
        "- {name: b, patterns: vendor=HPE, items: {image: lab}}\n"
    )
    site.write("rules.yaml", rules + "active: [b, a]\n")
    assert site.problems() == []
    site.write("rules.yaml", rules + "active: [b, a]\nworking: [a, b]\n")
    assert site.problems() == [
        "rules.yaml:3:3: warning: rule 'b' never has an effect in the working set: 'a' above it takes "
        "every host it matches; put it above, or delete it"
    ]


ITEM = "rules:\n- name: a\n  patterns: all\n  items:\n    {}\n"


@pytest.mark.parametrize("location", ["Lab", "Lab/Rack 7/ClusterA", "Lab/a%2fb", "Ünï"])
def test_a_location_is_a_path_in_a_vcenter(site: SiteFolder, location: str) -> None:
    site.write("rules.yaml", ITEM.format(f"location: {location}"))
    assert site.load().site.rules[0].items.given() == {"location": location}


@pytest.mark.parametrize(
    "location", ["/Lab", "Lab/", "Lab//x", '" Lab"', "Lab/ x", '"a\\tb"', "Lab/" + "x" * 81]
)
def test_what_is_no_location(site: SiteFolder, location: str) -> None:
    site.write("rules.yaml", ITEM.format(f"location: {location}"))
    (problem,) = site.problems()[:1]
    assert problem.startswith("rules.yaml:5:15: rules.0.items.location: ")


def test_a_script_bundle_is_a_tgz_in_bundles(site: SiteFolder) -> None:
    site.write("rules.yaml", ITEM.format("script-bundle: lab.tgz"))
    assert site.problems() == [
        "rules.yaml:5:20: rules.0.items.script-bundle: bundles/lab.tgz: No such file or directory; "
        "put the file into bundles/"
    ]
    site.write("bundles/lab.tgz", "PK")
    assert site.problems() == [
        "rules.yaml:5:20: rules.0.items.script-bundle: bundles/lab.tgz is not gzip-compressed; "
        "make it with: tar -czf"
    ]
    site.write("bundles/lab.tgz", gzip.compress(b""))
    assert site.load().site.rules[0].items.given() == {"script-bundle": "lab.tgz"}
    site.write("rules.yaml", ITEM.format("script-bundle: ../files/x.tgz"))
    site.write("files/x.tgz", gzip.compress(b""))
    assert "bundles/../files/x.tgz leads out of bundles/" in site.problems()[0]
    site.write("rules.yaml", ITEM.format("script-bundle: motd.j2"))
    assert "is not a script bundle; it is a .tgz file in bundles/" in site.problems()[0]


@pytest.mark.parametrize("name", ['" a"', '"a\\nb"', '"a\\u202eb"', '""'])
def test_a_rule_has_a_name_that_can_be_typed_and_printed(site: SiteFolder, name: str) -> None:
    site.write("rules.yaml", f"rules:\n- name: {name}\n  patterns: all\n  items: {{image: lab}}\n")
    assert site.problems()[0].startswith("rules.yaml:2:9: rules.0.name: ")


def test_rules_can_be_proved_before_they_are_written(site: SiteFolder) -> None:
    before = (site.root / "rules.yaml").read_bytes()
    with pytest.raises(SiteError) as caught:
        load(site.root, {"8.0U3"}, {"ESX_ROOT": ""}, rules=before.replace(b"lab", b"9.0"))
    assert "there is no image '9.0'" in str(caught.value)
    after = load(site.root, {"8.0U3"}, {"ESX_ROOT": ""}, rules=before + b"active: [rest]\n")
    assert [rule.name for rule in after.site.rules] == ["rest"]
    assert (site.root / "rules.yaml").read_bytes() == before
