"""A link for tests: a dialect that does next to nothing, and waiting for what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from edged.errors import LinkError
from edged.mqtt.backoff import Backoff
from edged.mqtt.dialect import Endpoint, Message, Session
from edged.mqtt.link import Link
from edged.mqtt.outbox import Outbox
from edged.mqtt.session import Times

LIMIT = 30.0  # seconds for whatever is waited for
QUICK = Times(connect=5.0, answer=1.0, acknowledge=1.0, take=5.0)


class Plain:
    """A dialect: telemetry goes to ``out``, and what comes is kept."""

    def __init__(self, endpoint: Endpoint, subscriptions: Sequence[str] = ("in/#",)) -> None:
        self.to = endpoint
        self.subscriptions = subscriptions
        self.messages: list[Message] = []
        self.served = 0
        self.ended = 0
        self.refuse: LinkError | None = None

    async def endpoint(self) -> Endpoint:
        if self.refuse is not None:
            raise self.refuse
        return self.to

    async def serve(self, session: Session) -> None:
        self.served += 1
        try:
            await session.publish("hello", b"%d" % self.served)
            await asyncio.Event().wait()
        finally:
            self.ended += 1

    async def leave(self) -> None:
        """Nothing to say."""

    async def explain(self, why: LinkError) -> LinkError | None:
        return why

    def received(self, message: Message) -> None:
        self.messages.append(message)

    def outgoing(self, kind: str, payload: bytes) -> tuple[str, bytes]:
        return f"out/{kind}", payload


async def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Waits until something holds that nobody tells of."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit
    while not condition():
        assert loop.time() < deadline, "it did not come to be"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def linked(
    dialect: Plain, folder: Path, *, times: Times = QUICK, longest: float = 0.3
) -> AsyncIterator[tuple[Link, Outbox]]:
    """A link that runs."""
    box = Outbox(folder, 16 << 20)
    await box.start()
    link = Link(dialect, box, backoff=Backoff(0.05, longest), times=times)
    running = asyncio.ensure_future(link.run())
    try:
        yield link, box
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=LIMIT)
        assert running.cancelled()
        await box.stop()


def at(port: int, host: str = "127.0.0.1", client: str = "device", **more: object) -> Endpoint:
    """Where a broker of tests is."""
    return replace(Endpoint(host, port, client, keepalive=5), **more)  # type: ignore[arg-type]
