"""Killed in any state, daemon or worker: the old model or the new one serves, and all goes on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from edged.deploy.states import ENDS
from edged.deploy.types import State
from edged.errors import RequestError
from tests.e2e.aftermath import assert_clean, ends, workers
from tests.e2e.callers import calling
from tests.e2e.device import Device
from tests.fakes import images

STATES = [state.value for state in State if state not in (ENDS - {State.COMMITTED}) | {State.KEPT}]
# What the daemon kills itself at, and what it kills else: see tests/fakes/daemon.py.
DAEMON, CANDIDATE, SERVING = "daemon", "candidate", "serving"
OFTEN = ("fetch", "park", "commit")  # the other states are for --long


def tiers(states: Sequence[str]) -> list[Any]:
    return [
        state if state in OFTEN else pytest.param(state, marks=pytest.mark.long) for state in states
    ]


@pytest.fixture
def serving(device: Device) -> Device:
    device.start()
    assert device.deploy(images.write(device.folder / "old", "old"))[-1].state == "committed"
    device.stop()
    return device


def swap(device: Device, state: str) -> list[str]:
    """Deploys the new model, or one that has to be reverted; returns the last state told."""
    behaviour = {"probe": "fail"} if state == "revert" else {}
    reference = images.write(device.folder / "new", "new", behaviour=behaviour)
    told: list[str] = []
    with contextlib.suppress(RequestError):
        told += [event.state for event in device.deploy(reference)]
    return told


@pytest.mark.parametrize("state", tiers(STATES))
def test_the_daemon_is_killed(serving: Device, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_TEST_KILL", f"{state} {DAEMON}")
    serving.start()
    thread = threading.Thread(target=swap, args=(serving, state))
    thread.start()
    assert serving.wait() == -signal.SIGKILL
    thread.join(60)
    assert all(ends(int(worker.name)) for worker in workers(serving)), "none outlives its daemon"
    monkeypatch.delenv("EDGED_TEST_KILL")
    serving.start()
    answer = serving.predict(b"x")
    assert answer in (b"old:x", b"new:x")
    if state in ("commit", "committed") and answer == b"old:x":
        assert state == "commit"
    # The next deployment works, also while the one before is taken up again.
    events = serving.deploy(images.write(serving.folder / "next", "next"))
    assert events[-1].state == "committed", events[-1].error
    assert serving.predict(b"x") == b"next:x"
    assert_clean(serving)


@pytest.mark.parametrize("who", [CANDIDATE, SERVING])
@pytest.mark.parametrize(
    "state", tiers(["fetch", "store", "prepare", *STATES[STATES.index("park") :]])
)
def test_a_worker_is_killed(
    serving: Device, state: str, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers with deadlines of 10 s see at most the one request that was running then fail."""
    monkeypatch.setenv("EDGED_TEST_KILL", f"{state} {who}")
    serving.start()
    with calling(serving) as callers:
        callers.wait_for(b"old:x")
        swap(serving, state)
        monkeypatch.delenv("EDGED_TEST_KILL")
        serves = serving.status().model.name.encode()
        assert serves in (b"old", b"new")
        callers.wait_for(serves + b":x")
    # The callers all send the same, so others may hear of the one that was running.
    assert all("run again" in str(error) for error in callers.errors), callers.errors
    assert sum("while it ran" in str(error) for error in callers.errors) <= 1, callers.errors
    assert callers.bodies <= {b"old:x", b"new:x"}
    assert serving.quarantine() == [] or state == "revert", "who kills is the host"
    events = serving.deploy(images.write(serving.folder / "next", "next"))
    assert events[-1].state == "committed", events[-1].error
    assert serving.predict(b"x") == b"next:x"
    assert_clean(serving)
