"""The disk is full at any write: that is said with the need, and what serves is what the disk says.

Every system call that changes the disk passes a failpoint of ``edged.osutil.atomic`` before it;
there the call fails as on a full disk, or one that is broken: once, or from then on.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from edged.deploy import check
from edged.deploy.reconciler import Reconciler
from edged.deploy.records import Records
from edged.deploy.states import ENDS
from edged.deploy.store import Store
from edged.deploy.types import State
from edged.errors import EdgedError, StoreError
from edged.osutil import atomic
from tests.crash.plant import Plant, committed, reconciling

pytestmark = pytest.mark.usefixtures("quiet")

STRIDE = 7  # of the failpoints in the short run
FULL, BROKEN = errno.ENOSPC, errno.EIO
Work = Callable[[Reconciler[str], Plant], Awaitable[str]]


async def deploying(reconciler: Reconciler[str], plant: Plant) -> str:
    """Returns why it failed, empty if it did not."""
    last = [progress async for progress in reconciler.deploy(plant.images["new"]).watch()][-1]
    assert last.state in ENDS
    assert (last.state is State.COMMITTED) == (not last.error)
    return last.error


async def rolling_back(reconciler: Reconciler[str], plant: Plant) -> str:
    last = [progress async for progress in reconciler.rollback().watch()][-1]
    return last.error


async def undeploying(reconciler: Reconciler[str], plant: Plant) -> str:
    try:
        await reconciler.undeploy()
    except StoreError as exc:
        return str(exc)
    return ""


WORKS: dict[str, tuple[Work, set[str]]] = {
    "deploy": (deploying, {"old", "new"}),
    "roll back": (rolling_back, {"old", "first"}),
    "undeploy": (undeploying, {"old", ""}),
}


class Disk:
    """Fails at the so-many-th failpoint; counts them."""

    def __init__(self, number: int, error: int, *, lasting: bool) -> None:
        self.passed = 0
        self._number = number
        self._error = OSError(error, "No space left on device" if error == FULL else "I/O error")
        self._lasting = lasting

    def __call__(self, name: str) -> None:
        self.passed += 1
        if self.passed == self._number + 1 or (self._lasting and self.passed > self._number):
            raise self._error


@pytest.fixture(scope="module")
def before(base: Path, plant: Plant) -> Path:
    """The disk of a device that serves ``old`` and had ``first`` before."""

    async def work(reconciler: Reconciler[str], records: Records) -> None:
        for name in ("first", "old"):
            await committed(reconciler.deploy(plant.images[name]))

    (base / "before").mkdir()
    asyncio.run(reconciling(base / "before", plant.trust, work))
    return base / "before"


@pytest.fixture
def state(base: Path) -> Iterator[Path]:
    yield base / "full"
    shutil.rmtree(base / "full", ignore_errors=True)


def run(state: Path, plant: Plant, work: Work, disk: Disk) -> tuple[str, str]:
    """Works on that disk; returns why it failed, and what the disk says serves."""
    said: list[str] = []

    async def go(reconciler: Reconciler[str], records: Records) -> None:
        atomic.failpoint_hook = disk
        try:
            said.append(await work(reconciler, plant))
        finally:
            atomic.failpoint_hook = None
        serving, current = reconciler._npu.serving, reconciler._store.current
        assert serving == current, "one is in service, and the pointer says which"

    current = asyncio.run(reconciling(state, plant.trust, go))
    return said[0], current.name if current else ""


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", [FULL, BROKEN], ids=["full", "broken"])
@pytest.mark.parametrize("kind", WORKS)
def test_it_is_said_and_what_serves_is_what_the_disk_says(
    before: Path,
    state: Path,
    plant: Plant,
    kind: str,
    error: int,
    lasting: bool,
    pytestconfig: pytest.Config,
) -> None:
    work, names = WORKS[kind]
    count = Disk(10**9, error, lasting=False)
    shutil.copytree(before, state)
    assert run(state, plant, work, count)[0] == ""
    shutil.rmtree(state)
    failed = 0
    for number in range(0, count.passed, 1 if pytestconfig.getoption("--long") else STRIDE):
        shutil.copytree(before, state)
        disk = Disk(number, error, lasting=lasting)
        why, serves = run(state, plant, work, disk)
        what = f"failpoint {number}: {why}"
        assert disk.passed > number, what
        assert serves in names, what
        if why:
            failed += 1
            assert serves == "old", what
            said = "No space left on device: it needs" if error == FULL else "I/O error"
            assert said in why, what
        elif lasting:
            assert serves != "old", what
        # A pointer that was moved and cannot be moved back may be either after a restart.
        later = asyncio.run(survived(state, plant))
        assert later == serves or (lasting and "current.json" in why and later in names), what
        shutil.rmtree(state)
    assert failed > 0


async def survived(state: Path, plant: Plant) -> str:
    """Starts on what is there, with room again; returns what serves before the next deployment."""
    store = Store(state)
    serves = store.current.name if store.current else ""
    assert list(check.faults(state)) == []

    async def work(reconciler: Reconciler[str], records: Records) -> None:
        try:
            await committed(reconciler.deploy(plant.images["next"]))
        except EdgedError as exc:
            raise AssertionError(str(exc)) from exc

    now = await reconciling(state, plant.trust, work)
    assert now is not None
    assert now.name == "next"
    assert list(check.faults(state)) == []
    return serves
