"""Takes deployments from state to state, one at a time; the newest target wins.

Invariants:
- One change of what is in service at a time: whoever changes it holds ``_device``.
- A newer target (a deployment, a rollback, an undeploy) overtakes those before it that have not
  committed: they end as cancelled. The same target again does not; it waits, and finds what it
  wants in service.
- Every deployment that was accepted ends in one of ``states.ENDS``, also when the daemon stops, and
  whoever watches sees every state it went through, whenever they began to watch.
- A deployment that edged did not survive is taken up again at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from edged.deploy.deployment import Deployment
from edged.deploy.journal import ATTEMPTS, Unfinished
from edged.deploy.ports import Candidate, Npu
from edged.deploy.states import ENDS, TABLE, next_state
from edged.deploy.steps import Steps
from edged.deploy.trial import Trial
from edged.deploy.types import Cause, Event, Fault, Limits, Options, Progress, Slot, State
from edged.deploy.upkeep import Upkeep
from edged.deploy.work import Work
from edged.errors import CrashError, EdgedError, ModelError, RequestError, VerifyError
from edged.oci.registries import Registries

if TYPE_CHECKING:
    from edged.deploy.clock import Moment
    from edged.deploy.records import Records
    from edged.deploy.store import Store

logger = logging.getLogger(__name__)

STOPPING = "edged is stopping"
PREVIOUS = "previous"  # how a rollback's target is called until it is known


@dataclass(eq=False)
class Undeployment:
    """One request to take the model out of service."""

    done: asyncio.Future[str]
    options: Options

    def __str__(self) -> str:
        return "undeploy"


class Reconciler(Generic[Candidate]):
    """Changes what is in service.

    Args:
        npu: where models run.
        store: where they are kept.
        records: what is kept about them.
        limits: of the steps.
        clock: monotonic, in seconds.
        registries: how registries are spoken to.

    Attributes:
        deployments, reverts: since the start.
        under_way: the deployment that is worked on.
        on_change: told of news: of a deployment, of the history, of what is in service.
    """

    def __init__(
        self,
        npu: Npu[Candidate],
        store: Store,
        records: Records,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        registries: Registries | None = None,
    ) -> None:
        self.deployments = 0
        self.reverts = 0
        self.under_way: Deployment | None = None
        self.on_change: list[Callable[[], None]] = []
        self._npu = npu
        self._store = store
        self._records = records
        self._limits = limits or Limits()
        self._clock = clock
        self._steps: Steps[Candidate] = Steps(
            npu,
            store,
            records.admission,
            self._limits,
            clock,
            self._news,
            self._may_park,
            registries or Registries(),
        )
        self._targets: deque[Deployment | Undeployment] = deque()
        self._wake = asyncio.Event()
        self._stopped = False
        self._work: Work[Candidate] | None = None
        self._loading: asyncio.Future[Event] | None = None
        self._device = asyncio.Lock()
        self.trial: Trial[Candidate] = Trial(npu, store, records, self._limits, clock, self._device)
        self.trial.on_change = self._changed
        self.upkeep: Upkeep[Candidate] = Upkeep(npu, self._limits, self._device, clock)
        npu.on_crash = self.trial.crashed
        npu.on_other = self._other_serves

    @property
    def waiting(self) -> int:
        """How many changes wait for their turn."""
        return len(self._targets)

    # -- what operators ask for

    def deploy(self, reference: str, options: Options | None = None) -> Deployment:
        """Queues a deployment and returns it, or the same one that waits already.

        Raises:
            RequestError: the device is held, or the daemon is stopping.
        """
        return self._queue_deployment(Deployment(reference, Cause.DEPLOY, options))

    def rollback(self, options: Options | None = None) -> Deployment:
        """Queues a deployment of the previous model, from the store.

        Raises:
            RequestError: there is none, the device is held, or the daemon is stopping.
        """
        if self._store.previous is None:
            raise RequestError(
                "FAILED_PRECONDITION", "cannot roll back: there is no previous model"
            )
        return self._queue_deployment(Deployment(PREVIOUS, Cause.ROLLBACK, options))

    def _queue_deployment(self, new: Deployment) -> Deployment:
        for waiting in self._targets:
            if new.is_same_target(waiting) and isinstance(waiting, Deployment):
                return waiting
        self._queue(new)
        return new

    async def undeploy(self, options: Options | None = None) -> str:
        """Takes the model out of service; returns its digest, empty if there was none.

        Raises:
            RequestError: the device is held, the daemon is stopping, or a newer target came.
            StoreError: the disk failed, and the model serves on.
        """
        new = Undeployment(asyncio.get_running_loop().create_future(), options or Options())
        for waiting in self._targets:
            if isinstance(waiting, Undeployment) and waiting.options == new.options:
                return await asyncio.shield(waiting.done)
        self._queue(new)
        return await asyncio.shield(new.done)

    def _queue(self, target: Deployment | Undeployment) -> None:
        if self._stopped:
            raise RequestError("UNAVAILABLE", STOPPING)
        what = f"deploy {target}" if isinstance(target, Deployment) else "undeploy"
        self._records.holds.check(what, force=target.options.force)
        while self._targets:
            self._cancel_waiting(self._targets.popleft(), str(target))
        if self.under_way is not None and not self.under_way.is_same_target(target):
            self._overtake(self.under_way, str(target))
        self._targets.append(target)
        self._wake.set()

    def _cancel_waiting(self, target: Deployment | Undeployment, by: str) -> None:
        if isinstance(target, Undeployment):
            if not target.done.done():
                target.done.set_exception(RequestError("ABORTED", f"overtaken by {by}"))
            return
        target.overtaken_by = by
        work: Work[Candidate] = Work(target, self._npu.serving, self._clock())
        work.fault = Fault.OVERTAKEN
        target.tell(work.progress(State.CANCELLED, self._clock(), target.reason))

    def _overtake(self, deployment: Deployment, by: str) -> None:
        """Cancels the deployment under way, unless it has committed by the end of this step."""
        deployment.overtaken_by = by
        if self._work is not None:
            self._steps.abandon(self._work)
        if self._loading is not None:
            self._loading.cancel()

    # -- the loop

    async def run(
        self, begun: asyncio.Task[None], examine: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Works until it is cancelled; what is under way is then given up, and what waits fails.

        Args:
            begun: brings what was in service before the start back into it; goes first.
            examine: looks at the store before anything in it is changed.
        """
        try:
            await asyncio.wait([begun])
            self._records.started(self._store.current)
            if self._store.on_trial:
                self.trial.begin(self._records.history.open_window)
            if examine is not None:
                await examine()
            await self._take_up()
            while True:
                while self._targets:
                    await self._change(self._targets.popleft())
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._stopped = True
            self.trial.stop()
            while self._targets:
                self._refuse(self._targets.popleft())

    async def _take_up(self) -> None:
        """Goes on where edged ended, however it ended."""
        current = self._store.current
        unfinished = self._records.journal.read()
        if unfinished is None:
            await asyncio.to_thread(self._store.collect)  # what a crash may have left
            return
        if current is not None and current.digest == unfinished.digest:
            self._records.ended_after_commit(unfinished, current)
        elif unfinished.attempts >= ATTEMPTS:
            self._records.given_up(unfinished)
        elif not self._targets:  # else there is a newer one
            logger.info("going on with the deployment of %s", unfinished.reference)
            again = unfinished.attempts + 1
            self._targets.append(
                Deployment(unfinished.reference, unfinished.cause, unfinished.options, again)
            )

    def _refuse(self, target: Deployment | Undeployment) -> None:
        if isinstance(target, Undeployment):
            if not target.done.done():
                target.done.set_exception(RequestError("UNAVAILABLE", STOPPING))
            return
        work: Work[Candidate] = Work(target, self._npu.serving, self._clock())
        work.fault = Fault.STOPPING
        target.tell(work.progress(State.FAILED, self._clock(), STOPPING))

    async def _change(self, target: Deployment | Undeployment) -> None:
        if isinstance(target, Deployment):
            await self._deploy(target)
            return
        try:
            digest = await self._undeploy(target.options)
        except EdgedError as exc:
            if not target.done.done():
                target.done.set_exception(exc)
        except asyncio.CancelledError:
            if not target.done.done():
                target.done.set_exception(RequestError("UNAVAILABLE", STOPPING))
            raise
        else:
            if not target.done.done():
                target.done.set_result(digest)

    async def _undeploy(self, options: Options) -> str:
        async with self._device:
            self._records.holds.check("undeploy", force=options.force)
            self.trial.end()
            serving = self._npu.serving
            previous = serving or self._store.current or self._store.previous
            self._store.commit(None, previous=previous)
            await self._npu.empty(self._limits.drain)
            await self._npu.dismiss()
        await asyncio.to_thread(self._records.undeployed, serving, options)
        await asyncio.to_thread(self._store.collect)
        digest = serving.digest if serving else ""
        logger.info("model taken out of service", extra={"event": "undeploy", "digest": digest})
        self._changed()
        return digest

    # -- a deployment

    async def _deploy(self, deployment: Deployment) -> None:
        work: Work[Candidate] = Work(deployment, self._npu.serving, self._clock())
        moment = self._records.now()
        self.under_way, self._work = deployment, work
        deployment.on_tell = self._changed
        self.deployments += 1
        state, error = State.FAILED, STOPPING
        try:
            await self._note(work)
            state, error = await self._go(work, next_state(State.QUEUED, Event.DONE))
        except asyncio.CancelledError:
            state = State.REVERTED if work.parked_at is not None else State.FAILED
            raise
        finally:
            await self._steps.give_up(work)
            await self._end(work, moment, state, error)

    async def _go(self, work: Work[Candidate], state: State) -> tuple[State, str]:
        """Goes through the states; returns the last one, and why it is not a better one."""
        error, deployment = "", work.deployment
        while state not in ENDS:
            if state is State.PREPARE and not deployment.overtaken_by:
                await self._take_device(work)
            if _is_overtaken(work, state):
                event, why = Event.OVERTAKEN, deployment.reason
            else:
                work.enter(state, self._clock())
                deployment.tell(work.progress(state, self._clock()))
                event, why = await self._step(work, state)
            error = error or why
            if state is State.REVERT and error and error == deployment.reason:
                event = Event.OVERTAKEN
            state = next_state(state, event)
        return state, error

    async def _take_device(self, work: Work[Candidate]) -> None:
        """From here on nobody else may change what is in service."""
        await self._device.acquire()
        work.holds_device = True
        await self._note(work)

    async def _end(self, work: Work[Candidate], moment: Moment, state: State, error: str) -> None:
        """Reports the outcome: to the disk, then to those who watch."""
        if work.is_on_trial and state is State.COMMITTED:
            self.trial.begin()
        if work.holds_device:
            self._device.release()
        self.reverts += state is State.REVERTED
        if state is State.CANCELLED:
            work.fault = Fault.OVERTAKEN
        elif error == STOPPING:
            work.fault = Fault.STOPPING
        work.enter(state, self._clock())
        progress = work.progress(state, self._clock(), error)
        try:
            record = await asyncio.to_thread(self._records.ended, work, progress, moment)
            if state is State.COMMITTED:
                if work.is_on_trial:
                    self.trial.number = record.number
                await asyncio.to_thread(self._store.collect)
        finally:  # also if the daemon stops meanwhile
            self.under_way = self._work = None
            self._log(work, progress)
            work.deployment.tell(progress)
            self.trial.look_again()

    def _log(self, work: Work[Candidate], progress: Progress) -> None:
        fields = {"event": "deploy", "state": progress.state.value, "digest": work.digest}
        if progress.error:
            text = "%s did not come into service: %s"
            logger.error(text, work.deployment, progress.error, extra=fields)
        else:
            logger.info("%s is in service", work.deployment, extra=fields)

    async def _step(self, work: Work[Candidate], state: State) -> tuple[Event, str]:
        """Returns how the step of ``state`` ended, and why if it failed."""
        step = asyncio.ensure_future(self._steps.of[state](work))
        self._loading = step if state is State.PREPARE else None
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError:
            step.cancel()
            await asyncio.wait([step])
            raise
        finally:
            self._loading = None
        if step.cancelled():
            return Event.OVERTAKEN, work.deployment.reason
        error = step.exception()
        if _is_overtaken(work, state):
            return Event.OVERTAKEN, work.deployment.reason
        if error is None:
            return step.result(), ""
        if work.fault is Fault.NONE:
            work.fault = _fault(error, examined=bool(work.digest) and work.admitted is None)
        if isinstance(error, EdgedError):
            tried = state not in (State.FETCH, State.VERIFY)
            work.own_fault = tried and isinstance(error, ModelError | CrashError)
            return Event.ERROR, str(error)
        # A fault of ours, or the disk's in an unexpected place: what serves must serve on.
        logger.error("cannot %s %s", state.value, work.deployment, exc_info=error)
        why = str(error) if isinstance(error, OSError) else "internal error; see the device's log"
        return Event.ERROR, f"cannot {state.value}: {why}"

    def _may_park(self, work: Work[Candidate]) -> None:
        what = f"deploy {work.deployment}"
        self._records.holds.check(what, force=work.deployment.options.force)

    async def _note(self, work: Work[Candidate]) -> None:
        """Makes sure that a crash does not forget it."""
        asked = work.deployment
        unfinished = Unfinished(
            asked.cause, asked.reference, asked.options, asked.attempts, work.digest
        )
        await asyncio.to_thread(self._records.journal.note, unfinished)

    def _other_serves(self, slot: Slot, why: str) -> None:
        """Runs when the current model did not come up, and the previous one did."""
        self.trial.end()
        self._records.other_serves(self._store, slot, why)
        self._changed()

    def _changed(self) -> None:
        for tell in self.on_change:
            tell()

    def _news(self, work: Work[Candidate]) -> None:
        deployment = work.deployment
        if deployment.progress.state not in ENDS:
            deployment.tell(work.progress(deployment.progress.state, self._clock()))


def _is_overtaken(work: Work[Candidate], state: State) -> bool:
    """Whether a newer target ends this deployment in this state; a revert goes on to its end."""
    return (
        bool(work.deployment.overtaken_by)
        and state is not State.REVERT
        and Event.OVERTAKEN in TABLE[state]
    )


def _fault(error: BaseException, *, examined: bool) -> Fault:
    """Returns whose fault an error of a step is.

    Args:
        error: what the step raised.
        examined: whether it was being decided whether the image may come in.
    """
    if isinstance(error, ModelError | CrashError):
        return Fault.MODEL
    if isinstance(error, VerifyError) and examined:
        return Fault.MODEL
    # No other step asks for a hold, and nothing else refuses one.
    return Fault.HELD if isinstance(error, RequestError) else Fault.PASSING
