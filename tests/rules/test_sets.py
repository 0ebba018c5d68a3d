"""Working set and active set: what each of Auto Deploy's operations does to them, and what it never does."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.rules.sets import RuleSets, SetChanges, SetError


@dataclass(frozen=True)
class Items:
    kinds: tuple[str, ...] = ()

    def given(self) -> dict[str, str]:
        return dict.fromkeys(self.kinds, "x")


@dataclass(frozen=True)
class Rule:
    name: str
    patterns: tuple[str, ...] = ()
    items: Items = field(default_factory=Items)


def rules(*names: str) -> tuple[Rule, ...]:
    return tuple(map(Rule, names))


ALL = RuleSets.all_of(rules("a", "b", "c"))
STAGED = RuleSets(rules("a", "b", "c", "d"), ("a", "b"), ("b", "c"))


def test_a_new_rule_is_in_no_set() -> None:
    after = ALL.create(Rule("d"))
    assert [rule.name for rule in after.every] == ["a", "b", "c", "d"]
    assert (after.active, after.working) == (("a", "b", "c"), ("a", "b", "c"))
    assert after.sets_of("d") == ()
    assert not after.pending


@pytest.mark.parametrize(
    ("at", "order"),
    [
        (None, ("a", "b", "c", "d")),
        (0, ("d", "a", "b", "c")),
        (2, ("a", "b", "d", "c")),
        (3, ("a", "b", "c", "d")),
    ],
)
def test_a_new_rule_in_the_working_set_stands_in_the_file_where_it_stands_in_the_order(
    at: int | None, order: tuple[str, ...]
) -> None:
    after = ALL.create(Rule("d"), working=True, at=at)
    assert after.working == order
    assert after.active == ("a", "b", "c")
    assert after.pending
    assert after.activate() == RuleSets.all_of(rules(*order)), "so that a file without sets can stay without"


def test_activation_copies_the_whole_working_set() -> None:
    after = STAGED.activate()
    assert after.rules("active") == after.rules("working") == rules("b", "c")
    assert after.every == STAGED.every


def test_a_rule_in_a_set_cannot_be_changed_in_place() -> None:
    with pytest.raises(
        SetError, match="'b' is in the active and the working set and cannot be changed in place"
    ):
        STAGED.change("b", Rule("b", ("vendor=x",)))
    with pytest.raises(SetError, match="'c' is in the working set"):
        STAGED.change("c", Rule("c", ("vendor=x",)))
    assert STAGED.change("d", Rule("e", ("vendor=x",))).every[3] == Rule("e", ("vendor=x",))


def test_a_copy_takes_the_place_of_the_original_in_the_working_set_only() -> None:
    after = STAGED.copy("b", Rule("b2"))
    assert (after.active, after.working) == (("a", "b"), ("b2", "c"))
    assert [rule.name for rule in after.every] == ["a", "b", "b2", "c", "d"], "beside the original"
    assert STAGED.copy("b", Rule("b2"), take_place=False).working == ("b", "c")
    assert STAGED.copy("a", Rule("a2")).working == ("b", "c"), "a is not in the working set"


def test_added_at_an_index_or_at_the_end() -> None:
    assert STAGED.add(["d", "a"]).working == ("b", "c", "d", "a")
    assert STAGED.add(["d", "a"], 1).working == ("b", "d", "a", "c")
    assert STAGED.add(["c"], 0).working == ("c", "b"), "one that is there moves"
    with pytest.raises(SetError, match="'b' is in the working set already, at index 0; --at moves it"):
        STAGED.add(["b"])
    with pytest.raises(SetError, match="--at 3: the working set has the indexes 0 to 1; the end is 2"):
        STAGED.add(["d"], 3)
    with pytest.raises(SetError, match="'d' is named twice"):
        STAGED.add(["d", "D"])


def test_removed_from_the_working_set_only() -> None:
    after = STAGED.remove(["b"])
    assert (after.active, after.working, len(after.every)) == (("a", "b"), ("c",), 4)
    with pytest.raises(SetError, match="'a' is not in the working set"):
        STAGED.remove(["a"])
    assert STAGED.at(1) == "c"
    with pytest.raises(SetError, match="no index 2; it has the indexes 0 to 1"):
        STAGED.at(2)


def test_an_order_names_every_rule_of_the_set() -> None:
    assert STAGED.order(["c", "d", "b"]).working == ("c", "d", "b")
    with pytest.raises(SetError, match="leaves out 'b'"):
        STAGED.order(["c"])


def test_only_a_rule_in_no_set_is_forgotten_unless_it_is_meant() -> None:
    assert [rule.name for rule in STAGED.delete(["d"]).every] == ["a", "b", "c"]
    with pytest.raises(SetError, match="'a' is in the active set; take it out first"):
        STAGED.delete(["d", "a"])
    after = STAGED.delete(["b"], from_sets=True)
    assert (after.active, after.working) == (("a",), ("c",))


def test_names_are_found_in_any_case_and_near_ones_are_named() -> None:
    named = RuleSets.all_of(rules("Old servers", "x"))
    assert named.find("old SERVERS").name == "Old servers"
    with pytest.raises(SetError, match=r"there is no rule 'old server'; did you mean 'Old servers'\?"):
        named.find("old server")
    with pytest.raises(SetError, match="there is 'Old servers', 'x'"):
        named.find("zzz")
    with pytest.raises(SetError, match="there is none"):
        RuleSets.all_of(rules()).find("zzz")
    with pytest.raises(SetError, match="there is a rule 'Old servers' already"):
        named.create(Rule("OLD servers"))


def test_changes_between_the_sets() -> None:
    assert STAGED.changes == SetChanges((("c", 1),), (("a", 0),), ())
    moved = RuleSets(rules(*"abcd"), tuple("abcd"), tuple("bcda"))
    assert moved.changes == SetChanges(moved=(("a", 0, 3),)), "one rule went to the end; three stayed"
    assert not ALL.changes


_NAMES = st.sampled_from("abcdef")
_LISTS = st.lists(_NAMES, min_size=1, max_size=4)
_AT = st.none() | st.integers(0, 6)
_STEPS = st.one_of(
    st.tuples(st.just("create"), _NAMES, st.booleans(), _AT),
    st.tuples(st.just("copy"), _NAMES, _NAMES, st.booleans()),
    st.tuples(st.just("change"), _NAMES, _NAMES),
    st.tuples(st.just("add"), _LISTS, _AT),
    st.tuples(st.just("remove"), _LISTS),
    st.tuples(st.just("order"), st.permutations("abcdef").map(lambda names: names[:4])),
    st.tuples(st.just("delete"), _LISTS, st.booleans()),
    st.tuples(st.just("activate")),
)


def done(sets: RuleSets[Rule], step: tuple[object, ...]) -> RuleSets[Rule]:
    match step:
        case ("create", str(name), bool(working), at):
            return sets.create(Rule(name), working=working, at=at)  # type: ignore[arg-type]
        case ("copy", str(old), str(new), bool(take)):
            return sets.copy(old, Rule(new), take_place=take)
        case ("change", str(old), str(new)):
            return sets.change(old, Rule(new, ("vendor=new",)))
        case ("delete", list(names), bool(from_sets)):
            return sets.delete(names, from_sets=from_sets)
        case (str(name), *rest):
            return getattr(sets, name)(*rest)  # type: ignore[no-any-return]
    raise AssertionError(step)


@given(st.lists(_STEPS, max_size=25))
def test_whatever_is_done_the_sets_hold_rules_that_exist_once_and_only_activation_activates(
    steps: list[tuple[object, ...]],
) -> None:
    sets = ALL
    for step in steps:
        try:
            after = done(sets, step)
        except SetError:
            continue
        names = [rule.name for rule in after.every]
        assert len(set(names)) == len(names)
        for which in (after.active, after.working):
            assert len(set(which)) == len(which)
            assert set(which) <= set(names)
        if step[0] == "activate":
            assert after.active == sets.working
        elif step[0] == "delete":
            assert after.active == tuple(name for name in sets.active if name in names)
        else:
            assert after.rules("active") == sets.rules("active")
        assert bool(after.changes) == after.pending
        sets = after
