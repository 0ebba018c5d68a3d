"""A rule for a machine that nobody has a rule for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.rules.match import evaluate
from midwife.rules.suggest import Suggestion, likely_image, place, suggest
from midwife.site.model import Items, Rule

from .fleets import FLEETS, RULES, Machine, machine, rule

DL = {"vendor": "HPE", "model": "ProLiant DL360 Gen10"}
NEW = machine("02:00:00:00:00:01", mac="02:00:00:00:00:01", serial="S1", **DL)
TWIN = machine("02:00:00:00:00:02", mac="02:00:00:00:00:02", serial="S2", **DL)
SERVED = machine("esx-01", mac="02:00:00:00:00:03", serial="S3", **DL)


def test_several_of_a_model_wait() -> None:
    assert suggest(NEW, [NEW, TWIN], [], []) == Suggestion(
        "HPE ProLiant DL360 Gen10", ("vendor=HPE", "model=ProLiant DL360 Gen10"), (TWIN.name,)
    )


def test_the_only_one_of_its_model() -> None:
    assert suggest(NEW, [NEW], [], []) == Suggestion("host 02:00:00:00:00:01", ("mac=02:00:00:00:00:01",), ())


def test_a_rule_for_the_model_would_take_hosts_that_have_something() -> None:
    found = suggest(NEW, [NEW, TWIN], [SERVED], [])
    assert found is not None
    assert found.patterns == ("mac=02:00:00:00:00:01",)


def test_two_machines_boot_from_the_same_network_adapter() -> None:
    docked = machine("laptop", mac="02:00:00:00:00:01", serial="S9")
    found = suggest(NEW, [NEW, docked], [], [])
    assert found == Suggestion("host 02:00:00:00:00:01", ("serial=S1",), ())


def test_nothing_tells_two_machines_apart() -> None:
    twin = machine("twin", mac="02:00:00:00:00:01")
    first = machine("first", mac="02:00:00:00:00:01")
    assert suggest(first, [first, twin], [], []) == Suggestion(
        "host first", ("mac=02:00:00:00:00:01",), ("twin",)
    )


@pytest.mark.parametrize("serial", ["To be filled by O.E.M.", "0", "Default string", "\x1b[2J"])
def test_a_dummy_identifies_nothing(serial: str) -> None:
    assert suggest(machine("a", serial=serial), [], [], []) is None
    assert suggest(machine("a"), [], [], []) is None


def test_values_with_commas_and_stars_mean_themselves() -> None:
    odd = {"vendor": "Micro, Inc.", "model": "X*? 1"}
    one, two = machine("a", **odd), machine("b", **odd)
    found = suggest(one, [one, two], [], [])
    assert found is not None
    assert found.patterns == ("vendor==Micro, Inc.", "model==X*? 1")
    assert evaluate([rule("r", *found.patterns, image="x")], two.attributes).items
    assert not evaluate(
        [rule("r", *found.patterns, image="x")], {"vendor": ("Micro",), "model": ("XY1 1",)}
    ).items


def test_a_name_that_is_free_and_not_hidden() -> None:
    one, two = machine("a", vendor="..hidden", model="m"), machine("b", vendor="..hidden", model="m")
    found = suggest(one, [one, two], [], ["HIDDEN M", "hidden m 2"])
    assert found is not None
    assert found.name == "hidden m 3"


def test_the_image_of_its_like_counts_before_that_of_most() -> None:
    others = [SERVED, machine("b", vendor="Acme"), machine("c", vendor="Acme")]
    images = {"esx-01": "8.0", "b": "7.0", "c": "7.0"}
    assert likely_image(NEW, images, others) == ("8.0", "machines of this model get it")
    assert likely_image(NEW, images, others[1:]) == ("7.0", "most machines get it")
    assert likely_image(NEW, {}, others) == ("", "")
    assert likely_image(NEW, {NEW.name: "8.0"}, [NEW]) == ("", "")


def test_where_it_counts() -> None:
    rules = [
        rule("dells", "vendor=Dell Inc.", image="7.0"),
        rule("steps", configuration="base"),
        rule("asset", "asset=A1", image="7.0"),
        rule("rest", image="8.0"),
    ]
    assert place(NEW, rules, {"image"}) == 2, "before one that may match"
    assert place(NEW, rules, {"configuration"}) == 1
    assert place(NEW, rules[:2], {"image"}) == 2
    assert place(NEW, rules, {"location"}) == 4


@given(FLEETS, RULES, st.integers(0, 5))
def test_at_its_place_the_machine_gets_what_it_gives_and_no_other_is_touched(
    machines: list[Machine], rules: list[Rule], at: int
) -> None:
    mine = machines[at % len(machines)]
    found = suggest(mine, machines[::2], machines[1::2], [one.name for one in rules])
    if found is None:
        return
    new = Rule(name=found.name, patterns=found.patterns, items=Items(image="new"))
    index = place(mine, rules, {"image"})
    after = [*rules[:index], new, *rules[index:]]
    assert evaluate(after, mine.attributes).items["image"].value == "new"
    for other in machines:
        if other.name != mine.name and other.name not in found.alike:
            assert evaluate(after, other.attributes).items == evaluate(rules, other.attributes).items
