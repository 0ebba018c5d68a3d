"""Rules without machines, machines without rules."""

from hypothesis import given

from midwife.rules.coverage import Unmatched, coverage
from midwife.rules.match import evaluate
from midwife.site.model import Rule

from .fleets import FLEETS, RULES, Machine, machine, rule


def test_every_rule_and_every_machine_has_its_own() -> None:
    rules = [rule("dells", "vendor=Dell Inc.", image="8.0"), rule("others", "vendor!=Dell Inc.", image="7.0")]
    found = coverage(rules, [machine("a", vendor="Dell Inc."), machine("b", vendor="HPE")])
    assert found.complete
    assert (found.never_matching, found.unsure, found.unmatched, found.shadowed) == ((), (), (), ())


def test_gaps() -> None:
    rules = [
        rule("wide", "vendor=Dell Inc.,HPE", image="8.0"),
        rule("narrow", "vendor=HPE", image="7.0"),
        rule("spare", "vendor=Acme", image="7.0"),
        rule("one", "serial=S1", image="7.0"),
        rule("racked", "label.rack=r1", configuration="base"),
    ]
    machines = [
        machine("known", vendor="HPE", serial="S0"),
        machine("no-serial", vendor="Lenovo", serial=""),
        machine("fresh", vendor="Lenovo"),
        machine("file", {"image": "6.7"}, vendor="Lenovo", serial="S2"),
        machine("disk", {"boot": "local"}, vendor="Lenovo", serial="S3"),
        machine("bare", vendor="Lenovo", serial="S4", label__rack="r1"),
    ]
    found = coverage(rules, machines)
    assert not found.complete
    assert found.never_matching == ("spare",)
    assert found.unsure == ("one",)
    assert found.unmatched == (
        Unmatched("no-serial", matched=False, boots=False, unknown=()),
        Unmatched("fresh", matched=False, boots=False, unknown=("serial",)),
        Unmatched("file", matched=False, boots=True, unknown=()),
        Unmatched("disk", matched=False, boots=True, unknown=()),
        Unmatched("bare", matched=True, boots=False, unknown=()),
    )
    assert [(shadow.index, shadow.by) for shadow in found.shadowed] == [(1, ("wide",))]


def test_a_rule_that_no_machine_gets_anything_from_still_matches_it() -> None:
    """The earlier rule takes the only machine there is now; nothing proves that it always will."""
    rules = [rule("r1", "label.rack=r1", image="8.0"), rule("dells", "vendor=Dell Inc.", image="7.0")]
    found = coverage(rules, [machine("a", vendor="Dell Inc.", label__rack="r1")])
    assert found.complete


def test_a_machine_whose_own_file_says_everything_is_no_gap() -> None:
    found = coverage([], [machine("a", {"image": "8.0"})])
    assert found.complete
    assert [one.name for one in found.unmatched] == ["a"]


@given(RULES, FLEETS)
def test_it_is_what_the_walk_says(rules: list[Rule], machines: list[Machine]) -> None:
    said = [[step.outcome for step in evaluate(rules, one.attributes).trace] for one in machines]
    found = coverage(rules, machines)
    for number, name in enumerate(one.name for one in rules):
        outcomes = {row[number] for row in said}
        assert (name in found.never_matching) == (outcomes <= {"no match"})
        assert (name in found.unsure) == ("unknown" in outcomes and "match" not in outcomes)
    unmatched = {one.name for one in found.unmatched if not one.matched}
    assert unmatched == {one.name for one, row in zip(machines, said, strict=True) if "match" not in row}
