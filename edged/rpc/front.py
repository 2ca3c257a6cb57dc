"""The queue in front of the one NPU: who is next, who waits, who is refused.

Invariants:
- Requests reach the NPU one at a time, first come first served. The backend is given
  ``Limits.ahead`` more than the one it runs, to have the next at hand when it ends one.
- A request that the backend may have begun is never given to another: if the backend dies, it is
  answered INTERNAL, because it may be what killed it, and the same bytes are not run again soon
  (``edged.rpc.deadly``).
- At most ``Limits.requests`` and ``Limits.bytes`` wait; the next one is refused at once.
- Expired and cancelled requests never reach the backend. Of those it has at hand, it skips the
  expired ones itself and is told of the cancelled ones. A caller that goes away while its request
  is with the backend does not free the NPU: the backend's answer does.
- Nothing here knows gRPC, parses a request, or sleeps.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from edged.errors import DeviceError, RequestError
from edged.rpc.deadly import Deadly
from edged.rpc.latency import Latencies

HANG_UP = 0.05  # seconds, see _count_gone


@dataclass(frozen=True)
class Limits:
    """What may wait, and how long with no model to wait for."""

    requests: int = 256
    bytes: int = 256 * 1024 * 1024
    without_model: float = 5.0  # seconds, while the model's process is started again
    ahead: int = 0  # how many more requests the backend is given while it runs one


@dataclass(frozen=True)
class Options:
    """What a caller may ask for beside the request itself.

    Attributes:
        top: how many classes to name.
        tensor_content: answers as raw bytes instead of one by one in typed fields.
        original: the caller is a client of the original service.
    """

    top: int = 1
    tensor_content: bool = False
    original: bool = False


DEFAULTS = Options()


class Reply(NamedTuple):
    """What the backend made of a request.

    Attributes:
        body: the answer as it goes to the caller.
        times: what the backend says of it, in a line of printable ASCII for the caller: JSON
            object of microseconds per stage.
        top: likewise: JSON array of the best classes; empty if the model does not classify.
    """

    body: bytes
    times: str
    top: str


class Answer(NamedTuple):
    """A reply, and what happened on the way to it.

    Attributes:
        reply: of the backend.
        digest: of the model that replied.
        queued_us: microseconds from arrival until the NPU was free for this request.
        parked_us: the part of ``queued_us`` in which no request was let through.
    """

    reply: Reply
    digest: str
    queued_us: int
    parked_us: int


class RefusedError(RequestError):
    """The request was never begun; with a code that passes, it may be sent again."""


class NotBegunError(DeviceError):
    """The backend is gone, and never had the whole request: it may be given to another."""


class Backend(Protocol):
    """What runs requests: a model's process on the NPU."""

    digest: str

    def predict(
        self,
        body: bytes,
        deadline: float | None,
        options: Options,
        done: Callable[[Reply | Exception], None],
    ) -> Callable[[], None]:
        """Runs one request.

        Args:
            body: of the request.
            deadline: of the caller on ``time.monotonic``, in seconds; None for no deadline.
            options: of the caller.
            done: called once when the request has ended, never from within this call: with the
                reply, a ``RequestError`` or a ``DeviceError``. With ``NotBegunError`` the request
                gets its place in the line back; ``CANCELLED`` says that it was skipped.

        Returns:
            What tells the backend that nobody waits for the reply any more; ``done`` is called
            all the same.
        """


