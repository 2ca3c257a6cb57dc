"""The control path of a daemon in this process, on a disk that tests take apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from edged.deploy.admission import Trust
from edged.deploy.deployment import Deployment
from edged.deploy.device import Npu as Device
from edged.deploy.reconciler import Reconciler
from edged.deploy.records import Records
from edged.deploy.store import Store
from edged.deploy.types import Limits, Slot, State
from edged.oci import keys
from tests.fakes import images
from tests.fakes.npu import Npu

NAMES = ("first", "old", "new")


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
