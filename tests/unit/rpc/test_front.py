"""The queue in front of the NPU keeps its order, its limits and its word."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DeviceError, RequestError
from edged.rpc.front import Answer, Front, Limits, NotBegunError, Options, Reply

Done = Callable[[Reply | Exception], None]
NOTHING = Reply(b"", "{}", "[]")


class Backend:
    """Runs requests when the test says so."""

    def __init__(self, digest: str = "sha256:1") -> None:
        self.digest = digest
        self.given: list[bytes] = []
        self.deadlines: list[float | None] = []
        self.running: Done | None = None
        self.cancelled: list[bytes] = []

    def predict(
        self, body: bytes, deadline: float | None, options: Options, done: Done
    ) -> Callable[[], None]:
        assert self.running is None, "two requests on the NPU"
        self.given.append(body)
        self.deadlines.append(deadline)
        self.running = done
        return functools.partial(self.cancelled.append, body)

    async def finish(self, error: Exception | None = None) -> None:
        """Ends the running request and lets everybody notice."""
        assert self.running is not None
        done, self.running = self.running, None
        done(error or Reply(b"answer to " + self.given[-1], '{"npu":1}', "[]"))
        await settle()


class Clock:
    """Time that moves when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    """Lets every task run until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


def ask(front: Front, body: bytes, **kwargs: Any) -> asyncio.Task[Answer]:
    return asyncio.get_running_loop().create_task(front.predict(body, **kwargs))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test, debug=True)


def refusal(task: asyncio.Task[Answer]) -> RequestError:
    error = task.exception()
    assert isinstance(error, RequestError)
    return error


def test_requests_are_answered_in_their_order_one_at_a_time() -> None:
    async def test() -> None:
        front, backend = Front(), Backend()
        front.open(backend)
        tasks = [ask(front, b"%d" % n) for n in range(4)]
        await settle()
        assert (backend.given, front.queued, front.queued_bytes) == ([b"0"], 3, 3)
        for number, task in enumerate(tasks):
            await backend.finish()
            answer = await task
            assert answer.reply.body == b"answer to %d" % number
            assert answer.digest == "sha256:1"
        assert backend.given == [b"0", b"1", b"2", b"3"]
        assert front.counts.answered == 4

    run(test())


def test_a_closed_front_refuses_with_the_reason_it_was_given() -> None:
    async def test() -> None:
        front = Front()
        with pytest.raises(RequestError, match="starting"):
            await front.predict(b"")
        front.close(RequestError("NOT_FOUND", "no model"))
        with pytest.raises(RequestError, match="no model") as caught:
            await front.predict(b"")
        assert caught.value.code == "NOT_FOUND"
        assert front.counts.refused == 2

    run(test())


def test_closing_refuses_those_who_wait_and_lets_the_running_one_end() -> None:
    async def test() -> None:
        front, backend = Front(), Backend()
        front.open(backend)
        running, waiting = ask(front, b"a"), ask(front, b"b")
        await settle()
        front.close(RequestError("NOT_FOUND", "no model"))
        await settle()
        assert refusal(waiting).code == "NOT_FOUND"
        await backend.finish()
        assert (await running).reply.body == b"answer to a"
        assert backend.given == [b"a"]

    run(test())


def test_the_number_of_waiting_requests_is_limited() -> None:
    async def test() -> None:
        front, backend = Front(Limits(requests=2)), Backend()
        front.open(backend)
        tasks = [ask(front, b"x") for _ in range(4)]
        await settle()
        error = refusal(tasks[3])
        assert error.code == "RESOURCE_EXHAUSTED"
        assert "2 requests wait" in str(error)
        assert not tasks[2].done()
        for _ in range(3):
            await backend.finish()
        await asyncio.gather(*tasks[:3])

    run(test())


def test_the_bytes_of_waiting_requests_are_limited() -> None:
    async def test() -> None:
        front, backend = Front(Limits(bytes=10)), Backend()
        front.open(backend)
        running = ask(front, b"12345678")
        await settle()
        fits = ask(front, b"1234567890")
        await settle()
        with pytest.raises(RequestError, match="10 bytes wait already and the request has 1"):
            await front.predict(b"x")
        await backend.finish()
        assert front.queued_bytes == 0
        await backend.finish()
        await asyncio.gather(running, fits)

    run(test())


def test_a_request_that_expired_in_the_queue_is_not_run() -> None:
    async def test() -> None:
        clock = Clock()
        front, backend = Front(clock=clock), Backend()
        front.open(backend)
        first, late = ask(front, b"a"), ask(front, b"b", deadline=clock.now + 1)
        last = ask(front, b"c", deadline=clock.now + 10)
        await settle()
        clock.now += 2
        await backend.finish()
        assert refusal(late).code == "DEADLINE_EXCEEDED"
        assert backend.given == [b"a", b"c"]
        assert backend.deadlines == [None, 1010.0]
        await backend.finish()
        await asyncio.gather(first, last)
        assert front.counts.expired == 1

    run(test())


@pytest.mark.parametrize(("after", "expired"), [(0.5, 0), (0.97, 1), (1.5, 1)])
def test_a_caller_who_hangs_up_leaves_the_queue(after: float, expired: int) -> None:
    async def test() -> None:
        clock = Clock()
        front, backend = Front(clock=clock), Backend()
        front.open(backend)
        first, gone = ask(front, b"a"), ask(front, b"b", deadline=clock.now + 1)
        await settle()
        clock.now += after
        gone.cancel()
        await settle()
        assert (front.queued, front.queued_bytes) == (0, 0)
        assert (front.counts.expired, front.counts.cancelled) == (expired, 1 - expired)
        await backend.finish()
        await first
        assert backend.given == [b"a"]

    run(test())


def test_a_caller_who_hangs_up_while_running_does_not_free_the_npu() -> None:
    async def test() -> None:
        front, backend = Front(), Backend()
        front.open(backend)
        gone, next_one = ask(front, b"a"), ask(front, b"b")
        await settle()
        gone.cancel()
        await settle()
        assert backend.given == [b"a"]
        await backend.finish()
        assert backend.given == [b"a", b"b"]
        await backend.finish()
        assert (await next_one).reply.body == b"answer to b"

    run(test())


def test_parked_requests_wait_and_the_time_is_said() -> None:
    async def test() -> None:
        clock = Clock()
        front, old, new = Front(clock=clock), Backend("old"), Backend("new")
        front.open(old)
        running = ask(front, b"a")
        await settle()
        front.park()
        early = ask(front, b"b")
        await settle()
        clock.now += 2
        await old.finish()
        await asyncio.wait_for(front.drained(), 1)
        assert old.given == [b"a"]
        late = ask(front, b"c")
        await settle()
        clock.now += 1
        front.open(new)
        clock.now += 4
        await new.finish()
        await new.finish()
        answers = await asyncio.gather(running, early, late)
        assert [a.digest for a in answers] == ["old", "new", "new"]
        assert [a.parked_us for a in answers] == [0, 3_000_000, 1_000_000]
        assert [a.queued_us for a in answers] == [0, 3_000_000, 5_000_000]

    run(test())


def test_drained_waits_for_the_running_request_alone() -> None:
    async def test() -> None:
        front, backend = Front(), Backend()
        front.open(backend)
        running, waiting = ask(front, b"a"), ask(front, b"b")
        await settle()
        front.park()
        drained = asyncio.ensure_future(front.drained())
        await settle()
        assert not drained.done()
        await backend.finish()
        assert drained.done()
        assert not waiting.done()
        front.open(backend)
        await settle()
        await backend.finish()
        await asyncio.gather(running, waiting)

    run(test())


def test_what_ran_when_the_backend_died_is_internal_and_not_run_again() -> None:
    async def test() -> None:
        front, old, new = Front(), Backend(), Backend()
        front.open(old)
        poison, innocent = ask(front, b"poison"), ask(front, b"innocent")
        await settle()
        front.park(missing="loading")
        await old.finish(DeviceError("the worker ended"))
        assert refusal(poison).code == "INTERNAL"
        assert "will not be run again" in str(refusal(poison))
        front.open(new)
        await settle()
        assert new.given == [b"innocent"]
        await new.finish()
        await innocent
        assert (front.counts.failed, front.counts.answered) == (1, 1)

    run(test())


def test_what_killed_and_comes_again_is_not_run_whether_it_waited_already_or_comes_later() -> None:
    async def test() -> None:
        front, old, new = Front(Limits(ahead=1)), AheadBackend(), AheadBackend()
        front.open(old)
        poison, again, innocent, third = (
            ask(front, body) for body in (b"poison", b"poison", b"innocent", b"poison")
        )
        await settle()
        front.park(missing="loading")
        await old.die()
        assert "will not be run again" in str(refusal(poison))
        with pytest.raises(RequestError, match="ended the model's process once") as caught:
            await front.predict(b"poison")
        assert caught.value.code == "INTERNAL"
        front.open(new)
        await settle()
        assert new.given == [b"innocent"]
        for each in (again, third):
            assert refusal(each).code == "INTERNAL"
        await new.finish()
        await innocent
        assert (front.counts.failed, front.counts.refused, front.counts.answered) == (1, 3, 1)

    run(test())


def test_what_the_dead_backend_never_read_stays_first_in_line() -> None:
    async def test() -> None:
        front, old, new = Front(), Backend(), Backend()
        front.open(old)
        first, second = ask(front, b"first"), ask(front, b"second")
        await settle()
        front.park(missing="loading")
        await old.finish(NotBegunError("the worker ended"))
        assert (front.queued, front.queued_bytes) == (2, 11)
        front.open(new)
        await settle()
        await new.finish()
        await new.finish()
        assert new.given == [b"first", b"second"]
        await asyncio.gather(first, second)
        assert front.counts.failed == 0

    run(test())


def test_what_was_never_read_is_refused_if_the_front_has_closed() -> None:
    async def test() -> None:
        front, backend = Front(), Backend()
        front.open(backend)
        first = ask(front, b"first")
        await settle()
        front.close(RequestError("UNAVAILABLE", "later"))
        await backend.finish(NotBegunError("the worker ended"))
        assert refusal(first).code == "UNAVAILABLE"
        assert front.queued == 0

    run(test())


def test_what_was_never_read_and_nobody_waits_for_is_dropped() -> None:
    async def test() -> None:
        front, backend = Front(), Backend()
        front.open(backend)
        first = ask(front, b"first")
        await settle()
        first.cancel()
        await settle()
        front.park(missing="loading")
        await backend.finish(NotBegunError("the worker ended"))
        assert front.queued == 0

    run(test())


class AheadBackend:
    """Takes more than one request, as a worker's socket does, and ends them in their order."""

    digest = "sha256:1"

    def __init__(self) -> None:
        self.given: list[bytes] = []
        self.under_way: list[Done] = []
        self.cancelled: list[bytes] = []

    def predict(
        self, body: bytes, deadline: float | None, options: Options, done: Done
    ) -> Callable[[], None]:
        self.given.append(body)
        self.under_way.append(done)
        return functools.partial(self.cancelled.append, body)

    async def finish(self, outcome: Reply | Exception = NOTHING) -> None:
        self.under_way.pop(0)(outcome)
        await settle()

    async def die(self) -> None:
        """The first had begun, those behind it had not."""
        for place, done in enumerate(self.under_way):
            done(NotBegunError("it ended") if place else DeviceError("it ended"))
        await settle()


