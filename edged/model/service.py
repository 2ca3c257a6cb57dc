"""Keeps one model in service: on the NPU, started again when it dies, swapped for another.

Invariants:
- At most one process is on the NPU, and the front lets requests through to that one only.
- ``serving`` is what ought to be in service. It changes when a swap commits, never when a process
  dies.
- Between ``park`` and ``commit``, ``revert`` or ``empty`` a swap has the NPU: a process that dies
  then is not started again before the swap has ended.
- After a commit whoever served before stays loaded, off the NPU, until ``dismiss``.
- Restarts are at once for the first two deaths, then ``BACKOFF`` seconds apart, doubling up to
  ``BACKOFF_LIMIT``; one answered request begins the count anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal as signals
from collections.abc import Awaitable, Callable

from edged.deploy.types import Limits, Slot
from edged.errors import CrashError, DeviceError, EdgedError, ModelError, RequestError
from edged.model.condition import (
    LOADING,
    NO_MODEL,
    RESTARTING,
    REVERTING,
    Condition,
    restart_delay,
)
from edged.model.process import ModelProcess, Worker
from edged.rpc.front import Front

logger = logging.getLogger(__name__)


class Service:
    """The NPU's side of ``edged.deploy.ports.Npu``, and the daemon's.

    Args:
        front: whose requests are served.
        worker: how a model's process is started.
        limits: of the steps to bring a model onto the NPU.
        sleep: waits between restarts.
    """

    def __init__(
        self,
        front: Front,
        worker: Worker,
        limits: Limits | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.deaths = 0
        self.condition = Condition("starting")
        self.on_change: list[Callable[[Condition], None]] = []
        self._front = front
        self._ahead = front.ahead
        self._worker = worker
        self._limits = limits or Limits()
        self._sleep = sleep
        self._slot: Slot | None = None
        self._active: ModelProcess | None = None
        self._deaths_in_row = 0
        self._swapping = False
        self._told_to_leave = False
        self._restarting: asyncio.Task[None] | None = None
        self._standby: ModelProcess | None = None
        self._last_exit: int | None = None
        self._exceeded = False
        self._leaving: set[asyncio.Task[None]] = set()
        self.on_crash: Callable[[], bool] | None = None
        self.on_other: Callable[[Slot, str], None] | None = None
        self.vouch: Callable[[Slot], bool] | None = None

    @property
    def serving(self) -> Slot | None:
        """What is in service, or is being brought back into it."""
        return self._slot

    @property
    def answering(self) -> bool:
        """Whether what is in service answers requests now."""
        return self._active is not None and self._active.lost is None

    @property
    def standby(self) -> str:
        """The digest of who served before and is still loaded; empty if nobody is."""
        return self._standby.digest if self._standby is not None else ""

    @property
    def is_own_fault(self) -> bool:
        """Whether the model in service ended by itself, or over a limit, when it last died."""
        killed = self._last_exit is None or self._last_exit == -signals.SIGKILL
        return self._exceeded or not killed

    @property
    def process(self) -> ModelProcess | None:
        """What is on the NPU now."""
        return self._active

    # -- the daemon's life

    async def begin(self, current: Slot | None, previous: Slot | None) -> None:
        """Brings the current model into service, or the previous one if that does not load."""
        if current is None:
            self._close("NOT_FOUND", NO_MODEL)
            return
        self._hold(LOADING)
        self._slot = current
        if await self._try(current, previous) is None:
            self._deaths_in_row = 1
            self._restart(previous)

    async def _try(self, current: Slot, previous: Slot | None) -> ModelProcess | None:
        """Brings one of the two into service, both probed; returns it, None if neither came up."""
        reason = ""
        for slot in (current, previous):
            if slot is None:
                continue
            try:
                process = await self._load(slot, probe=True)
            except EdgedError as exc:
                logger.error("cannot serve %s: %s", slot.digest, exc)  # noqa: TRY400 - said in full
                reason = reason or str(exc)
                continue
            self._slot = slot
            self._open(process)
            if slot is not current and self.on_other is not None:
                self.on_other(slot, reason)
            return process
        return None

    async def end(self) -> None:
        """Ends every process; the worker finishes what it runs."""
        self._swapping = True
        await self._cancel_restart()
        active, self._active = self._active, None
        if active is not None:
            await active.stop()
        await self.dismiss()
        if self._leaving:
            await asyncio.wait(self._leaving)

    # -- edged.deploy.ports.Npu

    async def prepare(self, slot: Slot, limit: float) -> ModelProcess:
        """Loads a model off the NPU; whoever is on it serves on."""
        return await ModelProcess.start(
            self._worker,
            slot.folder,
            slot.digest,
            self._died,
            limit,
            behind=self._active is not None,
        )

    async def park(self, limit: float) -> None:
        """Holds requests and waits until none runs."""
        self._swapping, self._told_to_leave = True, False
        await self._cancel_restart()
        self._front.park()
        self._change("swapping")
        try:
            await asyncio.wait_for(self._front.drained(), limit)
        except asyncio.TimeoutError as exc:
            raise DeviceError(
                f"cannot park: the request that runs did not end within {limit:g} s"
            ) from exc

    async def activate(self, candidate: ModelProcess, limit: float) -> None:
        """Takes the NPU from whoever is on it and gives it to the candidate."""
        if self._active is not None and self._active.lost is None:
            self._told_to_leave = True
            try:
                await self._active.leave(limit)
            except CrashError as exc:  # of the old model, which is no fault of the new one
                raise DeviceError(str(exc)) from exc
        await candidate.activate(limit)

    async def probe(self, candidate: ModelProcess, limit: float) -> None:
        """Runs the candidate's golden test."""
        await candidate.probe(limit)

    async def commit(self, candidate: ModelProcess, slot: Slot) -> None:
        """Lets requests through to the candidate, as ``slot``; who served before stays loaded."""
        old = self._active
        self._slot = slot
        self._deaths_in_row = 0
        self._swapping = False
        self._open(candidate)
        if self._standby is not None:
            self._leave(self._standby)
        self._standby = old
        if old is not None and old.lost is not None:
            self._standby = None
            self._leave(old)

    def watch(self, *, closely: bool) -> None:
        """While closely, a model has one request at hand at a time."""
        self._front.ahead = 0 if closely else self._ahead

    async def dismiss(self) -> None:
        """Ends whoever served before and is still loaded."""
        standby, self._standby = self._standby, None
        if standby is not None:
            await standby.stop()

    async def fall_back(self, slot: Slot, limit: float) -> None:
        """Ends whoever is in service; ``slot``, which served before, serves again."""
        self._swapping = True
        await self._cancel_restart()
        self._front.park()
        self._change("swapping")
        bad, self._active = self._active, None
        if bad is not None:
            await self._bury(bad)
        self._slot, self._deaths_in_row = slot, 0
        standby, self._standby = self._standby, None
        self._swapping = False
        if standby is not None and standby.digest == slot.digest:
            try:
                await standby.activate(limit)
            except DeviceError as exc:
                logger.warning("started anew: %s", exc, extra={"digest": standby.digest})
            else:
                self._open(standby)
                return
        if standby is not None:
            await standby.kill()
        self._restart()

    async def revert(self, candidate: ModelProcess, limit: float) -> None:
        """Ends the candidate; whoever served before serves again, started anew if need be."""
        await candidate.kill()
        self._swapping = False
        old, self._active = self._active, None
        if old is not None and old.lost is None:
            try:
                # One that never left may be busy with the very request that took too long to end.
                if self._told_to_leave:
                    await old.activate(limit)
            except DeviceError as exc:
                logger.warning("started anew: %s", exc, extra={"digest": old.digest})
            else:
                self._open(old)
                return
        if old is not None:
            await old.kill()
        if self._slot is None:
            self._close("NOT_FOUND", NO_MODEL)
        else:
            self._restart()

    async def discard(self, candidate: ModelProcess) -> None:
        """Ends a candidate that was never parked for."""
        await candidate.kill()

    async def restart(self, drain: float, load: float, *, beside: bool) -> None:
        """Replaces the process of the model in service by a new one; requests wait meanwhile."""
        slot, fresh = self._slot, None
        if beside and slot is not None and self.answering:
            try:
                fresh = await self._start(slot)
            except EdgedError as exc:
                logger.warning("%s; the one that serves is ended first", exc)
        self._swapping = True
        await self._cancel_restart()
        self._front.park(missing=RESTARTING)
        self._change("swapping")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._front.drained(), drain)
        old, self._active = self._active, None
        if old is not None:
            await old.stop(drain)
        self._swapping, self._deaths_in_row = False, 0
        if fresh is not None and await self._take_over(fresh):
            return
        self._restart()
        if self._restarting is not None:
            await asyncio.wait([self._restarting], timeout=load)
        if not self.answering:
            raise DeviceError(f"cannot restart the model within {load:g} s; it is tried again")

    async def _take_over(self, fresh: ModelProcess) -> bool:
        """Gives the NPU, which is free, to a process; returns whether it took it."""
        try:
            await fresh.activate(self._limits.activate_and_probe)
        except DeviceError as exc:
            logger.warning("started anew: %s", exc, extra={"digest": fresh.digest})
            await fresh.kill()
            return False
        self._open(fresh)
        return True

    async def probe_serving(self, limit: float) -> None:
        """Runs the golden test of the model in service; requests wait for it in their turn."""
        if self._active is None or self._active.lost is not None:
            raise DeviceError("cannot test the model: it is not loaded now; try again")
        await self._active.probe(limit)

    async def empty(self, limit: float) -> None:
        """Takes whoever is there off the NPU and ends it; requests are refused from then on."""
        self._swapping = True
        await self._cancel_restart()
        self._slot = None
        self._close("NOT_FOUND", NO_MODEL)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._front.drained(), limit)
        active, self._active = self._active, None
        if active is not None:
            await active.stop(limit)
        self._swapping = False

    # -- what happens to a process

    async def _load(self, slot: Slot, *, probe: bool) -> ModelProcess:
        """Returns a process that is on the NPU.

        Raises:
            EdgedError: the model or its process is at fault; the process is gone.
        """
        limits = self._limits
        process = await self._start(slot)
        try:
            await process.activate(limits.activate_and_probe)
            if probe:
                await process.probe(limits.activate_and_probe)
        except BaseException:
            await process.kill()
            raise
        return process

    async def _start(self, slot: Slot) -> ModelProcess:
        """Returns a process with a model from the store, whose files are vouched for meanwhile.

        Raises:
            EdgedError: the model cannot be trusted, or its process is at fault; it is gone.
        """
        limit = self._limits.prepare
        if self.vouch is None:
            return await self.prepare(slot, limit)
        vouched = asyncio.ensure_future(asyncio.to_thread(self.vouch, slot))
        try:
            process = await self.prepare(slot, limit)
        except (DeviceError, ModelError):
            if await vouched:
                raise
            return await self.prepare(slot, limit)  # its files were at fault, and are not any more
        except BaseException:
            vouched.cancel()
            raise
        try:
            if await vouched:
                return process
        except BaseException:
            await process.kill()
            raise
        await process.kill()  # it may have read what was wrong
        return await self.prepare(slot, limit)

    def _died(self, process: ModelProcess, why: str) -> None:
        """Runs when a process has ended unasked, before its request is known to have failed."""
        if process is self._standby:
            self._standby = None
            self._leave(process)
            logger.warning("the model before is not loaded any more: %s", why)
        if process is not self._active:
            return  # a candidate, or one that leaves: whoever waits for it hears of it
        self.deaths += 1
        if process.answered:
            self._deaths_in_row = 0
        self._deaths_in_row += 1
        fields = {"event": "death", "digest": process.digest, "pid": process.pid}
        logger.error("the model's process is lost: %s", why, extra=fields)
        if self._swapping:
            return
        if self.on_crash is not None and self.on_crash():
            self._hold(REVERTING)
        else:
            self._restart()

    def _restart(self, other: Slot | None = None) -> None:
        self._hold(LOADING)
        self._restarting = asyncio.get_running_loop().create_task(
            self._restart_until_loaded(other), name="restart"
        )

    async def _restart_until_loaded(self, other: Slot | None) -> None:
        """Starts the model until it serves; or ``other``, if neither served since edged started."""
        slot = self._slot
        if slot is None:
            return
        while True:
            dead, self._active = self._active, None
            if dead is not None:
                await self._bury(dead)
            delay = restart_delay(self._deaths_in_row)
            if delay:
                why = f"the model's process ended {self._deaths_in_row} times without an answer"
                self._close("UNAVAILABLE", f"{why}; it is started again within {delay:g} s")
                await self._sleep(delay)
                self._hold(LOADING)
            if other is not None:
                if await self._try(slot, other) is not None:
                    return
            else:
                try:
                    process = await self._load(slot, probe=False)
                except EdgedError as exc:
                    logger.error("cannot restart: %s", exc, extra={"digest": slot.digest})  # noqa: TRY400
                else:
                    self._open(process)
                    return
            self.deaths += 1
            self._deaths_in_row += 1
            if self.on_crash is not None and self.on_crash():
                self._hold(REVERTING)
                return

    async def _bury(self, process: ModelProcess) -> None:
        """Ends a process whose link is gone, and notes how it went."""
        try:
            self._last_exit = await process.exited()
            self._exceeded = bool(process.exceeded)
        finally:  # also when a swap comes meanwhile: it may hang, and nobody else knows of it
            await process.kill()

    async def _cancel_restart(self) -> None:
        task, self._restarting = self._restarting, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _leave(self, process: ModelProcess) -> None:
        task = asyncio.get_running_loop().create_task(process.stop(), name="leave")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    # -- what the front, and whoever asks, is told

    def _open(self, process: ModelProcess) -> None:
        self._active = process
        self._front.open(process)
        self._change("serving")
        if process.lost is not None:  # before anybody was responsible for it
            self._died(process, process.lost)

    def _hold(self, why: str) -> None:
        self._front.park(missing=why)
        self._change("starting", why)

    def _close(self, code: str, why: str) -> None:
        self._front.close(RequestError(code, why))
        self._change("not_serving", why)

    def _change(self, state: str, reason: str = "") -> None:
        if self.condition != (condition := Condition(state, reason)):
            self.condition = condition
            for tell in self.on_change:
                tell(condition)
