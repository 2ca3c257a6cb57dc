"""Power cuts at any point of the store's life: afterwards the old or the new model serves, offline.

A daemon's whole control path runs once, and every change it makes to the disk is recorded. Then for
each point in that recording, and for what of it a disk may have lost (see ``powercut``), the disk
is made anew, and edged starts on it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from random import Random

import pytest

from edged.deploy import check
from edged.deploy.admission import Trust
from edged.deploy.deployment import Deployment
from edged.deploy.device import Npu as Device
from edged.deploy.reconciler import Reconciler
from edged.deploy.records import Records
from edged.deploy.store import Store
from edged.deploy.types import Limits, Slot, State
from edged.deploy.vouch import Voucher
from edged.oci import keys
from edged.osutil import atomic
from tests.crash.powercut import Trace, read_tree, write_tree
from tests.fakes import images
from tests.fakes.npu import Npu

SAMPLES, LONG_SAMPLES = 160, 10_000
STRIDE = 11  # of the points whose every choice is tried in the short run
PARTS = 10  # so that none of the long ones looks like a test that hangs
NAMES = ("first", "old", "new")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of starts on damaged disks have a lot to say."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder in memory where there is one: what is tried here does not depend on the disk."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edged-crash-", dir=place) as folder:
        yield Path(folder)


class Plant:
    """Signed images, and whom the device trusts."""

    def __init__(self, base: Path) -> None:
        keys.generate(base / "plant")
        keys.trust(base / "plant.pub", base / "trusted")
        self.trust = Trust(base / "trusted")
        self.images = {
            name: images.write(
                base / name, name, padding=3000, counter=number, key=base / "plant.key"
            )
            for number, name in enumerate((*NAMES, "next"), 1)
        }


@pytest.fixture(scope="module")
def plant(base: Path) -> Plant:
    return Plant(base)


async def reconciling(
    state: Path, trust: Trust, work: Callable[[Reconciler[str], Records], Awaitable[None]]
) -> Slot | None:
    """Does ``work`` as the daemon would on this disk; returns what is in service then."""
    store = Store(state)
    npu = Npu()
    npu.serving = store.current
    records = Records(state, Device.named(), trust)
    reconciler: Reconciler[str] = Reconciler(npu, store, records, Limits(window=60.0))
    loop = asyncio.get_running_loop()
    task = loop.create_task(reconciler.run(loop.create_task(asyncio.sleep(0))))
    await work(reconciler, records)
    task.cancel()
    await asyncio.wait([task])
    return store.current


async def committed(deployment: Deployment) -> None:
    last = [progress async for progress in deployment.watch()][-1]
    assert last.state is State.COMMITTED, last.error


class Life:
    """What the recorded device did, and which models may serve after each part of it.

    Attributes:
        trace: of its store.
        allowed: for each number of operations, the names that may serve; "" is no model.
    """

    def __init__(self, root: Path, plant: Plant) -> None:
        root.mkdir()
        marks: list[tuple[int, set[str]]] = []
        seen: list[atomic.Operation] = []

        async def deploy_first(reconciler: Reconciler[str], records: Records) -> None:
            await committed(reconciler.deploy(plant.images["first"]))

        async def live(reconciler: Reconciler[str], records: Records) -> None:
            await part({"first", "old"}, committed(reconciler.deploy(plant.images["old"])))
            await part({"old"}, asyncio.to_thread(records.holds.take, "ann", "test", 60.0))
            await part({"old"}, asyncio.to_thread(records.holds.release))
            await part({"old", "new"}, committed(reconciler.deploy(plant.images["new"])))
            await part({"new", "old"}, committed(reconciler.rollback()))
            await part({"old", ""}, reconciler.undeploy())
            await part({"", "old"}, committed(reconciler.deploy(plant.images["old"])))

        async def part(names: set[str], what: Awaitable[object]) -> None:
            await what
            marks.append((len(seen), names))

        asyncio.run(reconciling(root, plant.trust, deploy_first))
        before = read_tree(root)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(atomic, "recorder", seen.append)
            asyncio.run(reconciling(root, plant.trust, live))
        self.trace = Trace(root, before, seen)
        self.allowed = self._per_operation(marks)

    def _per_operation(self, marks: list[tuple[int, set[str]]]) -> list[set[str]]:
        allowed: list[set[str]] = []
        for end, names in marks:
            allowed += [names] * (end - len(allowed))
        return allowed + [marks[-1][1]] * (self.trace.length + 1 - len(allowed))


@pytest.fixture(scope="module")
def life(base: Path, plant: Plant) -> Life:
    return Life(base / "life", plant)


class Survivor:
    """Starts edged on what a power cut left, and says what is wrong with that."""

    def __init__(self, base: Path, plant: Plant, life: Life) -> None:
        self._folder = base / "survivor"
        self._plant = plant
        self._life = life
        self.tried = 0

    def check(self, length: int, lost: Collection[int]) -> None:
        self.tried += 1
        what = f"after {length} operations, without {sorted(lost)}"
        write_tree(self._folder, self._life.trace.state(length, lost))
        try:
            self._check(length, what)
        finally:
            shutil.rmtree(self._folder)

    def _check(self, length: int, what: str) -> None:
        store = Store(self._folder)
        serving = store.current.name if store.current else ""
        assert serving in self._life.allowed[length], what
        if store.current is not None:
            Voucher(store, self._plant.trust)(store.current)
        assert list(check.faults(self._folder)) == [], what
        now = asyncio.run(reconciling(self._folder, self._plant.trust, self._deploy_next))
        assert now is not None, what
        assert now.name == "next", what
        assert list(check.faults(self._folder)) == [], what

    async def _deploy_next(self, reconciler: Reconciler[str], records: Records) -> None:
        await asyncio.to_thread(records.holds.release)
        await committed(reconciler.deploy(self._plant.images["next"]))


@pytest.fixture
def survivor(base: Path, plant: Plant, life: Life) -> Survivor:
    return Survivor(base, plant, life)


def test_the_recording_is_of_a_whole_life(life: Life) -> None:
    kinds = {operation.kind for operation in life.trace.operations}
    assert kinds >= {"create", "write", "sync", "rename", "unlink", "mkdir", "rmdir", "sync_folder"}
    assert life.trace.length > 300
    assert any(len(life.trace.unsafe(length)) > 3 for length in range(life.trace.length))


@pytest.mark.parametrize("part", range(PARTS))
def test_the_power_may_go_at_any_point(
    survivor: Survivor, life: Life, part: int, pytestconfig: pytest.Config
) -> None:
    step = PARTS * (1 if pytestconfig.getoption("--long") else STRIDE)
    for length in range(part, life.trace.length + 1, step):
        for lost in life.trace.choices(length):
            survivor.check(length, lost)
    assert survivor.tried > 2


@pytest.mark.parametrize("part", range(PARTS))
def test_the_disk_may_lose_any_of_what_was_not_synced(
    survivor: Survivor, life: Life, part: int, pytestconfig: pytest.Config
) -> None:
    random = Random(20261121 + part)
    samples = LONG_SAMPLES if pytestconfig.getoption("--long") else SAMPLES
    for _ in range(samples // PARTS):
        survivor.check(*life.trace.sample(random))
