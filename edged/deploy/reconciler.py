"""Takes deployments from state to state, one at a time, in the order they were asked for.

Invariants:
- One change of what is in service at a time: deployments and ``undeploy`` wait for each other.
- Every deployment that was accepted ends in a terminal state, also when the daemon stops.
- Whoever watches a deployment sees every state it went through, whenever they began to watch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Generic

from edged.deploy.ports import Candidate, Npu
from edged.deploy.states import TERMINAL, next_state
from edged.deploy.steps import Steps, Work
from edged.deploy.types import Event, Limits, Progress, State
from edged.errors import EdgedError, RequestError

if TYPE_CHECKING:
    from edged.deploy.store import Store

logger = logging.getLogger(__name__)

WAITING_LIMIT = 16
STOPPING = "edged is stopping"


class Deployment:
    """One request to bring a model into service, for whoever wants to watch it."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.progress = Progress(State.QUEUED)
        self._states: list[Progress] = []
        self._told = asyncio.Event()

    def tell(self, progress: Progress) -> None:
        """Notes what is new, for those who watch."""
        self.progress = progress
        if self._states and self._states[-1].state is progress.state:
            self._states[-1] = progress
        else:
            self._states.append(progress)
        # Those who wait now are woken; those who come later wait for the next news.
        self._told.set()
        self._told = asyncio.Event()

    async def watch(self) -> AsyncIterator[Progress]:
        """Yields the progress of each state from the first on, up to a terminal one.

        Within a state only the latest is yielded.
        """
        seen, last = 0, None
        while True:
            told = self._told
            for index in range(max(seen - 1, 0), len(self._states)):
                progress = self._states[index]
                if progress is not last:
                    last, seen = progress, index + 1
                    yield progress
                    if progress.state in TERMINAL:
                        return
            if told is self._told:
                await told.wait()


class Reconciler(Generic[Candidate]):
    """Changes what is in service.

    Args:
        npu: where models run.
        store: where they are kept.
        limits: of the steps.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        npu: Npu[Candidate],
        store: Store,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.deployments = 0
        self.reverts = 0
        self.under_way: Deployment | None = None
        self._npu = npu
        self._store = store
        self._limits = limits or Limits()
        self._clock = clock
        self._steps: Steps[Candidate] = Steps(npu, store, self._limits, clock, self._news)
        self._jobs: deque[Callable[[], Awaitable[None]]] = deque()
        self._wake = asyncio.Event()
        self._stopped = False
        self._began = 0.0

    @property
    def waiting(self) -> int:
        """How many changes wait for their turn."""
        return len(self._jobs)

    def deploy(self, reference: str) -> Deployment:
        """Queues a deployment and returns it.

        Raises:
            RequestError: too many wait, or the daemon is stopping.
        """
        deployment = Deployment(reference)
        self._queue(lambda: self._deploy(deployment))
        deployment.tell(deployment.progress)
        return deployment

    async def undeploy(self) -> str:
        """Takes the model out of service; returns its digest, empty if there was none.

        Raises:
            RequestError: too many changes wait, or the daemon is stopping.
            StoreError: the disk failed, and the model serves on.
        """
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def job() -> None:
            try:
                digest = await self._undeploy()
            except EdgedError as exc:
                if not done.done():
                    done.set_exception(exc)
            except asyncio.CancelledError:
                if not done.done():
                    done.set_exception(RequestError("UNAVAILABLE", STOPPING))
                raise
            else:
                if not done.done():
                    done.set_result(digest)

        self._queue(job)
        return await done

    def _queue(self, job: Callable[[], Awaitable[None]]) -> None:
        if self._stopped:
            raise RequestError("UNAVAILABLE", STOPPING)
        if len(self._jobs) >= WAITING_LIMIT:
            raise RequestError(
                "RESOURCE_EXHAUSTED", f"{WAITING_LIMIT} deployments wait already; try again later"
            )
        self._jobs.append(job)
        self._wake.set()

    async def run(self, begun: asyncio.Task[None]) -> None:
        """Works until it is cancelled; what is under way is then given up, and what waits fails.

        Args:
            begun: brings what was in service before the start back into it; goes first.
        """
        try:
            await asyncio.wait([begun])
            await asyncio.to_thread(self._store.collect)  # what a crash may have left
            while True:
                while self._jobs:
                    await self._jobs.popleft()()
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._stopped = True
            # Each of them finds that it is too late and tells those who watch.
            while self._jobs:
                await self._jobs.popleft()()

    async def _undeploy(self) -> str:
        if self._stopped:
            raise RequestError("UNAVAILABLE", STOPPING)
        serving = self._npu.serving
        previous = serving or self._store.current or self._store.previous
        self._store.commit(None, previous=previous)
        await self._npu.empty(self._limits.drain)
        await asyncio.to_thread(self._store.collect)
        digest = serving.digest if serving else ""
        logger.info("model taken out of service", extra={"event": "undeploy", "digest": digest})
        return digest

    # -- a deployment

    async def _deploy(self, deployment: Deployment) -> None:
        work: Work[Candidate] = Work(deployment.reference)
        self.under_way, self._began = deployment, self._clock()
        self.deployments += 1
        state = next_state(State.QUEUED, Event.DONE)
        error = ""
        if self._stopped:
            state, error = State.FAILED, STOPPING
        try:
            while state not in TERMINAL:
                self._enter(work, state)
                event, why = await self._step(work, state)
                error = error or why
                state = next_state(state, event)
            if state is State.COMMITTED:
                await asyncio.to_thread(self._store.collect)
        except asyncio.CancelledError:
            state = State.REVERTED if work.parked_at is not None else State.FAILED
            error = STOPPING
            await self._steps.give_up(work)
            raise
        finally:
            self.reverts += state is State.REVERTED
            self._end(work, state, error)
            self.under_way = None

    async def _step(self, work: Work[Candidate], state: State) -> tuple[Event, str]:
        """Returns how the step of ``state`` ended, and why if it failed."""
        try:
            return await self._steps.of[state](work), ""
        except EdgedError as exc:
            return Event.ERROR, str(exc)
        except Exception:
            # A fault of ours, or the disk's in an unexpected place: what serves must serve on.
            logger.exception("cannot %s %s", state.value, work.reference)
            return Event.ERROR, f"cannot {state.value}: internal error; see the device's log"

    def _enter(self, work: Work[Candidate], state: State) -> None:
        fields = {"event": "deploy", "state": state.value, "digest": work.digest}
        logger.debug("%s", work.reference, extra=fields)
        if self.under_way is not None:
            self.under_way.tell(self._progress(work, state))

    def _news(self, work: Work[Candidate]) -> None:
        deployment = self.under_way
        if deployment is not None and deployment.progress.state not in TERMINAL:
            deployment.tell(self._progress(work, deployment.progress.state))

    def _end(self, work: Work[Candidate], state: State, error: str) -> None:
        progress = self._progress(work, state, error)
        fields = {"event": "deploy", "state": state.value, "digest": work.digest}
        if error:
            logger.error("%s did not come into service: %s", work.reference, error, extra=fields)
        else:
            logger.info("%s is in service", work.reference, extra=fields)
        if self.under_way is not None:
            self.under_way.tell(progress)

    def _progress(self, work: Work[Candidate], state: State, error: str = "") -> Progress:
        return Progress(
            state=state,
            digest=work.digest,
            detail=work.detail,
            elapsed_us=round((self._clock() - self._began) * 1e6),
            bytes_done=work.bytes_done,
            bytes_total=work.bytes_total,
            error=error,
            parked_us=work.parked_us,
        )
