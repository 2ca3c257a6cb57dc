"""Deployments go from state to state, one at a time; if one goes wrong, the old model serves on."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from edged.deploy.admission import Trust
from edged.deploy.deployment import Deployment
from edged.deploy.device import Npu as Device
from edged.deploy.reconciler import Reconciler
from edged.deploy.records import Records
from edged.deploy.store import Store
from edged.deploy.types import Fault, Limits, Options, Progress, Slot, State
from edged.errors import DeviceError, ModelError, RequestError, StoreError
from tests.fakes import images
from tests.fakes.npu import Npu


@dataclasses.dataclass
class World:
    """A reconciler at work."""

    npu: Npu
    store: Store
    records: Records
    reconciler: Reconciler[str]
    task: asyncio.Task[None]

    async def outcome(self, reference: str) -> Progress:
        return (await watched(self.reconciler.deploy(reference)))[-1]


async def watched(deployment: Deployment) -> list[Progress]:
    return [progress async for progress in deployment.watch()]


def at_work(
    folder: Path,
    test: Callable[[World], Coroutine[Any, Any, None]],
    limits: Limits | None = None,
) -> None:
    """Runs a test with a reconciler over the store in a folder."""

    async def run() -> None:
        npu, store = Npu(), Store(folder)
        npu.serving = store.current
        records = Records(folder, Device.named(), Trust(None))
        reconciler: Reconciler[str] = Reconciler(npu, store, records, limits)
        loop = asyncio.get_running_loop()
        begun = loop.create_task(asyncio.sleep(0))
        world = World(npu, store, records, reconciler, loop.create_task(reconciler.run(begun)))
        await test(world)
        world.task.cancel()
        await asyncio.wait([world.task])

    asyncio.run(run())


@pytest.fixture
def image(tmp_path: Path) -> str:
    return images.write(tmp_path / "image")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def test_the_pointer_moves_before_requests_reach_the_new_model(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        moved: list[bool] = []

        async def commit(candidate: str, slot: Slot) -> None:
            moved.append((state / "current.json").exists())

        world.npu.commit = commit  # type: ignore[method-assign]
        progress = await world.outcome(image)
        assert progress.state is State.COMMITTED
        assert moved == [True]
        assert world.npu.asked == ["prepare", "park", "activate", "probe"]
        assert world.store.current is not None
        assert world.store.current.digest == progress.digest
        assert world.store.current.deployed_unix_us > 0

    at_work(state, test)


@pytest.mark.parametrize("step", ["park", "activate", "probe"])
def test_an_error_on_the_npu_reverts_and_leaves_the_pointer(
    state: Path, image: str, step: str
) -> None:
    async def test(world: World) -> None:
        world.npu.fails[step] = DeviceError("cannot do it")
        progress = await world.outcome(image)
        assert (progress.state, progress.error) == (State.REVERTED, "cannot do it")
        assert world.npu.asked[-2:] == [step, "revert"]
        assert world.store.current is None
        assert world.reconciler.reverts == 1

    at_work(state, test)


def test_a_model_that_does_not_load_touches_nothing(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        world.npu.fails["prepare"] = ModelError("cannot load it")
        progress = await world.outcome(image)
        assert (progress.state, progress.error) == (State.FAILED, "cannot load it")
        assert world.npu.asked == ["prepare"]

    at_work(state, test)


def test_a_disk_that_fails_at_the_pointer_reverts(
    state: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World) -> None:
        def full(slot: Slot | None, previous: Slot | None, *, on_trial: bool = False) -> None:
            raise StoreError("cannot write: no space")

        monkeypatch.setattr(world.store, "commit", full)
        progress = await world.outcome(image)
        assert progress.state is State.REVERTED
        assert world.npu.asked == ["prepare", "park", "activate", "probe", "revert"]

    at_work(state, test)


def test_a_fault_of_our_own_reverts_and_the_next_deployment_goes_on(
    state: Path, image: str
) -> None:
    async def test(world: World) -> None:
        world.npu.fails["probe"] = ZeroDivisionError("secret")
        progress = await world.outcome(image)
        assert progress.state is State.REVERTED
        assert "internal error" in progress.error
        assert "secret" not in progress.error
        world.npu.fails.clear()
        assert (await world.outcome(image)).state is State.COMMITTED

    at_work(state, test)


def test_a_revert_that_fails_is_an_end_too(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        world.npu.fails = {"probe": ModelError("wrong answers"), "revert": DeviceError("gone")}
        progress = await world.outcome(image)
        assert (progress.state, progress.error) == (State.REVERTED, "wrong answers")

    at_work(state, test)


@pytest.mark.parametrize(
    ("step", "end", "undone"),
    [
        ("prepare", State.FAILED, None),
        ("park", State.REVERTED, "revert"),
        ("activate", State.REVERTED, "revert"),
        ("probe", State.REVERTED, "revert"),
    ],
)
def test_a_deployment_that_the_daemons_stop_interrupts_is_undone(
    state: Path, image: str, step: str, end: State, undone: str | None
) -> None:
    async def test(world: World) -> None:
        world.npu.hangs = step
        deployment = world.reconciler.deploy(image)
        await world.npu.reached.wait()
        waiting = world.reconciler.deploy(image)
        world.task.cancel()
        await asyncio.wait([world.task])
        for each, expected in ((deployment, end), (waiting, State.FAILED)):
            last = (await watched(each))[-1]
            assert (last.state, last.error) == (expected, "edged is stopping")
        assert world.npu.asked[-1] == (undone or step)
        with pytest.raises(RequestError, match="stopping"):
            world.reconciler.deploy(image)
        with pytest.raises(RequestError, match="stopping"):
            await world.reconciler.undeploy()

    at_work(state, test)


def test_a_model_that_was_prepared_when_the_daemon_stops_is_ended(
    state: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World) -> None:
        tell = Deployment.tell

        def stop_at_park(deployment: Deployment, progress: Progress) -> None:
            tell(deployment, progress)
            if progress.state is State.PARK:
                world.task.cancel()
                # The step before has just ended; the one that begins must not.
                raise asyncio.CancelledError

        monkeypatch.setattr(Deployment, "tell", stop_at_park)
        deployment = world.reconciler.deploy(image)
        await asyncio.wait([world.task])
        assert world.npu.asked == ["prepare", "discard"]
        assert deployment.progress.state is State.FAILED

    at_work(state, test)


def test_an_undeploy_that_the_stop_interrupts_says_so(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        world.npu.hangs = "empty"
        undeploy = asyncio.ensure_future(world.reconciler.undeploy())
        await world.npu.reached.wait()
        waiting = asyncio.ensure_future(world.reconciler.undeploy())
        await asyncio.sleep(0)
        world.task.cancel()
        for task in (undeploy, waiting):
            with pytest.raises(RequestError, match="stopping"):
                await task

    at_work(state, test)


def test_undeploy_keeps_the_model_as_the_previous_one(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        digest = (await world.outcome(image)).digest
        assert await world.reconciler.undeploy() == digest
        assert world.store.current is None
        assert world.store.previous is not None
        assert world.store.previous.digest == digest
        assert await world.reconciler.undeploy() == ""
        assert world.store.previous.digest == digest

    at_work(state, test)


def test_undeploy_says_that_the_disk_failed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        def full(slot: Slot | None, previous: Slot | None, *, on_trial: bool = False) -> None:
            raise StoreError("cannot write: no space")

        monkeypatch.setattr(world.store, "commit", full)
        with pytest.raises(StoreError, match="no space"):
            await world.reconciler.undeploy()
        assert world.npu.asked == []

    at_work(state, test)


def test_what_serves_already_is_not_deployed_again_unless_it_does_not_answer(
    state: Path, image: str
) -> None:
    async def test(world: World) -> None:
        await world.outcome(image)
        world.npu.asked.clear()
        assert (await world.outcome(image)).state is State.COMMITTED
        assert world.npu.asked == []
        world.npu.answering = False
        assert (await world.outcome(image)).state is State.COMMITTED
        assert world.npu.asked[-1] == "commit"
        assert world.store.previous is None, "one cannot go back from a model to itself"

    at_work(state, test)


def test_whoever_watches_late_sees_every_state_too(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        deployment = world.reconciler.deploy(image)
        early = await watched(deployment)
        late = await watched(deployment)
        ways = [list(dict.fromkeys(p.state for p in seen)) for seen in (early, late)]
        assert ways[0] == ways[1]
        assert ways[0][0] is State.QUEUED
        assert ways[0][-1] is State.COMMITTED

    at_work(state, test)


def test_a_full_disk_is_said_before_anything_is_copied(
    state: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edged.oci.blobs.SPARE_BYTES", 1 << 60)

    async def test(world: World) -> None:
        progress = await world.outcome(image)
        assert progress.state is State.FAILED
        assert "are free" in progress.error
        assert not list((state / "images/blobs/sha256").iterdir())

    at_work(state, test)


# -- who insists on something, and whose fault it is that it does not come


def test_a_digest_or_a_counter_that_is_insisted_on_decides(state: Path, tmp_path: Path) -> None:
    image = images.write(tmp_path / "seven", counter=7)

    async def test(world: World) -> None:
        wrong = Options(digest="sha256:" + "0" * 64)
        progress = (await watched(world.reconciler.deploy(image, wrong)))[-1]
        assert (progress.state, progress.fault) == (State.FAILED, Fault.MODEL)
        assert "was asked for" in progress.error
        progress = (await watched(world.reconciler.deploy(image, Options(counter=8))))[-1]
        assert "it announces counter 7, 8 was asked for" in progress.error
        digest = progress.digest
        right = Options(digest=digest, counter=7)
        progress = (await watched(world.reconciler.deploy(image, right)))[-1]
        assert (progress.state, progress.fault) == (State.COMMITTED, Fault.NONE)
        # Also of what is in service already.
        progress = (await watched(world.reconciler.deploy(image, wrong)))[-1]
        assert progress.state is State.FAILED

    at_work(state, test)


@pytest.mark.parametrize(
    ("step", "error", "fault"),
    [
        ("prepare", ModelError("cannot load it"), Fault.MODEL),
        ("prepare", DeviceError("not ready within 20 s"), Fault.PASSING),
        ("probe", ModelError("wrong answers"), Fault.MODEL),
        ("park", DeviceError("the request did not end"), Fault.PASSING),
        ("prepare", ValueError("a fault of ours"), Fault.PASSING),
    ],
)
def test_whose_fault_it_was_is_told(
    state: Path, image: str, step: str, error: Exception, fault: Fault
) -> None:
    async def test(world: World) -> None:
        world.npu.fails[step] = error
        assert (await world.outcome(image)).fault is fault

    at_work(state, test)


def test_what_is_not_there_may_come_and_a_hold_passes(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        assert (await world.outcome("oci:/nowhere")).fault is Fault.PASSING
        deployment = world.reconciler.deploy(image)
        world.records.holds.take("audit", "", 60)
        assert (await watched(deployment))[-1].fault is Fault.HELD

    at_work(state, test)


def test_upkeep_waits_for_a_swap_and_a_swap_for_upkeep(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        with pytest.raises(RequestError, match="no model is in service"):
            await world.reconciler.upkeep.self_test()
        await world.outcome(image)
        world.npu.hangs = "probe_serving"
        testing = asyncio.ensure_future(world.reconciler.upkeep.self_test())
        await world.npu.reached.wait()
        world.npu.answering = False
        deployment = world.reconciler.deploy(image)
        restarting = asyncio.ensure_future(world.reconciler.upkeep.restart())
        async for progress in deployment.watch():
            if progress.state is State.STORE:
                break
        before = len(world.npu.asked)
        assert world.npu.asked[before - 1] == "probe_serving"
        world.npu.hangs = ""
        testing.cancel()
        assert (await watched(deployment))[-1].state is State.COMMITTED
        assert (await restarting).digest == deployment.progress.digest
        assert "restart" in world.npu.asked[before:]

    at_work(state, test)


def test_whoever_looks_on_is_told_of_every_state(state: Path, image: str) -> None:
    async def test(world: World) -> None:
        seen: list[str] = []

        def look() -> None:
            under_way = world.reconciler.under_way
            seen.append(under_way.progress.state.value if under_way else "idle")

        world.reconciler.on_change.append(look)
        await world.outcome(image)
        await world.reconciler.undeploy()
        assert list(dict.fromkeys(seen))[:3] == ["fetch", "verify", "store"]
        assert seen[-1] == "idle"

    at_work(state, test)