@dataclass
class Counts:
    """Since the start, but for what waits now."""

    answered: int = 0
    failed: int = 0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request that was accepted. Times are the front's clock's, in seconds."""

    number: int
    body: bytes
    deadline: float | None
    options: Options
    arrived: float
    parked_before: float
    answer: asyncio.Future[Answer]
    cancel: Callable[[], None] | None = None  # tells the backend, once it has the request
    queued_us: int = 0
    parked_us: int = 0
    digest: str = ""


class Front:
    """Gives requests to the backend in turn.

    It is open (``open``), parked (``park``: requests wait) or closed (``close``: they are refused).
    It begins closed.

    Attributes:
        counts: since the start.
        ahead: how many more requests the backend is given while it runs one.
        on_answer: told of each answer: the reply, the digest of its model, and the seconds since
            its request arrived. It is in the way of every request, so it has to be cheap, and must
            not raise.
    """

    def __init__(
        self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts = Counts()
        self.latencies = Latencies()
        self.ahead = (limits or Limits()).ahead  # may be changed at any time
        self.on_answer: Callable[[Reply, str, float], None] | None = None
        self._limits = limits or Limits()
        self._clock = clock
        self._backend: Backend | None = None
        self._closed: RequestError | None = RequestError("UNAVAILABLE", "edged is starting")
        self._deadly = Deadly(clock)
        self._numbers = itertools.count()
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._given: deque[_Waiting] = deque()  # to the backend; the first is the one it runs
        self._idle: asyncio.Future[None] | None = None  # for those who wait until none is given
        # Parked time so far, and since when it runs.
        self._parked_total = 0.0
        self._parked_since: float | None = None
        # While there is no model to wait for: why, since when, and the timer of the first in line.
        self._missing: str | None = None
        self._missing_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def queued(self) -> int:
        """How many requests wait, those that the backend has at hand too."""
        return len(self._queue) + max(len(self._given) - 1, 0)

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait with them."""
        if len(self._given) <= 1:
            return self._queued_bytes
        at_hand = itertools.islice(self._given, 1, None)
        return self._queued_bytes + sum(len(each.body) for each in at_hand)

    # -- what callers do

    async def predict(
        self, body: bytes, deadline: float | None = None, options: Options = DEFAULTS
    ) -> Answer:
        """Returns the model's answer to ``body``.

        Args:
            body: a PredictRequest as it came off the wire.
            deadline: on the front's clock, in seconds; None for a caller who waits for ever.
            options: of the caller.

        Raises:
            RequestError: it was refused, came too late, or the model could not answer it.
        """
        self._refuse(body)
        now = self._clock()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = _Waiting(
            next(self._numbers), body, deadline, options, now, self._parked(now), answer
        )
        self._queue.append(request)
        self._queued_bytes += len(body)
        if self._missing is not None:
            self._watch_first()
        self._next()
        try:
            return await answer
        except asyncio.CancelledError:
            self._withdraw(request)
            raise

    def _refuse(self, body: bytes) -> None:
        """Raises if a request of these bytes may not join the queue."""
        limits, size = self._limits, len(body)
        refusal = self._closed
        if self._stopping:
            refusal = RequestError("UNAVAILABLE", "edged is stopping")
        elif self.queued >= limits.requests:
            refusal = RequestError(
                "RESOURCE_EXHAUSTED",
                f"{self.queued} requests wait already, limit {limits.requests}; send fewer at a "
                "time",
            )
        elif self.queued_bytes + size > limits.bytes:
            refusal = RequestError(
                "RESOURCE_EXHAUSTED",
                f"{self.queued_bytes} bytes wait already and the request has {size}, limit "
                f"{limits.bytes}; send fewer at a time",
            )
        else:
            refusal = refusal or self._deadly.refusal(body)
        if refusal is not None:
            self.counts.refused += 1
            raise RefusedError(refusal.code, str(refusal))

    def _withdraw(self, request: _Waiting) -> None:
        if request in self._queue:
            self._queue.remove(request)
            self._queued_bytes -= len(request.body)
            self._count_gone(request)
        elif request.cancel is not None and request in self._given:
            request.cancel()

    def _count_gone(self, request: _Waiting) -> None:
        # A caller whose time is up hangs up, and its clock is ahead of ours by the way to us.
        if request.deadline is not None and self._clock() >= request.deadline - HANG_UP:
            self.counts.expired += 1
        else:
            self.counts.cancelled += 1

    # -- what the model's keeper does

    def open(self, backend: Backend) -> None:
        """Lets requests through to ``backend``, those that waited first."""
        self._backend, self._closed = backend, None
        self._deadly.serve(backend.digest)
        self.latencies.serve(backend.digest)
        self._parked_total = self._parked(self._clock())
        self._parked_since = None
        self._forget_missing()
        self._next()

    def park(self, missing: str | None = None) -> None:
        """Holds requests from now on; one that is running goes on.

        Args:
            missing: says why there is no model, if there is none to wait for; then a request waits
                at most ``Limits.without_model``.
        """
        self._backend = self._closed = None
        if self._parked_since is None:
            self._parked_since = self._clock()
        if missing is None:
            self._forget_missing()
            return
        if self._missing is None:  # else those who wait have waited since then
            self._missing_since = self._clock()
        self._missing = missing
        self._watch_first()

    def close(self, refusal: RequestError) -> None:
        """Refuses requests from now on, those that wait too; one that is running goes on."""
        self.park()
        self._closed = refusal
        while self._queue:
            self._turn_away(self._take(), refusal)

    def shut(self) -> None:
        """Refuses new requests for good; those accepted are still served."""
        self._stopping = True

    async def drained(self) -> None:
        """Returns when no request is with the backend."""
        while self._given:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def _parked(self, now: float) -> float:
        """Returns for how long requests have been held in all, until ``now``."""
        return self._parked_total + (now - self._parked_since if self._parked_since else 0.0)

    # -- the line

    def _next(self) -> None:
        """Gives the first in line to the backend, if both are there."""
        while self._queue and self._backend is not None and len(self._given) <= self.ahead:
            request = self._take()
            now = self._clock()
            if request.deadline is not None and now >= request.deadline:
                self.counts.expired += 1
                self._end(request, RequestError("DEADLINE_EXCEEDED", "it waited too long"))
                continue
            deadly = self._deadly.refusal(request.body)
            if deadly is not None:
                self._turn_away(request, deadly)
                continue
            request.digest = self._backend.digest
            self._given.append(request)
            if len(self._given) == 1:  # before the backend is told: it may take this very core
                self._reached(request)
            done = functools.partial(self._finish, request)
            request.cancel = self._backend.predict(
                request.body, request.deadline, request.options, done
            )

    def _reached(self, request: _Waiting) -> None:
        """Notes that the NPU is free for a request."""
        now = self._clock()
        request.queued_us = round((now - request.arrived) * 1e6)
        request.parked_us = round((self._parked(now) - request.parked_before) * 1e6)

    def _take(self) -> _Waiting:
        request = self._queue.popleft()
        self._queued_bytes -= len(request.body)
        return request

    def _finish(self, request: _Waiting, outcome: Reply | Exception) -> None:
        """Runs when the backend has ended its request, one way or the other."""
        self._given.remove(request)
        if self._given:
            self._reached(self._given[0])
        elif self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
        if isinstance(outcome, Reply):
            self.counts.answered += 1
            self.latencies.note(self._clock() - request.arrived)
            self._deadly.answered(request.body)
            if self.on_answer is not None:
                self.on_answer(outcome, request.digest, self._clock() - request.arrived)
            if not request.answer.done():
                request.answer.set_result(
                    Answer(outcome, request.digest, request.queued_us, request.parked_us)
                )
        elif isinstance(outcome, NotBegunError):
            self._put_back(request)
        else:
            if isinstance(outcome, DeviceError):
                self._deadly.note(request.body, request.digest)
            self._fail(request, _seen_by_caller(outcome))
        self._next()

    def _fail(self, request: _Waiting, seen: RequestError) -> None:
        if seen.code == "DEADLINE_EXCEEDED":  # while the backend had it at hand, or ran it
            self.counts.expired += 1
        elif seen.code == "CANCELLED" and request.answer.done():
            self._count_gone(request)
        else:
            self.counts.failed += 1
        self._end(request, seen)

    def _put_back(self, request: _Waiting) -> None:
        """Gives a request its place in the line back; nobody else has been given one since."""
        if self._closed is not None:
            self._turn_away(request, self._closed)
        elif request.answer.done():
            self._count_gone(request)
        else:
            place = sum(each.number < request.number for each in self._queue)
            self._queue.insert(place, request)
            self._queued_bytes += len(request.body)
            if self._missing is not None:
                self._watch_first()

    def _turn_away(self, request: _Waiting, refusal: RequestError) -> None:
        self.counts.refused += 1
        self._end(request, RefusedError(refusal.code, str(refusal)))

    def _end(self, request: _Waiting, error: RequestError) -> None:
        if not request.answer.done():
            request.answer.set_exception(error)

    # -- waiting without a model

    def _forget_missing(self) -> None:
        self._missing = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_first(self) -> None:
        """Arms the timer for the first in line; those behind it came later, and end later."""
        if self._timer is not None or not self._queue:
            return
        since = max(self._queue[0].arrived, self._missing_since)
        delay = since + self._limits.without_model - self._clock()
        self._timer = asyncio.get_running_loop().call_later(max(delay, 0.0), self._give_up_first)

    def _give_up_first(self) -> None:
        self._timer = None
        horizon = self._clock() - self._limits.without_model
        while self._queue and max(self._queue[0].arrived, self._missing_since) <= horizon:
            self.counts.failed += 1
            self._end(self._take(), RefusedError("UNAVAILABLE", self._missing or "no model"))
        self._watch_first()


def _seen_by_caller(error: Exception) -> RequestError:
    """Returns what a caller is told; the cause of an unexpected error is not for them."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, DeviceError):
        return RequestError(
            "INTERNAL",
            "the model's process ended while it ran this request, which will not be run again; "
            "see the device's log",
        )
    return RequestError("INTERNAL", "internal error; see the device's log")
