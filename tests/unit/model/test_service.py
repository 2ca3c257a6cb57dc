"""One model stays in service: restarts wait longer each time, and a swap has the NPU to itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from edged.containers.process import ProcessRuntime
from edged.deploy.types import Limits, Slot
from edged.errors import DeviceError, ModelError, RequestError
from edged.model.condition import Condition, restart_delay
from edged.model.process import ModelProcess, Worker
from edged.model.service import Service
from edged.rpc.front import Front

ROOT = Path(__file__).resolve().parents[3]
LIMITS = Limits(prepare=20.0, drain=0.2, activate_and_probe=0.5, revert=0.2)


class World:
    """A service with the fake worker, and the pauses it made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.front = Front()
        self.slept: list[float] = []
        self.killers = 0
        self.conditions: list[Condition] = []
        worker = Worker(ProcessRuntime(), "tests.fakes.worker", threads=1, isa="portable")
        self.service = Service(self.front, worker, LIMITS, self._sleep)
        self.service.on_change.append(self.conditions.append)
        self.may_wake = asyncio.Event()
        self.sleeps = asyncio.Event()

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.sleeps.set()
        await self.may_wake.wait()
        self.sleeps.clear()

    def slot(self, name: str, **behaviour: str) -> Slot:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "behaviour.json").write_text(json.dumps({"name": name, **behaviour}))
        return Slot(f"sha256:{name}", f"oci:{name}", folder)

    async def ask(self, body: bytes) -> bytes:
        return (await self.front.predict(body)).reply.body

    async def dies(self) -> None:
        self.killers += 1  # the same one again would be known
        with pytest.raises(RequestError) as caught:
            await self.ask(b"die %d" % self.killers)
        assert caught.value.code == "INTERNAL"


async def until(check: Callable[[], bool]) -> None:
    """Returns when something has come about that nobody is told of."""
    for _ in range(6000):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about within 30 s")


