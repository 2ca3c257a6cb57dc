"""What is done with the model in service without changing which one that is.

Invariant: never during a swap. Whoever is at it holds the device, so that a deployment waits for
its end, and it waits for a deployment's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic

from edged.deploy import device
from edged.deploy.ports import Candidate, Npu
from edged.deploy.types import Limits, Slot
from edged.errors import RequestError

logger = logging.getLogger(__name__)


class Upkeep(Generic[Candidate]):
    """Restarts and tests.

    Args:
        npu: where the model runs.
        limits: of the steps.
        alone: whoever holds it changes what is in service.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        npu: Npu[Candidate],
        limits: Limits,
        alone: asyncio.Lock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._npu = npu
        self._limits = limits
        self._alone = alone
        self._clock = clock

    async def restart(self) -> Slot:
        """Starts the model's process anew; requests wait meanwhile. Returns what serves again.

        Raises:
            RequestError: no model is in service.
            DeviceError: it does not come up again; edged goes on trying.
        """
        async with self._alone:
            slot = self._serving("restart")
            logger.info("restarting the model's process", extra={"event": "restart"})
            needed = await asyncio.to_thread(device.memory_needed, slot.folder)
            available = device.memory_available()
            beside = available is None or needed <= available
            await self._npu.restart(self._limits.drain, self._limits.prepare, beside=beside)
            return slot

    async def self_test(self) -> float:
        """Runs the golden test of the model in service, between requests; returns the seconds.

        Raises:
            RequestError: no model is in service.
            ModelError: it gives wrong answers.
            DeviceError: its process ended, or was too slow.
        """
        async with self._alone:
            self._serving("test")
            began = self._clock()
            await self._npu.probe_serving(self._limits.prepare)
            return self._clock() - began

    def _serving(self, what: str) -> Slot:
        slot = self._npu.serving
        if slot is None:
            raise RequestError(
                "FAILED_PRECONDITION", f"cannot {what}: no model is in service; deploy one"
            )
        return slot
