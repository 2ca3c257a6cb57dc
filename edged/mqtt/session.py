"""One connection that stands, as the event loop sees it; ``wire`` is the thread behind it.

Invariants:
- ``publish`` returns when the broker has the message, and raises if the connection ends before:
  nothing is ever kept here for another connection.
- At most ``SENDING`` messages wait for their acknowledgement; whoever publishes more waits.
- A session that was opened is closed, whatever happens, and then its thread is gone or, while it
  looks up a name, about to go: ``gone`` says when.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from edged.errors import LinkError
from edged.mqtt.dialect import Endpoint, Message
from edged.mqtt.wire import PACKET_LIMIT, Outgoing, Times, Wire

__all__ = ["PACKET_LIMIT", "PAYLOAD_LIMIT", "Session", "Times"]

logger = logging.getLogger(__name__)

SENDING = 128  # messages
PAYLOAD_LIMIT = 255 * 1024  # bytes; Azure IoT Hub takes 256 KiB with the topic's properties
CLOSE_LIMIT = 5.0  # seconds


class Session:
    """One connection to a broker.

    Args:
        endpoint: where to, as whom.
        subscriptions: filters of topics.
        received: takes messages, in order; must not block.
        times: limits.

    Attributes:
        ended: done when the connection is over, with why; None if ``close`` was called.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        subscriptions: Sequence[str],
        received: Callable[[Message], None],
        times: Times | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._received = received
        self._opening: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[LinkError | None] = self._loop.create_future()
        self._sending = asyncio.Semaphore(SENDING)
        self._unacknowledged: dict[int, asyncio.Future[None]] = {}
        self._token = 0
        self._started = False
        self._wire = Wire(endpoint, subscriptions, _Events(self), self._post, times or Times())

    async def open(self) -> None:
        """Returns when the broker has let us in and confirmed the subscriptions.

        Raises:
            LinkError: why it does not; ``close`` is to be called all the same.
        """
        try:
            self._wire.start()
        except (OSError, RuntimeError) as exc:
            raise LinkError(f"cannot connect: {exc}", "look at the device's load") from exc
        self._started = True
        await self._opening

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publishes at QoS 1; returns when the broker has acknowledged.

        Raises:
            LinkError: the connection ended before; the broker may have the message or not.
            ValueError: nobody can publish that.
        """
        _check(topic, payload)
        async with self._sending:
            self._raise_if_ended()
            self._token += 1
            token, future = self._token, self._loop.create_future()
            self._unacknowledged[token] = future
            self._wire.send(Outgoing(token, topic, payload, retain))
            try:
                await future
            finally:
                self._unacknowledged.pop(token, None)

    async def close(self) -> None:
        """Ends the connection in an orderly way; returns when it is over, or after a while."""
        if not self._started:
            return
        self._wire.stop()
        await asyncio.wait({self.ended}, timeout=CLOSE_LIMIT)

    async def gone(self) -> None:
        """Returns when its thread has ended."""
        if self._started:
            await asyncio.wait({self.ended})

    def _raise_if_ended(self) -> None:
        if self.ended.done():
            raise self._error()

    def _error(self) -> LinkError:
        """Why the connection is over; a new one each time, since each is raised somewhere else."""
        why = self.ended.result()
        if why is None:
            return LinkError(f"cannot publish: the connection to {self._endpoint.host} was closed")
        return LinkError(why.reason, why.fix, after=why.after, kind=why.kind)

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        # The loop may be over while the thread still looks up a name.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    # -- told by the wire, in the event loop

    def _open(self) -> None:
        if not self._opening.done():
            self._opening.set_result(None)

    def _arrive(self, message: Message) -> None:
        try:
            self._received(message)
        except Exception:
            logger.exception("cannot take a message on %r", message.topic[:200])

    def _acknowledge(self, token: int) -> None:
        future = self._unacknowledged.get(token)
        if future is not None and not future.done():
            future.set_result(None)

    def _end(self, why: LinkError | None) -> None:
        self._wire.join()
        self.ended.set_result(why)
        for future in (self._opening, *self._unacknowledged.values()):
            if not future.done():
                future.set_exception(self._error())
        if not self._opening.cancelled():
            self._opening.exception()  # nobody may be waiting for it


class _Events:
    """What the wire tells; a name for each of the session's methods."""

    def __init__(self, session: Session) -> None:
        self.opened = session._open  # noqa: SLF001
        self.arrived = session._arrive  # noqa: SLF001
        self.acknowledged = session._acknowledge  # noqa: SLF001
        self.ended = session._end  # noqa: SLF001


def _check(topic: str, payload: bytes) -> None:
    if not topic or len(topic.encode()) > 65535 or set("+#\0") & set(topic):
        raise ValueError(f"cannot publish to {topic[:200]!r}: it is no topic")
    if len(payload) > PAYLOAD_LIMIT:
        raise ValueError(
            f"cannot publish {len(payload)} bytes to {topic[:200]!r}: expected at most "
            f"{PAYLOAD_LIMIT}"
        )