@pytest.fixture
def with_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]:
    monkeypatch.chdir(ROOT)

    def run(test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        async def run_and_end() -> None:
            world = World(tmp_path)
            try:
                await test(world)
            finally:
                await world.service.end()

        asyncio.run(asyncio.wait_for(run_and_end(), 60))

    return run


def test_pauses_double_from_the_third_death_up_to_five_minutes() -> None:
    delays = [restart_delay(n) for n in range(1, 11)]
    assert delays == [0, 0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert restart_delay(100_000) == 300


def test_deaths_without_an_answer_are_counted_and_an_answer_begins_anew(with_service: Any) -> None:
    async def test(world: World) -> None:
        world.may_wake.set()
        await world.service.begin(world.slot("m"), None)
        for expected in ([], [], [10.0], [10.0, 20.0]):
            await world.dies()
            # Until the restart, and whatever pause comes before it.
            await until(lambda: world.service.answering)
            assert world.slept == expected
        assert await world.ask(b"x") == b"m:x"
        for _ in range(2):
            await world.dies()
            await until(lambda: world.service.answering)
        assert world.slept == [10.0, 20.0]
        assert world.service.deaths == 6

    with_service(test)


def test_while_it_pauses_callers_are_told_for_how_long(with_service: Any) -> None:
    async def test(world: World) -> None:
        await world.service.begin(world.slot("m"), None)
        for _ in range(3):
            await world.dies()
            if world.slept:
                break
            await until(lambda: world.service.answering or bool(world.slept))
        await world.sleeps.wait()
        with pytest.raises(RequestError, match=r"ended 3 times .* within 10 s") as caught:
            await world.ask(b"x")
        assert caught.value.code == "UNAVAILABLE"
        assert world.service.condition.state == "not_serving"
        world.may_wake.set()
        await until(lambda: world.service.answering)
        assert await world.ask(b"x") == b"m:x"

    with_service(test)


def test_a_model_that_stops_loading_is_tried_again_and_again(with_service: Any) -> None:
    async def test(world: World) -> None:
        slot = world.slot("m")
        await world.service.begin(slot, None)
        world.slot("m", hello="exit")
        await world.dies()
        await world.sleeps.wait()
        assert world.service.deaths == 3, "one death, and two starts that failed"
        world.slot("m")
        world.may_wake.set()
        await until(lambda: world.service.answering)
        assert await world.ask(b"x") == b"m:x"

    with_service(test)


def test_if_nothing_loads_at_the_start_it_is_tried_again(with_service: Any) -> None:
    async def test(world: World) -> None:
        current, previous = world.slot("a", hello="refuse"), world.slot("b", probe="fail")
        await world.service.begin(current, previous)
        assert world.service.serving == current
        await world.sleeps.wait()
        world.slot("a")
        world.may_wake.set()
        await until(lambda: world.service.answering)
        assert await world.ask(b"x") == b"a:x"

    with_service(test)


def test_parking_waits_only_so_long_for_the_running_request(
    with_service: Any, tmp_path: Path
) -> None:
    import os

    async def test(world: World) -> None:
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        await world.service.begin(world.slot("old"), None)
        candidate = await world.service.prepare(world.slot("new"), 20)
        running = asyncio.ensure_future(world.ask(b"wait " + str(gate).encode()))
        await asyncio.sleep(0)
        with pytest.raises(DeviceError, match=r"did not end within 0\.2 s"):
            await world.service.park(0.2)
        # The old model leaves no trace of the attempt once the request has ended.
        await world.service.revert(candidate, 0.2)
        opened = asyncio.get_running_loop().run_in_executor(None, lambda: gate.open("wb").close())
        assert (await running).startswith(b"old:wait")
        await opened
        assert await world.ask(b"x") == b"old:x"

    with_service(test)


async def swapped(world: World, slot: Slot) -> ModelProcess:
    """Returns a candidate that is on the NPU, parked for."""
    candidate = await world.service.prepare(slot, 20)
    await world.service.park(1)
    await world.service.activate(candidate, 1)
    return candidate


def test_an_old_model_that_dies_during_a_swap_is_started_anew_by_the_revert(
    with_service: Any,
) -> None:
    async def test(world: World) -> None:
        await world.service.begin(world.slot("old"), None)
        old = world.service.process
        assert old is not None
        candidate = await swapped(world, world.slot("new"))
        old._container.kill(9)
        await until(lambda: old.lost is not None)
        assert world.service.condition.state == "swapping", "the swap has the NPU"
        await world.service.revert(candidate, 1)
        assert await world.ask(b"x") == b"old:x"
        assert world.service.process is not old

    with_service(test)


def test_an_old_model_that_died_does_not_keep_the_new_one_from_the_npu(with_service: Any) -> None:
    async def test(world: World) -> None:
        await world.service.begin(world.slot("old"), None)
        old = world.service.process
        assert old is not None
        slot = world.slot("new")
        candidate = await world.service.prepare(slot, 20)
        await world.service.park(1)
        old._container.kill(9)
        await until(lambda: old.lost is not None)
        await world.service.activate(candidate, 1)
        await world.service.probe(candidate, 1)
        await world.service.commit(candidate, slot)
        assert await world.ask(b"x") == b"new:x"

    with_service(test)


def test_a_candidate_that_dies_just_before_its_commit_is_started_again(with_service: Any) -> None:
    async def test(world: World) -> None:
        await world.service.begin(world.slot("old"), None)
        slot = world.slot("new")
        candidate = await swapped(world, slot)
        candidate._container.kill(9)
        await until(lambda: candidate.lost is not None)
        await world.service.commit(candidate, slot)
        assert await world.ask(b"x") == b"new:x"
        assert world.service.serving == slot
        assert world.service.deaths == 1

    with_service(test)


def test_a_first_model_that_is_reverted_leaves_the_npu_empty(with_service: Any) -> None:
    async def test(world: World) -> None:
        await world.service.begin(None, None)
        candidate = await swapped(world, world.slot("new", probe="fail"))
        with pytest.raises(ModelError, match="golden test failed"):
            await world.service.probe(candidate, 1)
        await world.service.revert(candidate, 1)
        with pytest.raises(RequestError, match="Servable not found"):
            await world.ask(b"x")
        assert world.service.serving is None

    with_service(test)


def test_emptying_refuses_those_who_wait(with_service: Any) -> None:
    async def test(world: World) -> None:
        await world.service.begin(world.slot("m"), None)
        await world.service.empty(1)
        with pytest.raises(RequestError, match="Servable not found"):
            await world.ask(b"x")
        assert (world.service.process, world.service.serving) == (None, None)
        assert [c.state for c in world.conditions] == ["starting", "serving", "not_serving"] or [
            c.state for c in world.conditions
        ] == ["serving", "not_serving"]

    with_service(test)


def test_a_request_that_never_ends_costs_the_worker_not_the_device(
    with_service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setattr("edged.model.process.RUN_LIMIT", 0.2)
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    async def test(world: World) -> None:
        await world.service.begin(world.slot("m"), None)
        with pytest.raises(RequestError) as caught:
            await world.ask(b"wait " + str(gate).encode())
        assert caught.value.code == "INTERNAL"
        assert await world.ask(b"x") == b"m:x"

    with_service(test)


@pytest.mark.parametrize(
    ("behaviour", "error", "why"),
    [
        ({"hello": "refuse"}, ModelError, "cannot load the model: cannot x"),
        ({"hello": "exit"}, DeviceError, "ended before it was ready"),
        ({"hello": "hang"}, DeviceError, r"not ready within 0\.5 s"),
        ({"hello": "garbage"}, DeviceError, "broke the protocol"),
    ],
)
def test_a_model_that_cannot_be_prepared_leaves_no_process(
    with_service: Any, tmp_path: Path, behaviour: dict[str, str], error: type[Exception], why: str
) -> None:
    async def test(world: World) -> None:
        limit = 0.5 if behaviour == {"hello": "hang"} else 20.0
        with pytest.raises(error, match=why):
            await world.service.prepare(world.slot("m", **behaviour), limit)

    with_service(test)
    processes = Path("/proc").glob("[0-9]*/cmdline")
    assert not [p for p in processes if _mentions(p, str(tmp_path).encode())]


def _mentions(cmdline: Path, what: bytes) -> bool:
    try:
        return what in cmdline.read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("beside", [True, False])
def test_a_restart_loses_no_request_and_gives_another_process(
    with_service: Any, beside: bool
) -> None:
    async def test(world: World) -> None:
        await world.service.begin(world.slot("one"), None)
        process = world.service.process
        assert process is not None
        before = process.pid
        restarting = asyncio.ensure_future(world.service.restart(1.0, 20.0, beside=beside))
        await asyncio.sleep(0)
        answers = [asyncio.ensure_future(world.ask(b"x")) for _ in range(20)]
        await restarting
        assert set(await asyncio.gather(*answers)) == {b"one:x"}
        assert world.service.process is not None
        assert world.service.process.pid != before
        assert world.service.deaths == 0, "nobody died unasked"

    with_service(test)


def test_a_restart_that_does_not_come_up_is_said_and_tried_on(with_service: Any) -> None:
    async def test(world: World) -> None:
        slot = world.slot("one")
        await world.service.begin(slot, None)
        world.slot("one", hello="exit")
        world.may_wake.set()
        with pytest.raises(DeviceError, match="it is tried again"):
            await world.service.restart(1.0, 0.5, beside=True)
        world.slot("one")
        await until(lambda: world.service.answering)
        assert await world.ask(b"x") == b"one:x"

    with_service(test)


def test_beside_the_old_process_a_new_one_loads_without_a_pause(with_service: Any) -> None:
    async def test(world: World) -> None:
        await world.service.begin(world.slot("one"), None)
        world.slot("one", hello_after=1.0)  # type: ignore[arg-type]
        restarting = asyncio.ensure_future(world.service.restart(1.0, 20.0, beside=True))
        answered = 0
        while not restarting.done():
            answer = await world.front.predict(b"x")
            assert answer.parked_us < 900_000
            answered += 1
        await restarting
        assert answered > 10

    with_service(test)


def test_the_golden_test_runs_between_requests(with_service: Any) -> None:
    async def test(world: World) -> None:
        with pytest.raises(DeviceError, match="not loaded"):
            await world.service.probe_serving(1.0)
        await world.service.begin(world.slot("one"), None)
        work = [asyncio.ensure_future(world.ask(b"work 1000")) for _ in range(10)]
        await world.service.probe_serving(5.0)
        assert set(await asyncio.gather(*work)) == {b"done"}

    with_service(test)


def test_a_golden_test_that_fails_is_told_and_the_model_serves_on(with_service: Any) -> None:
    async def test(world: World) -> None:
        slot = world.slot("one")
        await world.service.begin(slot, None)
        process = world.service.process
        assert process is not None

        async def wrong(limit: float) -> None:
            raise ModelError(f"its golden test failed within {limit:g} s")

        process.probe = wrong  # type: ignore[method-assign]
        with pytest.raises(ModelError):
            await world.service.probe_serving(1.0)
        assert await world.ask(b"x") == b"one:x"

    with_service(test)
