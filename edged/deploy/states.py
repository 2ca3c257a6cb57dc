"""The one table of a deployment's states.

::

    queued -> fetch -> verify -> store -> prepare -> park -> activate -> probe -> commit
           -> committed (the window of good behaviour) -> kept

Invariants:
- Whatever decides where a deployment goes next is in ``TABLE``; it is pure.
- Before ``park`` nothing that serves has been touched, so an error is just ``failed``, and a newer
  target just cancels; from there on both go through ``revert``.
- Who watches a deployment is told its outcome at one of ``ENDS``, and the history has it by then.
  ``committed`` lasts as long as the window of good behaviour: crashes within it still lead to
  ``revert``; after it nothing is undone.
"""

from __future__ import annotations

from edged.deploy.types import Event, State

TABLE: dict[State, dict[Event, State]] = {
    State.QUEUED: {Event.DONE: State.FETCH, Event.OVERTAKEN: State.CANCELLED},
    State.FETCH: {
        Event.DONE: State.VERIFY,
        Event.PRESENT: State.COMMITTED,
        Event.ERROR: State.FAILED,
        Event.OVERTAKEN: State.CANCELLED,
    },
    State.VERIFY: {
        Event.DONE: State.STORE,
        Event.ERROR: State.FAILED,
        Event.OVERTAKEN: State.CANCELLED,
    },
    State.STORE: {
        Event.DONE: State.PREPARE,
        Event.ERROR: State.FAILED,
        Event.OVERTAKEN: State.CANCELLED,
    },
    State.PREPARE: {
        Event.DONE: State.PARK,
        Event.ERROR: State.FAILED,
        Event.OVERTAKEN: State.CANCELLED,
    },
    State.PARK: {
        Event.DONE: State.ACTIVATE,
        Event.ERROR: State.REVERT,
        Event.OVERTAKEN: State.REVERT,
    },
    State.ACTIVATE: {
        Event.DONE: State.PROBE,
        Event.ERROR: State.REVERT,
        Event.OVERTAKEN: State.REVERT,
    },
    State.PROBE: {
        Event.DONE: State.COMMIT,
        Event.ERROR: State.REVERT,
        Event.OVERTAKEN: State.REVERT,
    },
    State.COMMIT: {Event.DONE: State.COMMITTED, Event.ERROR: State.REVERT},
    State.COMMITTED: {Event.DONE: State.KEPT, Event.CRASHES: State.REVERT},
    State.REVERT: {
        Event.DONE: State.REVERTED,
        Event.ERROR: State.REVERTED,
        Event.OVERTAKEN: State.CANCELLED,
    },
}
TERMINAL = frozenset({State.KEPT, State.REVERTED, State.FAILED, State.CANCELLED})
ENDS = frozenset({State.COMMITTED, State.REVERTED, State.FAILED, State.CANCELLED})


def next_state(state: State, event: Event) -> State:
    """Returns where ``event`` leads from ``state``.

    Raises:
        ValueError: the table has no such step.
    """
    try:
        return TABLE[state][event]
    except KeyError as exc:
        raise ValueError(f"no step from {state.value} on {event.value}") from exc
