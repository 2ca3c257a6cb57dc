"""Requests about the twin, and the hub's answers to them, by ``$rid``."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable

from edged.errors import LinkError
from edged.mqtt.backoff import Backoff
from edged.mqtt.dialect import Session
from edged.mqtt.iothub.topics import TwinAnswer

logger = logging.getLogger(__name__)

ANSWER_LIMIT = 30.0  # seconds; the hub may lose a request
TRIES = 3  # that may go without an answer
BUSY = (1.0, 60.0)  # seconds: bounds of the pauses while the hub is busy


class Requests:
    """Asks over one session at a time."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[tuple[TwinAnswer, bytes]]] = {}

    def answer(self, said: TwinAnswer, payload: bytes) -> None:
        """Takes an answer; one that nobody waits for is passed over."""
        waiting = self._waiting.get(said.request)
        if waiting is None or waiting.done():
            logger.debug("answer %d to request %.40r came late", said.status, said.request)
            return
        waiting.set_result((said, payload))

    async def ask(
        self, session: Session, topic: Callable[[str], str], payload: bytes
    ) -> tuple[TwinAnswer, bytes]:
        """Returns the hub's answer, its status not 429 or 5xx: those are waited out.

        Args:
            session: to ask over.
            topic: makes the topic, of the request's id.
            payload: of the request.

        Raises:
            LinkError: there is none, though the session stands; or it ended.
        """
        backoff = Backoff(*BUSY)
        for _ in range(TRIES):
            while (answer := await self._once(session, topic, payload)) is not None:
                said, _body = answer
                if said.status != 429 and said.status < 500:
                    return answer
                pause = backoff.pause(after=said.after)
                logger.info("the hub is busy (%d); again in %.0f s", said.status, pause)
                await asyncio.sleep(pause)
        raise LinkError(
            f"cannot get an answer of the hub: none within {ANSWER_LIMIT:g} s, {TRIES} times",
            "look at the hub's health",
        )

    async def _once(
        self, session: Session, topic: Callable[[str], str], payload: bytes
    ) -> tuple[TwinAnswer, bytes] | None:
        request = f"{self._prefix}{next(self._numbers):x}"
        future = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        try:
            await session.publish(topic(request), payload)
            await asyncio.wait({future}, timeout=ANSWER_LIMIT)
            return future.result() if future.done() else None
        finally:
            del self._waiting[request]
