"""Power cuts at any point of the store's life: afterwards the old or the new model serves, offline.

A daemon's whole control path runs once, and every change it makes to the disk is recorded. Then for
each point in that recording, and for what of it a disk may have lost (see ``powercut``), the disk
is made anew, and edged starts on it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Collection
from pathlib import Path
from random import Random

import pytest

from edged.deploy import check
from edged.deploy.reconciler import Reconciler
from edged.deploy.records import Records
from edged.deploy.store import Store
from edged.deploy.vouch import Voucher
from edged.osutil import atomic
from tests.crash.plant import Plant, committed, reconciling
from tests.crash.powercut import Trace, read_tree, write_tree

SAMPLES, LONG_SAMPLES = 160, 10_000
STRIDE = 11  # of the points whose every choice is tried in the short run
PARTS = 10  # so that none of the long ones looks like a test that hangs

pytestmark = pytest.mark.usefixtures("quiet")


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
