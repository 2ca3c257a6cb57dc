"""Telemetry over an outage of the broker. ``python -m tests.benchmarks.outage --help``.

Messages are made at an even rate into an outbox with a link to a real broker, which is stopped
before the first one and comes back after the last. Then all of them must arrive, in order; twice at
most those that were on their way when a connection ended. With a cap that is too small for them,
the oldest are dropped, and how many is said exactly. Meanwhile the event loop must not have been
held up, since inference runs in it too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edged.errors import LinkError
from edged.mqtt.backoff import Backoff
from edged.mqtt.dialect import TELEMETRY, Endpoint, Message, Session
from edged.mqtt.link import WINDOW, Link
from edged.mqtt.outbox import FILE, Outbox
from tests.fakes.broker import Broker
from tests.fakes.plant import Plant

DEVICE = "outage"
TICK = 0.02  # seconds between the messages that are made at once
DRAIN_LIMIT = 120.0  # seconds from the broker's return until all has arrived
MEBIBYTE = 1 << 20


class Sink:
    """A dialect of telemetry alone, numbered by the messages themselves."""

    subscriptions: Sequence[str] = ()

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def endpoint(self) -> Endpoint:
        return Endpoint(self._broker.host, self._broker.port, DEVICE, keepalive=10)

    async def serve(self, session: Session) -> None:
        await asyncio.get_running_loop().create_future()

    async def explain(self, why: LinkError) -> LinkError | None:
        return why

    async def leave(self) -> None:
        """Has nothing more to say."""

    def received(self, message: Message) -> None:
        raise AssertionError(f"nothing was subscribed to, and {message.topic} came")

    def outgoing(self, kind: str, payload: bytes) -> tuple[str, bytes]:
        return f"edged/v1/{DEVICE}/{kind}", payload


@dataclass
class Outcome:
    """What a run gave.

    Attributes:
        made: how many messages there were.
        arrived: their numbers as they came.
        dropped: how many the outbox says that it pushed out.
        window: how many may be on their way at once.
        connections: that stood.
        drained: seconds from the broker's return until all had arrived.
        held_up: the longest that the event loop was late, in seconds.
        file: bytes of the outbox's file and log at their largest.
    """

    made: int
    arrived: list[int] = field(default_factory=list)
    dropped: int = 0
    window: int = WINDOW
    connections: int = 0
    drained: float = 0.0
    held_up: float = 0.0
    file: int = 0

    @property
    def first(self) -> list[int]:
        """The numbers without what came again."""
        return list(dict.fromkeys(self.arrived))

    @property
    def missing(self) -> list[int]:
        """What did not arrive."""
        return sorted(set(range(self.made)) - set(self.arrived))

    @property
    def again(self) -> int:
        """How many came more than once."""
        return sum(count - 1 for count in Counter(self.arrived).values())

    def faults(self) -> list[str]:
        """Returns what is not as it must be."""
        found, missing = [], self.missing
        if len(missing) != self.dropped:
            found.append(f"{len(missing)} are missing, {self.dropped} are said to be dropped")
        # The oldest go first, except for those that may have arrived already, for all one knows.
        elif missing and sum(each < missing[-1] for each in self.first) > self.window:
            found.append("others were dropped than the oldest")
        if self.first != sorted(self.first):
            found.append("they are not in order")
        if self.again > self.window * max(self.connections - 1, 0):
            found.append(f"{self.again} came again")
        return found

    def facts(self) -> dict[str, object]:
        """Returns the figures."""
        return {
            "made": self.made,
            "arrived": len(self.first),
            "dropped": self.dropped,
            "again": self.again,
            "connections": self.connections,
            "drained_s": round(self.drained, 2),
            "event_loop_held_up_ms": round(self.held_up * 1e3, 1),
            "outbox_file_mib": round(self.file / MEBIBYTE, 2),
            "faults": self.faults(),
        }


async def run(
    folder: Path, *, messages: int, down: float, size: int, limit: int, pause: float = 5.0
) -> Outcome:
    """Runs one outage.

    Args:
        folder: for the broker and the outbox.
        messages: how many are made.
        down: seconds in which that happens, with the broker away.
        size: bytes of one.
        limit: bytes of the outbox's file.
        pause: seconds between two attempts to connect, at most.
    """
    outcome = Outcome(messages)
    # It writes down who listens when it is stopped; more often would make it the slow one here.
    with Broker(folder / "broker", saves=1 << 30) as broker, Plant(broker, DEVICE) as plant:
        outbox = Outbox(folder / "outbox", limit)
        await outbox.start()
        link = Link(Sink(broker), outbox, backoff=Backoff(min(pause, 1.0), pause))
        running = asyncio.create_task(link.run())
        watching = asyncio.create_task(_watch(outcome, folder / "outbox" / FILE))
        try:
            await _until_up(link)
            await asyncio.to_thread(broker.stop)
            await _make(outbox, messages, down, size)
            await asyncio.to_thread(broker.start)
            back = time.monotonic()
            wanted = messages - 1  # the newest is never pushed out
            await asyncio.to_thread(
                plant.until,
                lambda: (last := plant.last(TELEMETRY)) and _number(last.payload) == wanted,
                DRAIN_LIMIT,
                "the last message",
            )
            outcome.drained = time.monotonic() - back
        finally:
            watching.cancel()
            outcome.connections = link.state.connections
            outcome.dropped = outbox.dropped
            running.cancel()
            await asyncio.wait([running, watching])
            await outbox.stop()
        outcome.arrived = [_number(each.payload) for each in plant.heard(TELEMETRY)]
    return outcome


async def _until_up(link: Link) -> None:
    up = asyncio.Event()
    link.on_change.append(lambda: up.set() if link.state.up else None)
    if not link.state.up:
        await asyncio.wait_for(up.wait(), 30)


async def _make(outbox: Outbox, messages: int, seconds: float, size: int) -> None:
    """Puts the messages in, evenly."""
    began, made = time.monotonic(), 0
    while made < messages:
        due = min(int(messages * (time.monotonic() - began) / seconds) + 1, messages)
        for number in range(made, due):
            outbox.put(TELEMETRY, _message(number, size))
        made = due
        await asyncio.sleep(TICK)
    await asyncio.sleep(max(began + seconds - time.monotonic(), 0))


def _message(number: int, size: int) -> bytes:
    head = b'{"n": %d, "pad": "' % number
    return head + b"x" * max(size - len(head) - 2, 0) + b'"}'


def _number(payload: bytes) -> int:
    return int(json.loads(payload)["n"])


async def _watch(outcome: Outcome, path: Path) -> None:
    """Notes how late the event loop is, and how large the file."""
    while True:
        due = time.monotonic() + TICK
        await asyncio.sleep(TICK)
        outcome.held_up = max(outcome.held_up, time.monotonic() - due)
        size = 0
        for each in (path, path.with_name(f"{path.name}-wal")):
            with contextlib.suppress(OSError):
                size += each.stat().st_size
        outcome.file = max(outcome.file, size)


def main() -> int:
    """Runs it and prints what it gave; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--down", type=float, default=60.0, help="seconds without the broker")
    parser.add_argument("--size", type=int, default=500, help="bytes of a message")
    parser.add_argument("--limit", type=float, default=64.0, help="MiB of the outbox")
    parser.add_argument("--pause", type=float, default=5.0, help="longest between two attempts")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    try:
        outcome = asyncio.run(
            run(
                folder,
                messages=given.messages,
                down=given.down,
                size=given.size,
                limit=int(given.limit * MEBIBYTE),
                pause=given.pause,
            )
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(outcome.facts(), indent=2))
    return int(bool(outcome.faults()))


if __name__ == "__main__":
    sys.exit(main())