def test_the_backend_has_the_next_request_at_hand_and_no_more() -> None:
    async def test() -> None:
        clock = Clock()
        front, backend = Front(Limits(ahead=1), clock=clock), AheadBackend()
        front.open(backend)
        asked = [ask(front, body) for body in (b"a", b"b", b"c")]
        await settle()
        assert (backend.given, front.queued, front.queued_bytes) == ([b"a", b"b"], 2, 2)
        clock.now += 0.005
        await backend.finish()
        assert backend.given == [b"a", b"b", b"c"]
        await backend.finish()
        await backend.finish()
        first, second, _ = await asyncio.gather(*asked)
        # Waiting at hand is waiting: the second's time on the NPU began when the first's ended.
        assert (first.queued_us, second.queued_us) == (0, 5000)

    run(test())


def test_what_was_at_hand_when_the_backend_died_is_run_by_the_next() -> None:
    async def test() -> None:
        front, old, new = Front(Limits(ahead=1)), AheadBackend(), AheadBackend()
        front.open(old)
        poison, ahead, waiting = (ask(front, body) for body in (b"poison", b"ahead", b"waiting"))
        await settle()
        front.park(missing="loading")
        await old.die()
        assert refusal(poison).code == "INTERNAL"
        front.open(new)
        await settle()
        assert new.given == [b"ahead", b"waiting"]
        await new.finish()
        await new.finish()
        await asyncio.gather(ahead, waiting)

    run(test())


