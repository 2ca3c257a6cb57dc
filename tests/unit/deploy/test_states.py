"""The table of a deployment's states is whole, and says what the design says."""

from __future__ import annotations

import pytest

from edged.deploy.states import ENDS, TABLE, TERMINAL, next_state
from edged.deploy.types import Event, State


def test_every_state_is_reached_and_leads_to_an_end() -> None:
    reached = {State.QUEUED} | {to for row in TABLE.values() for to in row.values()}
    assert reached == set(State)
    assert set(TABLE) == set(State) - TERMINAL
    for state in TABLE:
        ends, open_states = set(), {state}
        for _ in State:
            open_states = {to for s in open_states for to in TABLE.get(s, {}).values()}
            ends |= open_states & TERMINAL
        assert ends
        assert not open_states, "no state leads back to itself"


WITHOUT_ERRORS = (State.QUEUED, State.COMMITTED)


@pytest.mark.parametrize("state", [s for s in State if s in TABLE and s not in WITHOUT_ERRORS])
def test_an_error_fails_before_the_npu_is_touched_and_reverts_after(state: State) -> None:
    touched = (State.PARK, State.ACTIVATE, State.PROBE, State.COMMIT)
    expected = State.REVERT if state in touched else State.FAILED
    if state is State.REVERT:
        expected = State.REVERTED
    assert next_state(state, Event.ERROR) is expected


def test_the_way_to_service_is_the_designs() -> None:
    way = [State.QUEUED]
    while way[-1] not in TERMINAL:
        way.append(next_state(way[-1], Event.DONE))
    assert [state.value for state in way] == [
        *("queued", "fetch", "verify", "store", "prepare", "park", "activate", "probe", "commit"),
        *("committed", "kept"),
    ]


def test_a_newer_target_cancels_until_the_commit_and_not_from_there_on() -> None:
    reverted = (State.PARK, State.ACTIVATE, State.PROBE)
    for state in TABLE:
        if state in (State.COMMIT, State.COMMITTED):
            assert Event.OVERTAKEN not in TABLE[state]
        else:
            expected = State.REVERT if state in reverted else State.CANCELLED
            assert next_state(state, Event.OVERTAKEN) is expected


def test_crashes_revert_within_the_window_and_never_else() -> None:
    assert [s for s in TABLE if Event.CRASHES in TABLE[s]] == [State.COMMITTED]
    assert next_state(State.COMMITTED, Event.CRASHES) is State.REVERT
    assert next_state(State.REVERT, Event.DONE) is State.REVERTED


def test_whoever_watches_is_told_of_every_end_but_the_windows() -> None:
    assert (TERMINAL | {State.COMMITTED}) - {State.KEPT} == ENDS


def test_a_step_that_is_not_in_the_table_is_an_error() -> None:
    for state in State:
        for event in Event:
            if event not in TABLE.get(state, {}):
                with pytest.raises(ValueError, match="no step"):
                    next_state(state, event)
