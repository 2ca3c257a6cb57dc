"""Is the process that drives the NPU there, and does somebody see to it that it is?

Invariants:
- A process on the NPU that is silent is asked (BEAT), which its one thread that drives the NPU
  answers after asking the device. One that owes an answer is not asked: requests have limits of
  their own (``process.RUN_LIMIT``), and what it says is a sign of life. But if it is stopped, by
  SIGSTOP or a debugger that forgot it, it will not keep them.
- One that gave no sign of life for ``LIMIT`` is given up: it counts as dead, is ended and started
  again, and requests that it had not begun go to the next.
- ``trouble`` is for whoever watches the daemon: nothing is wrong while a process is alive, is being
  started or swapped within its limits, or none is wanted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from edged.model.condition import Condition
from edged.model.process import ModelProcess
from edged.model.service import Service

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds
LIMIT = 4.0  # seconds; a machine that is short of memory or processors may take one or two
# Seconds in which a state that passes must have passed. It is long, since a model on a slow disk
# may have to be verified and unpacked again before it can be loaded.
CHANGE_LIMIT = 300.0
STANDSTILL = 2 * (INTERVAL + LIMIT)


class Heartbeat:
    """Looks after the process on the NPU.

    Args:
        service: whose process it is.
        clock: in seconds, that of ``ModelProcess.heard``.
        limit: seconds without a sign of life.
    """

    def __init__(
        self,
        service: Service,
        clock: Callable[[], float] = time.monotonic,
        limit: float = LIMIT,
    ) -> None:
        self._service = service
        self._clock = clock
        self._limit = limit
        self._looked = self._changed = clock()
        self._stopped_since: float | None = None
        self._looked_at: ModelProcess | None = None
        service.on_change.append(self._note_change)

    async def run(self, interval: float = INTERVAL) -> None:
        """Looks every so many seconds, for ever."""
        while True:
            await self._look(interval)
            self._looked = self._clock()
            await asyncio.sleep(interval)

    @property
    def age(self) -> float | None:
        """Seconds since the process gave a sign of life; None where there is none."""
        process = self._service.process
        if process is None or process.lost is not None:
            return None
        return max(0.0, self._clock() - process.heard)

    def trouble(self) -> str:
        """Returns what stands still, and nobody sees to; empty if nothing does."""
        now, state = self._clock(), self._service.condition.state
        if now - self._looked > STANDSTILL:
            return f"nobody has looked after the model's process for {now - self._looked:.0f} s"
        if state in ("starting", "swapping") and now - self._changed > CHANGE_LIMIT:
            return f"the model has been {state} for {now - self._changed:.0f} s"
        return ""

    def _note_change(self, _condition: Condition) -> None:
        self._changed = self._clock()

    async def _look(self, interval: float) -> None:
        process = self._service.process
        if process is not self._looked_at:
            self._looked_at, self._stopped_since = process, None
        if process is None or process.lost is not None:
            return
        if process.busy:
            self._look_whether_stopped(process)
            return
        self._stopped_since = None
        silent = self._clock() - process.heard
        if silent >= interval and not await process.beat(self._limit) and process.lost is None:
            self._give_up(process, "did not answer")

    def _look_whether_stopped(self, process: ModelProcess) -> None:
        if not process.is_stopped:
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = self._clock()
        elif self._clock() - self._stopped_since >= self._limit:
            self._give_up(process, "was stopped by a signal")

    def _give_up(self, process: ModelProcess, why: str) -> None:
        fields = {"event": "heartbeat", "digest": process.digest, "pid": process.pid}
        text = "the model's process %s for %g s: it is ended and started again"
        logger.error(text, why, self._limit, extra=fields)
        process.abandon()