def test_those_at_hand_get_their_places_back() -> None:
    async def test() -> None:
        front, old, new = Front(Limits(ahead=3)), AheadBackend(), AheadBackend()
        front.open(old)
        asked = [ask(front, b"%d" % n) for n in range(6)]
        await settle()
        front.park(missing="loading")
        await old.die()
        front.open(new)
        for _ in range(5):
            await settle()
            await new.finish()
        assert new.given == [b"1", b"2", b"3", b"4", b"5"]
        await asyncio.gather(*asked, return_exceptions=True)
        assert refusal(asked[0]).code == "INTERNAL"

    run(test())


def test_what_expires_at_hand_is_counted_as_expired() -> None:
    async def test() -> None:
        front, backend = Front(Limits(ahead=1)), AheadBackend()
        front.open(backend)
        asked = [ask(front, b"a"), ask(front, b"b")]
        await settle()
        await backend.finish()
        await backend.finish(RequestError("DEADLINE_EXCEEDED", "too late"))
        assert refusal(asked[1]).code == "DEADLINE_EXCEEDED"
        assert (front.counts.expired, front.counts.failed) == (1, 0)
        await asked[0]

    run(test())


@pytest.mark.parametrize(("after", "expired"), [(0.5, 0), (1.5, 1)])
def test_the_backend_skips_what_it_has_at_hand_and_nobody_waits_for(
    after: float, expired: int
) -> None:
    async def test() -> None:
        clock = Clock()
        front, backend = Front(Limits(ahead=1), clock=clock), AheadBackend()
        front.open(backend)
        first, gone, last = ask(front, b"a"), ask(front, b"b", deadline=1001.0), ask(front, b"c")
        await settle()
        clock.now += after
        gone.cancel()
        await settle()
        assert backend.cancelled == [b"b"]
        await backend.finish()
        await backend.finish(RequestError("CANCELLED", "skipped"))
        await backend.finish()
        await asyncio.gather(first, last)
        counts = front.counts
        assert (counts.answered, counts.failed) == (2, 0)
        assert (counts.cancelled, counts.expired) == (1 - expired, expired)

    run(test())


