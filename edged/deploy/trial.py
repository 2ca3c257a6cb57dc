"""The window of good behaviour after a commit.

Invariants:
- While it is open, the model that served before stays loaded, off the NPU, unless its memory is
  needed for the next one; it is on the disk in any case.
- ``Limits.crashes`` of the new model within the window bring the old one back: the pointer moves
  first, then the NPU; requests wait meanwhile.
- The window is measured by a clock that only goes forward. If edged starts again within it, it
  begins anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic

from edged.deploy.ports import Candidate, Npu
from edged.deploy.states import next_state
from edged.deploy.types import Event, Limits, State
from edged.errors import StoreError

if TYPE_CHECKING:
    from edged.deploy.records import Records
    from edged.deploy.store import Store

logger = logging.getLogger(__name__)


class Trial(Generic[Candidate]):
    """The window of the model in service, if there is one.

    Args:
        npu: where it runs.
        store: with the pointer.
        records: what is kept about models.
        limits: how long, and how many crashes.
        clock: monotonic, in seconds.
        device: whoever holds it changes what is in service.

    Attributes:
        on_change: told when the window has ended, one way or the other.
    """

    def __init__(
        self,
        npu: Npu[Candidate],
        store: Store,
        records: Records,
        limits: Limits,
        clock: Callable[[], float],
        device: asyncio.Lock,
    ) -> None:
        self.number = 0
        self.state = State.KEPT
        self.reverts = 0
        self.on_change: Callable[[], None] = _nobody
        self._npu = npu
        self._store = store
        self._records = records
        self._limits = limits
        self._clock = clock
        self._device = device
        self._crashes = 0
        self._last_crash = 0.0
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether crashes still bring the model before back."""
        return self.state is State.COMMITTED

    @property
    def left(self) -> float:
        """Seconds to go; 0 if no window is open."""
        return max(self._until - self._clock(), 0.0) if self.is_open else 0.0

    def begin(self, number: int = 0) -> None:
        """Opens the window of the model that is in service now.

        Args:
            number: of its record, if that is known already.
        """
        self.end()
        self.number, self._crashes, self.state = number, 0, State.COMMITTED
        self._npu.watch(closely=True)
        self._until = self._clock() + self._limits.window
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._limits.window, self._pass)

    def end(self) -> None:
        """Closes the window, whatever is in service next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._npu.watch(closely=False)
        self.state = State.KEPT

    def stop(self) -> None:
        """Ends what is under way; the pointer remembers an open window."""
        self.end()
        for task in self._tasks:
            task.cancel()

    def crashed(self) -> bool:
        """Notes a crash of the model in service; returns whether the model before is on its way."""
        if not self.is_open:
            return False
        self._crashes += 1
        self._last_crash = self._clock()
        return self.look_again()

    def look_again(self) -> bool:
        """Brings the model before back if it is time, and nobody else is about to change things."""
        if not self.is_open or self._crashes < self._limits.crashes or self._device.locked():
            return False
        self.end()
        self.state = next_state(State.COMMITTED, Event.CRASHES)
        self._start(self._revert())
        return True

    def _pass(self) -> None:
        self._timer = None
        self._start(self._keep())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="trial")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self) -> None:
        """The window has passed: the model before goes."""
        async with self._device:
            if not self.is_open:
                return
            self.end()
            await self._npu.dismiss()
            store = self._store
            try:
                store.commit(store.current, store.previous)
            except StoreError as exc:
                logger.warning("%s; at the next start the window begins anew", exc)
        await asyncio.to_thread(self._records.window_passed, self.number)
        self.on_change()
        logger.info("its window of good behaviour has passed", extra={"event": "kept"})

    async def _revert(self) -> None:
        """The model before serves again."""
        bad, good = self._store.current, self._store.previous
        if bad is None or good is None:
            return
        reason = f"it ended {self._crashes} times within {self._limits.window:g} s of its commit"
        async with self._device:
            self.reverts += 1
            try:
                self._store.commit(good, None)
            except StoreError as exc:
                # To serve matters more; the next start finds out again which of the two is good.
                logger.error("%s", exc)  # noqa: TRY400 - the text says it all
                reason = f"{reason}; {exc}"
            await self._npu.fall_back(good, self._limits.revert)
            blackout_us = round((self._clock() - self._last_crash) * 1e6)
            own_fault = self._npu.is_own_fault
            self.state = next_state(self.state, Event.DONE)
        fields = {"event": "revert", "digest": bad.digest}
        logger.error("%s is taken out of service: %s", bad.reference, reason, extra=fields)
        await asyncio.to_thread(
            self._records.withdrawn, self.number, bad, reason, blackout_us, own_fault=own_fault
        )
        self.on_change()


def _nobody() -> None:
    """Is told of changes where nobody else is."""
