"""Keeps one connection to one broker, for ever, and drains the outbox over it.

Invariants:
- One connection at a time, whose thread is gone before the next one begins. It is never given up:
  whatever goes wrong, the next attempt comes after a pause of at most ``Backoff``'s longest.
- ``state`` says at any time whether the link stands and, if not, why and what to do.
- An entry leaves the outbox when the broker has acknowledged it, and is sent again over the next
  connection if this one ended before. Entries go out in the order they came in.
- Before its credentials expire a connection is made anew: no more is sent, what is on its way is
  waited for, and the new one begins at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edged.errors import EdgedError, LinkError
from edged.mqtt.backoff import Backoff
from edged.mqtt.dialect import Dialect, Endpoint
from edged.mqtt.outbox import Entry, Outbox
from edged.mqtt.session import Session, Times

logger = logging.getLogger(__name__)

WINDOW = 32  # entries of the outbox on their way at once
PROVISION_LIMIT = 120.0  # seconds for a dialect to say where to connect
BRIEF = 1.0  # seconds; a connection that is to be made anew so soon is so after a pause
ENDINGS = 3  # times that a task is told to end
FAREWELL = 2.0  # seconds for a dialect's last words, and for what is on its way


@dataclass(frozen=True)
class LinkState:
    """How a link is.

    Attributes:
        up: whether it stands.
        reason: why not, empty if it does, or was not tried yet.
        fix: what to do about it.
        host: where to, empty if that is not known yet.
        seconds: since when it is up, or down.
        attempts: to connect, since it stood last.
        next_try_in: seconds until the next one; 0 while there is one, or it stands.
        connections: that stood, since edged started.
    """

    up: bool = False
    reason: str = ""
    fix: str = ""
    host: str = ""
    seconds: float = 0.0
    attempts: int = 0
    next_try_in: float = 0.0
    connections: int = 0


class Link:
    """One link.

    Args:
        dialect: what is spoken over it.
        outbox: what is to be sent; started and stopped by whoever made it.
        backoff: when to try again.
        times: limits of a connection.

    Attributes:
        on_change: told when ``state`` changes, in the event loop.
    """

    def __init__(
        self,
        dialect: Dialect,
        outbox: Outbox,
        *,
        backoff: Backoff | None = None,
        times: Times | None = None,
    ) -> None:
        self._dialect = dialect
        self._outbox = outbox
        self._backoff = backoff or Backoff()
        self._times = times or Times()
        self.on_change: list[Callable[[], None]] = []
        self._up = False
        self._error: LinkError | None = None
        self._host = ""
        self._since = self._stood_since = time.monotonic()
        self._last: Session | None = None
        self._attempts = self._connections = 0
        self._next_try = 0.0

    @property
    def state(self) -> LinkState:
        """How the link is now."""
        now = time.monotonic()
        return LinkState(
            up=self._up,
            reason=self._error.reason if self._error else "",
            fix=self._error.fix if self._error else "",
            host=self._host,
            seconds=now - self._since,
            attempts=self._attempts,
            next_try_in=max(self._next_try - now, 0.0),
            connections=self._connections,
        )

    async def run(self) -> None:
        """Keeps the link until it is cancelled, and then says goodbye to the broker."""
        while True:
            began = self._connections
            try:
                await self._connect_and_serve()
            except LinkError as exc:
                self._tell_down(exc)
                if await self._explain(exc):
                    continue
            except EdgedError as exc:  # files of certificates or passwords, the disk
                self._tell_down(LinkError(str(exc)))
            except Exception as exc:
                logger.exception("the link failed")
                why = "this is a fault of edged's; its log says more"
                self._tell_down(LinkError(f"cannot keep the link: {exc!r}", why))
            stood = time.monotonic() - self._stood_since if self._connections > began else 0.0
            if self._error is not None or stood < BRIEF:
                after = self._error.after if self._error else 0.0
                await self._pause(self._backoff.pause(stood, after))

    async def _explain(self, why: LinkError) -> bool:
        """Has the dialect say more of what went wrong; returns whether to try again at once."""
        self._changed()
        try:
            better = await self._dialect.explain(why)
        except Exception:
            logger.exception("cannot find out more of: %s", why)
            return False
        if better is None:
            return True
        if better is not why:
            self._tell_down(better)
        return False

    async def _pause(self, seconds: float) -> None:
        self._next_try = time.monotonic() + seconds
        self._changed()
        await asyncio.sleep(seconds)
        self._next_try = 0.0

    async def _connect_and_serve(self) -> None:
        """One connection, from where to the end; returns if the next one is to begin at once.

        Raises:
            LinkError: why there was none, or it ended.
        """
        if self._last is not None:
            await self._last.gone()
        self._attempts += 1
        endpoint = await self._ask_endpoint()
        self._host = endpoint.host
        session = self._last = Session(
            endpoint, self._dialect.subscriptions, self._dialect.received, self._times
        )
        try:
            await session.open()
            self._tell_up()
            await self._serve(session, endpoint)
        finally:
            await session.close()

    async def _ask_endpoint(self) -> Endpoint:
        asked = asyncio.ensure_future(self._dialect.endpoint())
        try:
            await asyncio.wait({asked}, timeout=PROVISION_LIMIT)
            if asked.done():
                return asked.result()
        finally:
            await _end(asked)
        raise LinkError(
            f"cannot find out where to connect: not known after {PROVISION_LIMIT:g} s",
            "look into edged's log",
        )

    async def _serve(self, session: Session, endpoint: Endpoint) -> None:
        """Runs what there is to do over a session until its end or its renewal."""
        serving = asyncio.ensure_future(self._dialect.serve(session))
        sender = _Sender(self._dialect, self._outbox, session)
        draining = asyncio.ensure_future(sender.run())
        try:
            ends: set[asyncio.Future[Any]] = {serving, draining, session.ended}
            await asyncio.wait(
                ends,
                timeout=endpoint.renew_in,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if session.ended.done() and (why := session.ended.result()) is not None:
                raise why
            for task in (serving, draining):
                if task.done():
                    task.result()
            logger.debug("the connection to %s is made anew", endpoint.host)
        finally:
            await _end(serving)
            await _end(draining)
            await sender.finish()

    # -- what is said

    def _tell_up(self) -> None:
        self._up, self._error, self._attempts = True, None, 0
        self._since = self._stood_since = time.monotonic()
        self._connections += 1
        logger.info("connected to %s", self._host, extra={"event": "link_up"})
        self._changed()

    def _tell_down(self, why: LinkError) -> None:
        told = self._error is not None and self._error.reason == why.reason
        if self._up:
            self._since = time.monotonic()
        self._up, self._error = False, why
        # Once for each reason: a broker may be away for days.
        level = logging.DEBUG if told else logging.WARNING
        logger.log(level, "%s", why, extra={"event": "link_down"})

    def _changed(self) -> None:
        for each in self.on_change:
            each()


class _Sender:
    """Sends the outbox's entries over one session, a window of them at a time."""

    def __init__(self, dialect: Dialect, outbox: Outbox, session: Session) -> None:
        self._dialect = dialect
        self._outbox = outbox
        self._session = session
        self._window = asyncio.Semaphore(WINDOW)
        self._deliveries: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        sent = 0
        while True:
            for entry in await self._outbox.after(sent, WINDOW):
                await self._window.acquire()
                delivery = asyncio.ensure_future(self._deliver(entry))
                self._deliveries.add(delivery)
                delivery.add_done_callback(self._deliveries.discard)
                sent = entry.number

    async def finish(self) -> None:
        """Waits a while for what is on its way, if the session still stands; gives up the rest."""
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=FAREWELL)
        for delivery in list(self._deliveries):
            await _end(delivery)

    async def _deliver(self, entry: Entry) -> None:
        try:
            topic, payload = self._dialect.outgoing(entry.kind, entry.payload)
            await self._session.publish(topic, payload)
        except LinkError:
            return  # the next session sends it again
        except Exception:
            # It can never be sent, and everything behind it would wait for ever.
            logger.exception("cannot send an entry of the outbox; it is dropped")
            self._outbox.reject(entry.number)
        else:
            self._outbox.acknowledge(entry.number)
        finally:
            self._window.release()


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancels a task and waits for it a while; how it ended is told elsewhere."""
    # Not once: before Python 3.12, asyncio.wait_for() may lose one.
    for _ in range(ENDINGS):
        task.cancel()
        await asyncio.wait({task}, timeout=FAREWELL)
        if task.done():
            if not task.cancelled():
                task.exception()
            return
    logger.error("a part of the link does not end: %r", task)