def test_what_was_at_hand_and_nobody_waits_for_is_not_given_to_the_next_backend() -> None:
    async def test() -> None:
        front, old, new = Front(Limits(ahead=1)), AheadBackend(), AheadBackend()
        front.open(old)
        first, gone = ask(front, b"a"), ask(front, b"b")
        await settle()
        gone.cancel()
        await settle()
        front.park(missing="loading")
        await old.die()
        front.open(new)
        await settle()
        assert (new.given, front.counts.cancelled, front.queued) == ([], 1, 0)
        assert refusal(first).code == "INTERNAL"

    run(test())


def test_drained_waits_for_the_request_at_hand_too() -> None:
    async def test() -> None:
        front, backend = Front(Limits(ahead=1)), AheadBackend()
        front.open(backend)
        asked = [ask(front, b"a"), ask(front, b"b")]
        await settle()
        front.park()
        drained = asyncio.ensure_future(front.drained())
        await backend.finish()
        assert not drained.done()
        await backend.finish()
        assert drained.done()
        await asyncio.gather(*asked)

    run(test())


def test_an_unexpected_error_is_internal_without_its_text() -> None:
    async def test() -> None:
        front, backend = Front(), Backend()
        front.open(backend)
        task = ask(front, b"a")
        await settle()
        await backend.finish(ZeroDivisionError("secret"))
        assert refusal(task).code == "INTERNAL"
        assert "secret" not in str(refusal(task))

    run(test())


