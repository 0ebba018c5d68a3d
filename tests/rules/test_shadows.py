"""Rules that never have an effect: found without comparing every rule with every other one, and never wrongly."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.rules import shadows as rule_shadows
from midwife.rules.match import evaluate
from midwife.rules.patterns import Pattern, implies, parse_pattern
from midwife.rules.shadows import Shadow, shadows
from midwife.site.model import Rule


def rule(name: str, patterns: str | list[str], **items: str) -> Rule:
    return Rule.model_validate({"name": name, "patterns": patterns, "items": items})


DELLS = rule("dells", ["vendor=Dell Inc."], image="8.0U3-dell")
BASE = rule("base", "all", configuration="base", boot="install")
REST = rule("rest", "all", image="8.0U3")


def test_rules_that_can_never_give_anything_are_found() -> None:
    r730 = rule("r730", ["vendor=Dell Inc.", "model=PowerEdge R730"], image="x")
    assert shadows([DELLS, BASE, REST]) == ()
    assert shadows([REST, DELLS]) == (Shadow(1, ("rest",)),)
    assert shadows([DELLS, r730]) == (Shadow(1, ("dells",)),)
    assert shadows([r730, DELLS]) == ()
    # One item of two is still its own.
    assert shadows([REST, rule("both", "all", image="x", configuration="y")]) == ()
    assert shadows([REST, BASE, rule("both", "all", image="x", configuration="y")]) == (
        Shadow(2, ("rest", "base")),
    )


def test_a_shadowed_rule_changes_nothing_for_these_machines() -> None:
    rules = [DELLS, rule("r730", ["vendor=Dell Inc.", "model=PowerEdge R730"], image="x"), REST]
    dead = {shadow.index for shadow in shadows(rules)}
    assert dead == {1}
    alive = [kept for number, kept in enumerate(rules) if number not in dead]
    for machine in ({}, {"vendor": ("Dell Inc.",)}, {"vendor": ("HPE",)}):
        assert evaluate(rules, machine).items == evaluate(alive, machine).items


_PATTERNS = st.sampled_from(
    ["vendor=HPE", "vendor=HPE,Dell Inc.", "vendor=Dell*", "vendor=Dell Inc*", "vendor!=HPE", "vendor!=HPE,Acme",
     "model=R1", "model=R1,R2", "model=R*", "model==R1,R2", "ipv4=192.0.2.1", "ipv4=192.0.2.1-192.0.2.1",
     "ipv4=192.0.2.0/29", "ipv4=192.0.2.1-192.0.2.9,198.51.100.1", "ipv4=198.51.100.1", "ipv4!=192.0.2.1",
     "ipv6=2001:db8::1", "ipv6=2001:DB8:0::1-2001:db8::1", "label.rack=r1", "label.rack!=r1",
     "mac!=52:54:00:00:00:01", "oemstring=a",
     "uuid=4c4c4544-0035-5210-8050-b4c04f4d3233", "uuid=44454c4c-3500-1052-8050-b4c04f4d3233"]
)  # fmt: skip
_ITEMS = st.dictionaries(st.sampled_from(["image", "configuration"]), st.just("x"))
_RULES = st.lists(st.tuples(st.lists(_PATTERNS, max_size=3), _ITEMS), max_size=14).map(
    lambda parts: [rule(f"r{n}", patterns or "all", **items) for n, (patterns, items) in enumerate(parts)]
)


def reference(rules: Sequence[Rule]) -> tuple[Shadow, ...]:
    """Every rule with every earlier one, for each of its items."""
    found = []
    parsed = [[parse_pattern(text) for text in one.patterns] for one in rules]
    for index, one in enumerate(rules):
        takers = []
        for kind in one.items.given():
            for number, earlier in enumerate(rules[:index]):
                wider = all(any(implies(n, wide) for n in parsed[index]) for wide in parsed[number])
                if kind in earlier.items.given() and wider:
                    takers.append(earlier.name)
                    break
        if takers and len(takers) == len(one.items.given()):
            found.append(Shadow(index, tuple(dict.fromkeys(takers))))
    return tuple(found)


@settings(max_examples=300)
@given(_RULES)
def test_the_same_as_comparing_every_rule_with_every_earlier_one(rules: list[Rule]) -> None:
    assert shadows(rules) == reference(rules)


_MACHINES = st.fixed_dictionaries(
    {
        "vendor": st.sampled_from([("HPE",), ("dell inc.",), ("Acme",)]),
        "model": st.sampled_from([("R1",), ("R2",), ("R1,R2",), ("x",)]),
        "ipv4": st.sampled_from([("192.0.2.1",), ("192.0.2.7",), ("198.51.100.1",)]),
        "ipv6": st.sampled_from([("2001:db8::1",), ("2001:db8::2",)]),
        "mac": st.sampled_from([("52:54:00:00:00:01",), ("52:54:00:00:00:02",)]),
        "oemstring": st.lists(st.sampled_from("ab"), min_size=1, max_size=2).map(tuple),
        "uuid": st.just(("4c4c4544-0035-5210-8050-b4c04f4d3233",)),
    },
    optional={"label.rack": st.sampled_from([("r1",), ("r2",)])},
)


@settings(max_examples=300)
@given(_RULES, _MACHINES)
def test_without_them_every_machine_gets_the_same(
    rules: list[Rule], machine: dict[str, tuple[str, ...]]
) -> None:
    dead = {shadow.index for shadow in shadows(rules)}
    alive = [one for number, one in enumerate(rules) if number not in dead]
    assert evaluate(rules, machine).items == evaluate(alive, machine).items


def test_few_rules_are_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 rules of one machine each: the work grows with the rules, not with their square."""
    compared = []

    def counted(narrow: Pattern, wide: Pattern) -> bool:
        compared.append(wide)
        return implies(narrow, wide)

    monkeypatch.setattr(rule_shadows, "implies", counted)
    many = [rule(f"r{n}", ["vendor=HPE", f"serial=AB{n:04}"], image="x") for n in range(1000)]
    assert shadows([*many, rule("again", ["serial=AB0007", "vendor=HPE"], image="x")]) == (
        Shadow(1000, ("r7",)),
    )
    assert len(compared) < 5_000
