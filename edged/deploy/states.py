"""The one table of a deployment's states.

Invariants:
- Whatever decides where a deployment goes next is in ``TABLE``; it is pure.
- Before ``park`` nothing that serves has been touched, so an error is just ``failed``; from there
  on it goes through ``revert``.
- After ``commit`` nothing is undone.
"""

from __future__ import annotations

from edged.deploy.types import Event, State

TABLE: dict[State, dict[Event, State]] = {
    State.QUEUED: {Event.DONE: State.FETCH},
    State.FETCH: {
        Event.DONE: State.VERIFY,
        Event.PRESENT: State.COMMITTED,
        Event.ERROR: State.FAILED,
    },
    State.VERIFY: {Event.DONE: State.STORE, Event.ERROR: State.FAILED},
    State.STORE: {Event.DONE: State.PREPARE, Event.ERROR: State.FAILED},
    State.PREPARE: {Event.DONE: State.PARK, Event.ERROR: State.FAILED},
    State.PARK: {Event.DONE: State.ACTIVATE, Event.ERROR: State.REVERT},
    State.ACTIVATE: {Event.DONE: State.PROBE, Event.ERROR: State.REVERT},
    State.PROBE: {Event.DONE: State.COMMIT, Event.ERROR: State.REVERT},
    State.COMMIT: {Event.DONE: State.COMMITTED, Event.ERROR: State.REVERT},
    State.REVERT: {Event.DONE: State.REVERTED, Event.ERROR: State.REVERTED},
}
TERMINAL = frozenset({State.COMMITTED, State.REVERTED, State.FAILED})


def next_state(state: State, event: Event) -> State:
    """Returns where ``event`` leads from ``state``.

    Raises:
        ValueError: the table has no such step.
    """
    try:
        return TABLE[state][event]
    except KeyError as exc:
        raise ValueError(f"no step from {state.value} on {event.value}") from exc
