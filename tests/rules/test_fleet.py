"""A whole fleet under one set, and under two: the same answers as rule after rule, machine after machine."""

from hypothesis import given
from hypothesis import strategies as st

from midwife.rules.fleet import Change, Changes, changes, expect, fleet
from midwife.rules.index import RuleIndex
from midwife.rules.match import evaluate
from midwife.site.model import Rule

from .fleets import FLEETS, RULES, Machine, completed, machine, rule


@given(RULES, FLEETS)
def test_it_is_the_walk_for_every_machine(rules: list[Rule], machines: list[Machine]) -> None:
    found = dict(fleet(RuleIndex(rules), machines))
    assert list(found) == [one.name for one in machines]
    for one in machines:
        walked, expected = evaluate(rules, one.attributes), found[one.name]
        items = {kind: said.value for kind, said in walked.items.items()} | dict(one.fixed)
        assert expected.items == items
        for kind, by in expected.by.items():
            assert by == ("" if kind in one.fixed else walked.items[kind].rule)
        open_kinds = {
            kind
            for step, said in zip(walked.trace, rules, strict=True)
            if step.outcome == "unknown"
            for kind in said.items.given()
        } - one.fixed.keys()
        assert set(expected.perhaps or {}) <= open_kinds
        assert set(expected.unknown) <= set(walked.unknown)


@given(RULES, FLEETS, st.data())
def test_whatever_the_unknown_facts_are_the_items_are_possible(
    rules: list[Rule], machines: list[Machine], data: st.DataObject
) -> None:
    index = RuleIndex(rules)
    for one in machines:
        expected = expect(index, one)
        later = evaluate(rules, data.draw(completed(one.attributes))).items
        for kind in ("image", "configuration", "boot"):
            said = later.get(kind)
            value = one.fixed.get(kind, said.value if said else "")
            assert value in expected.possible(kind)


@given(RULES, st.data(), FLEETS)
def test_who_is_not_named_gets_the_same_whatever_the_unknown_facts_are(
    rules: list[Rule], data: st.DataObject, machines: list[Machine]
) -> None:
    other = data.draw(
        st.permutations(rules).map(lambda mixed: mixed[: data.draw(st.integers(0, len(mixed)))])
    )
    found = {one.name: one for one in changes(RuleIndex(rules), RuleIndex(other), machines)}
    for one in machines:
        now, then = evaluate(rules, one.attributes).items, evaluate(other, one.attributes).items
        certain = {
            kind
            for kind in {*now, *then} - one.fixed.keys()
            if (kind in now and now[kind].value) != (kind in then and then[kind].value)
        }
        told = found.get(one.name, Changes(one.name, (), ()))
        assert {change.kind for change in told.items} == certain
        if one.name not in found:
            whole = data.draw(completed(one.attributes))
            before, after = evaluate(rules, whole).items, evaluate(other, whole).items
            for kind in {*before, *after} - one.fixed.keys():
                assert before[kind].value == after[kind].value


def test_a_change_says_who_gives_it_then() -> None:
    old = RuleIndex([rule("all", image="7.0", configuration="base")])
    new = RuleIndex(
        [rule("dells", "vendor=Dell Inc.", image="8.0"), rule("rest", "vendor!=Dell Inc.", image="7.0")]
    )
    dell, own = machine("dell", vendor="Dell Inc."), machine("own", {"image": "6.7"}, vendor="Dell Inc.")
    assert changes(old, new, [dell, own]) == (
        Changes(
            "dell", (Change("image", "7.0", "8.0", "dells"), Change("configuration", "base", "", "")), ()
        ),
        Changes("own", (Change("configuration", "base", "", ""),), ()),
    )


def test_a_rule_that_takes_the_place_of_another_with_the_same_unknown_fact_may_change_something() -> None:
    """The attributes that are missing are the same in both sets; what hangs on them is not."""
    old = RuleIndex([rule("one", "serial=S1", image="7.0"), rule("all", image="8.0")])
    new = RuleIndex([rule("copy", "serial=S1", image="9.0"), rule("all", image="8.0")])
    fresh, known = machine("fresh", vendor="HPE"), machine("known", serial="S2")
    fixed = machine("fixed", {"image": "6.7"})
    assert changes(old, new, [fresh, known, fixed]) == (Changes("fresh", (), ("serial",)),)
