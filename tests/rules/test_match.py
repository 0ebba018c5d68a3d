"""A rule list against machines: first match per item type, types add up, missing facts are named."""

from midwife.core.facts import Facts
from midwife.rules.match import Given, Outcome, Step, evaluate
from midwife.site.model import Rule

DELL = Facts(macs=("52:54:00:12:34:56",), vendor="Dell Inc.", model="PowerEdge R730").attributes()
HPE = Facts(macs=("52:54:00:aa:bb:cc",), vendor="HPE").attributes()
STRANGER = Facts(macs=("52:54:00:99:99:99",)).attributes()


def rule(name: str, patterns: str | list[str], **items: str) -> Rule:
    return Rule.model_validate({"name": name, "patterns": patterns, "items": items})


DELLS = rule("dells", ["vendor=Dell Inc."], image="8.0U3-dell")
BASE = rule("base", "all", configuration="base", boot="install")
REST = rule("rest", "all", image="8.0U3")


def test_rules_with_different_items_add_up_and_the_first_of_a_type_wins() -> None:
    matched = evaluate([DELLS, BASE, REST], DELL)
    assert matched.items == {
        "image": Given("8.0U3-dell", "dells"),
        "configuration": Given("base", "base"),
        "boot": Given("install", "base"),
    }
    assert matched.unknown == ()
    assert matched.trace == (
        Step("dells", Outcome.MATCH, "its vendor Dell Inc. matches vendor=Dell Inc.", ("image",)),
        Step("base", Outcome.MATCH, "it is for every host", ("configuration", "boot")),
        Step("rest", Outcome.MATCH, "it is for every host; gives nothing that an earlier rule has not given"),
    )


def test_order_is_priority() -> None:
    assert evaluate([REST, DELLS], DELL).items["image"] == Given("8.0U3", "rest")


def test_a_rule_that_does_not_match_gives_nothing_and_says_why() -> None:
    matched = evaluate([DELLS, REST], HPE)
    assert matched.items["image"].rule == "rest"
    assert matched.trace[0] == Step("dells", Outcome.NO_MATCH, "its vendor is HPE, not Dell Inc.")


def test_all_patterns_of_a_rule_must_match() -> None:
    both = rule("r730", ["vendor=Dell Inc.", "model=PowerEdge R730"], image="x")
    other = rule("r640", ["vendor=Dell Inc.", "model=PowerEdge R640"], image="x")
    assert "image" in evaluate([both], DELL).items
    assert "image" not in evaluate([other], DELL).items


def test_a_missing_fact_leaves_the_rule_undecided_and_is_named() -> None:
    matched = evaluate([DELLS, REST], STRANGER)
    assert matched.items["image"].rule == "rest"
    assert matched.trace[0].outcome is Outcome.UNKNOWN
    assert matched.unknown == ("vendor",)


def test_a_missing_fact_that_can_change_nothing_is_not_asked_for() -> None:
    # >> REST above has decided the image already; << whatever the vendor is, the answer stays
    assert evaluate([REST, DELLS], STRANGER).unknown == ()


def test_a_pattern_that_fails_outweighs_one_that_cannot_be_tested() -> None:
    two = rule("two", ["vendor=Dell Inc.", "domain=lab.example"], image="x")
    matched = evaluate([two], HPE)
    assert matched.trace[0].outcome is Outcome.NO_MATCH
    assert matched.unknown == ()


def test_no_rules_no_items() -> None:
    matched = evaluate([], DELL)
    assert (matched.items, matched.trace, matched.unknown) == ({}, (), ())
