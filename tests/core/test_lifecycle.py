"""The lifecycle table: complete, without dead ends, and the only way from state to state."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.core.lifecycle import (
    EXPECTED,
    OVER,
    STUCK,
    TABLE,
    UNDER_WAY,
    Refusal,
    State,
    Trigger,
    follow,
    mermaid,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "lifecycle.md"


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_every_trigger_is_followed_or_refused_with_a_sentence(state: State, trigger: Trigger) -> None:
    found = follow(state, trigger)
    if trigger in TABLE[state]:
        assert found is TABLE[state][trigger]
    else:
        assert isinstance(found, Refusal)
        assert str(found).startswith(f"{trigger} means nothing while {state} (which takes ")
        assert all(known in str(found) for known in TABLE[state])


def test_every_state_is_in_the_table_and_every_trigger_used() -> None:
    assert set(TABLE) == set(State)
    assert {trigger for moves in TABLE.values() for trigger in moves} == set(Trigger)


def reachable(start: State) -> set[State]:
    found, todo = {start}, [start]
    while todo:
        new = set(TABLE[todo.pop()].values()) - found
        found |= new
        todo += new
    return found


def test_no_state_is_dead() -> None:
    """From the beginning every state can be reached, and from every state a trip can end."""
    assert reachable(State.DISCOVERED) == set(State)
    for state in State:
        assert reachable(state) & OVER, f"no way out of {state}"


def test_what_may_get_stuck_ends_by_a_deadline_and_says_where_it_hung() -> None:
    assert UNDER_WAY == {state for state in State if Trigger.DEADLINE in TABLE[state]} == set(STUCK)
    assert all(TABLE[state][Trigger.DEADLINE] is State.FAILED for state in UNDER_WAY)
    assert set(EXPECTED) == set(State) - OVER


def test_what_is_over_stays_over_but_for_a_call_that_came_late() -> None:
    assert set(TABLE[State.READY].values()) == {State.READY}
    assert set(TABLE[State.LOCAL].values()) == {State.LOCAL}
    assert TABLE[State.FAILED] == {Trigger.CALL: State.CALLED_BACK}


def test_a_repeated_callback_changes_nothing() -> None:
    for state in (State.CALLED_BACK, State.CUSTOMIZING, State.READY):
        assert follow(state, Trigger.CALL) is state


@given(st.lists(st.sampled_from(Trigger), max_size=40))
def test_whatever_happens_the_state_is_in_the_table(walk: list[Trigger]) -> None:
    state = State.DISCOVERED
    for trigger in walk:
        target = follow(state, trigger)
        if isinstance(target, Refusal):
            assert trigger not in TABLE[state]
            continue
        assert target in TABLE[state].values()
        state = target
    assert state in State


def test_the_documentation_shows_this_table() -> None:
    text = DOCUMENT.read_text()
    diagram = text.partition("```mermaid\n")[2].partition("\n```")[0]
    assert diagram == mermaid(), (
        "run: python -c 'from midwife.core.lifecycle import mermaid; print(mermaid())'"
    )
    for state in State:
        assert f"| `{state}` |" in text, f"{state} is not explained"