def test_without_a_model_requests_wait_so_long_and_no_longer() -> None:
    async def test() -> None:
        front = Front(Limits(without_model=0.2))
        front.park(missing="the model is being loaded")
        began = asyncio.get_running_loop().time()
        first = ask(front, b"a")
        await asyncio.sleep(0.1)
        second = ask(front, b"b")
        await asyncio.wait([first])
        assert refusal(first).code == "UNAVAILABLE"
        assert "being loaded" in str(refusal(first))
        assert asyncio.get_running_loop().time() - began >= 0.19
        assert not second.done()
        await asyncio.wait([second])
        assert asyncio.get_running_loop().time() - began >= 0.29
        assert front.counts.failed == 2

    run(test())


def test_a_second_reason_does_not_begin_the_wait_anew() -> None:
    async def test() -> None:
        front = Front(Limits(without_model=0.2))
        front.park(missing="one")
        task = ask(front, b"a")
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.15)
        front.park(missing="two")
        await asyncio.wait([task])
        assert "two" in str(refusal(task))
        assert asyncio.get_running_loop().time() - began < 0.3

    run(test())


def test_a_swap_does_not_limit_the_wait() -> None:
    async def test() -> None:
        front, backend = Front(Limits(without_model=0.05)), Backend()
        front.park(missing="loading")
        front.park()
        task = ask(front, b"a")
        await asyncio.sleep(0.15)
        assert not task.done()
        front.open(backend)
        await settle()
        await backend.finish()
        await task

    run(test())


def test_a_front_that_is_shut_serves_those_it_accepted() -> None:
    async def test() -> None:
        front, backend = Front(), Backend()
        front.open(backend)
        running, waiting = ask(front, b"a"), ask(front, b"b")
        await settle()
        front.shut()
        with pytest.raises(RequestError, match="stopping") as caught:
            await front.predict(b"c")
        assert caught.value.code == "UNAVAILABLE"
        front.park()
        front.open(backend)
        with pytest.raises(RequestError, match="stopping"):
            await front.predict(b"d")
        await backend.finish()
        await backend.finish()
        await asyncio.gather(running, waiting)

    run(test())


ACTIONS = st.lists(
    st.sampled_from(
        ["ask", "cancel", "finish", "die", "unread", "park", "missing", "open", "close"]
    ),
    max_size=40,
)


@given(ACTIONS)
def test_whatever_happens_every_request_ends_once_and_nothing_is_lost(actions: list[str]) -> None:
    """Requests come, go and die in any order: at the end each was run at most once, or refused."""

    async def test() -> None:
        front, backend = Front(Limits(requests=5)), Backend()
        tasks: list[asyncio.Task[Answer]] = []
        for action in [*actions, "open"]:
            running = backend.running is not None
            if action == "ask":
                tasks.append(ask(front, b"%d" % len(tasks)))
            elif action == "cancel" and tasks:
                tasks[len(tasks) // 2].cancel()
            elif action == "finish" and running:
                await backend.finish()
            elif action in ("die", "unread") and running:
                front.park(missing="died")
                error = NotBegunError if action == "unread" else DeviceError
                await backend.finish(error("the worker ended"))
            elif action == "park":
                front.park()
            elif action == "missing":
                front.park(missing="loading")
            elif action == "open":
                front.open(backend)
            elif action == "close":
                front.close(RequestError("NOT_FOUND", "no model"))
            await settle()
            assert front.queued <= 5
        while backend.running is not None:
            await backend.finish()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (front.queued, front.queued_bytes) == (0, 0)
        counts = front.counts
        ended = counts.answered + counts.failed + counts.refused + counts.cancelled + counts.expired
        assert ended == len(tasks)
        done = [t for t in tasks if not t.cancelled() and t.exception() is None]
        assert len(done) <= counts.answered

    run(test())
