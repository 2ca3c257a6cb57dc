"""A process that gives no sign of life is ended and started again; a busy one is left alone."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from edged.deploy.types import Slot
from edged.errors import RequestError
from edged.model import heartbeat
from edged.model.heartbeat import Heartbeat
from edged.model.process import ModelProcess
from tests.unit.model.test_service import World, until, with_service

__all__ = ["with_service"]

TICK, LIMIT = 0.05, 0.4  # seconds


class Watched:
    """A world whose model's process is looked after."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 0.0
        self.heart = Heartbeat(world.service, limit=LIMIT)
        self._task = asyncio.create_task(self.heart.run(TICK))

    async def begin(self, slot: Slot) -> ModelProcess:
        await self.world.service.begin(slot, None)
        return self.process

    @property
    def process(self) -> ModelProcess:
        process = self.world.service.process
        assert process is not None
        return process

    async def is_replaced(self, process: ModelProcess) -> None:
        await until(lambda: self.world.service.answering and self.process is not process)

    def close(self) -> None:
        self._task.cancel()


def test_a_silent_process_that_answers_its_heartbeat_stays(with_service: Any) -> None:
    async def test(world: World) -> None:
        watched = Watched(world)
        process = await watched.begin(world.slot("m"))
        greeted = process.heard
        await until(lambda: process.heard > greeted + 5 * TICK)
        assert watched.process is process
        assert watched.heart.age is not None
        assert watched.heart.age < LIMIT
        assert watched.heart.trouble() == ""
        watched.close()

    with_service(test)


@pytest.mark.parametrize("busy", [False, True])
def test_a_process_that_is_stopped_is_replaced(busy: bool, with_service: Any) -> None:
    async def test(world: World) -> None:
        watched = Watched(world)
        process = await watched.begin(world.slot("m"))
        asked: asyncio.Task[bytes] | None = None
        if busy:
            pipe = world.folder / "pipe"
            os.mkfifo(pipe)
            asked = asyncio.create_task(world.ask(b"wait %s" % os.fsencode(pipe)))
            await until(lambda: process.busy)
        os.kill(process.pid, signal.SIGSTOP)
        await watched.is_replaced(process)
        if asked is not None:
            # It may be what did it: it is not run again.
            with pytest.raises(RequestError, match="ended while it ran"):
                await asked
        assert await world.ask(b"x") == b"m:x"
        watched.close()

    with_service(test)


def test_a_request_that_came_when_it_was_stopped_is_answered_by_the_next(with_service: Any) -> None:
    async def test(world: World) -> None:
        watched = Watched(world)
        process = await watched.begin(world.slot("m"))
        os.kill(process.pid, signal.SIGSTOP)
        await until(lambda: process.busy)  # it is asked whether it is there
        assert await world.ask(b"x") == b"m:x"
        assert watched.process is not process
        watched.close()

    with_service(test)


def test_one_that_runs_but_does_not_answer_is_replaced(with_service: Any) -> None:
    async def test(world: World) -> None:
        watched = Watched(world)
        process = await watched.begin(world.slot("m", beat="hang"))
        await until(lambda: process.lost is not None)
        assert world.service.deaths == 1
        watched.close()

    with_service(test)


def test_an_npu_that_does_not_answer_is_a_dead_one(with_service: Any) -> None:
    async def test(world: World) -> None:
        watched = Watched(world)
        process = await watched.begin(world.slot("m", beat="refuse"))
        await until(lambda: process.lost is not None)
        watched.close()

    with_service(test)


def test_one_that_was_stopped_for_a_moment_stays(with_service: Any) -> None:
    async def test(world: World) -> None:
        watched = Watched(world)
        process = await watched.begin(world.slot("m"))
        os.kill(process.pid, signal.SIGSTOP)
        await until(lambda: process.busy)
        os.kill(process.pid, signal.SIGCONT)
        await until(lambda: not process.busy)
        assert await world.ask(b"x") == b"m:x"
        assert watched.process is process
        assert world.service.deaths == 0
        watched.close()

    with_service(test)


def test_what_stands_still_is_said_to_whoever_watches_the_daemon(with_service: Any) -> None:
    async def test(world: World) -> None:
        now = 0.0
        heart = Heartbeat(world.service, clock=lambda: now)
        assert heart.trouble() == ""  # nothing is deployed
        now = heartbeat.STANDSTILL + 1
        assert "nobody has looked after" in heart.trouble()
        task = asyncio.create_task(heart.run())
        await until(lambda: heart.trouble() == "")
        # It begins with `starting`, and nobody does anything about it.
        task.cancel()
        for now in range(int(heartbeat.CHANGE_LIMIT) + 2):
            await heart._look(1.0)
            heart._looked = now
        assert heart.trouble() == f"the model has been starting for {now:.0f} s"

    with_service(test)
