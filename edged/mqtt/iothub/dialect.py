"""Speaks with a hub: synchronises the twin, reports, answers direct methods.

Invariants:
- On every connection the twin is asked for first, and again every ``REREAD`` seconds. Patches are
  applied in the order of ``$version``: an old one is passed over, a gap has the twin asked for.
- Reports are patches against what the hub has acknowledged, so nothing stays there that is gone
  here. What the hub is too busy for (429, 5xx) is tried again after a growing pause.
- A method is answered in the session that it came in, or not at all: the hub has given up on it.
- At most ``METHODS`` calls wait; more are told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from edged.errors import LinkError
from edged.mqtt import tls
from edged.mqtt.backoff import Backoff
from edged.mqtt.control import Control, Report
from edged.mqtt.dialect import Endpoint, Message, Session, Will
from edged.mqtt.iothub import date, topics, twin
from edged.mqtt.iothub.account import Account
from edged.mqtt.iothub.requests import Requests
from edged.mqtt.iothub.source import Source
from edged.mqtt.iothub.topics import DesiredPatch, MethodCall, TwinAnswer
from edged.mqtt.refusal import CLOCK, HOST, LOGIN
from edged.mqtt.wallclock import Wallclock

logger = logging.getLogger(__name__)

LINK_LOST = "link lost"  # what the will says
REREAD = 3600.0  # seconds
METHODS, METHODS_AT_ONCE = 32, 4
CLOCK_EVERY = 2.0  # seconds between two looks at a clock that cannot be believed
SKEW_TOLD = 60.0  # seconds from which a clock's error is the reason
REFUSED = (1.0, 300.0)  # seconds: bounds of the pauses after a report that the hub refused
OWN = "edged"  # our section of reported properties
# What an IoT Edge agent reports; ours to remove again.
AGENT = (
    "lastDesiredVersion",
    "lastDesiredStatus",
    "schemaVersion",
    "version",
    "runtime",
    "systemModules",
    "modules",
)


class IotHub:
    """Speaks with a hub.

    Args:
        control: of the device.
        clock: the wall clock.
        source: says who we are, each time.
    """

    def __init__(self, control: Control, clock: Wallclock, source: Source) -> None:
        self._control = control
        self._clock = clock
        self._source = source
        self._account: Account | None = None
        self._session: Session | None = None
        self._dated = True  # whether certificates were held to their dates
        self._requests = Requests()
        self._calls: asyncio.Queue[tuple[MethodCall, bytes]] = asyncio.Queue(METHODS)
        self._refusals: asyncio.Queue[MethodCall] = asyncio.Queue(METHODS)
        # Desired properties as of ``_version``; None before the session's twin has come.
        self._desired: dict[str, Any] = {}
        self._version: int | None = None
        self._newest = 0  # version that is known to be
        self._stale = asyncio.Event()
        self._synchronised = asyncio.Event()
        self._acknowledged: dict[str, Any] = {}  # of reported properties, what is ours
        self._refused = Backoff(*REFUSED)

    @property
    def subscriptions(self) -> Sequence[str]:
        """Answers about the twin, its desired properties, and methods; the hub allows five."""
        return topics.SUBSCRIPTIONS

    async def endpoint(self) -> Endpoint:
        """Where to connect now; has the device provisioned if need be."""
        self._account = account = await self._source.account()
        gone = json.dumps({"event": LINK_LOST, "device": account.client_id}).encode()
        will = Will(topics.event(account.events, kind="event"), gone, retain=False)
        self._dated = bool(account.key) or self._clock.sane
        return await self._source.endpoint(account, will)

    async def explain(self, why: LinkError) -> LinkError | None:
        """Finds out more of why there is no connection; None to try again at once."""
        if why.kind == CLOCK:
            await self._wait_for_clock()
            return None
        if why.kind in (LOGIN, HOST) and self._account is not None:
            await asyncio.to_thread(self._source.refused)
            if why.kind == LOGIN and self._account.key:
                return await asyncio.to_thread(self._ask_time, why, self._account.host)
        return why

    def _ask_time(self, why: LinkError, host: str) -> LinkError:
        right = date.ask(host, tls.context(self._source.files.ca_file))
        if right is None:
            return why
        self._clock.seen(right)
        skew = self._clock.now() - right
        if abs(skew) < SKEW_TOLD:
            return why
        side = "ahead of" if skew > 0 else "behind"
        return LinkError(
            f"{why.reason}: this device's clock is {abs(skew):.0f} s {side} the hub's",
            "set the clock, by NTP or with 'date'",
            kind=LOGIN,
        )

    def outgoing(self, kind: str, payload: bytes) -> tuple[str, bytes]:
        """The topic of an entry of the outbox."""
        assert self._account is not None  # noqa: S101 - there is a session
        return topics.event(self._account.events, kind=kind), payload

    # -- while a session stands

    async def serve(self, session: Session) -> None:
        """Keeps the twin, reports and answers methods."""
        self._session = session
        self._version = None
        self._newest = 0
        self._synchronised.clear()
        await asyncio.to_thread(self._note_time)
        works = [self._keep_twin(session), self._report(session), self._refuse(session)]
        works += [self._answer(session) for _ in range(METHODS_AT_ONCE)]
        if not self._dated:
            works.append(self._wait_for_clock())  # then they can be
        try:
            await _first(works)
        finally:
            self._session = None
            for waiting in (self._calls, self._refusals):
                while not waiting.empty():
                    waiting.get_nowait()

    def _note_time(self) -> None:
        """Dates of certificates were right by our clock, so it is not far off."""
        if self._dated:
            self._clock.verified()

    async def _wait_for_clock(self) -> None:
        """Returns once the clock can be believed."""
        while not self._clock.sane:  # noqa: ASYNC110 - nobody tells when it is set
            await asyncio.sleep(CLOCK_EVERY)

    def received(self, message: Message) -> None:
        """Takes an answer, a patch or a call."""
        said = topics.parse(message.topic)
        if isinstance(said, TwinAnswer):
            self._requests.answer(said, message.payload)
        elif isinstance(said, DesiredPatch):
            self._patch(said.version, message.payload)
        elif isinstance(said, MethodCall):
            self._call(said, message.payload)
        else:
            logger.warning("message on %s is not for us", ascii(message.topic[:80]))

    # -- desired properties

    async def _keep_twin(self, session: Session) -> None:
        while True:
            self._stale.clear()
            await self._get_twin(session)
            if self._version is not None and self._newest > self._version:
                self._newest = self._version  # once more, but not for ever
                continue
            stale = asyncio.ensure_future(self._stale.wait())
            try:
                await asyncio.wait({stale}, timeout=REREAD)
            finally:
                stale.cancel()

    async def _get_twin(self, session: Session) -> None:
        said, payload = await self._requests.ask(session, topics.get_twin, b"")
        if said.status != 200:
            raise LinkError(
                f"cannot get the twin: the hub answers {said.status}",
                "look at the device in the hub's registry",
            )
        try:
            document = json.loads(payload)
            desired, reported = document["desired"], document.get("reported", {})
            version, properties = twin.version(desired), twin.plain(desired)
            acknowledged = twin.plain(reported)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise LinkError(
                f"cannot understand the twin: {exc!r}", "look at the device in the hub's registry"
            ) from exc
        if self._version is None:
            ours = (OWN, *AGENT)
            self._acknowledged = {key: acknowledged[key] for key in ours if key in acknowledged}
        self._take(properties, version)

    def _take(self, properties: dict[str, Any], version: int) -> None:
        self._desired, self._version = properties, version
        self._newest = max(self._newest, version)
        self._synchronised.set()
        self._control.twin(properties, version)

    def _patch(self, version: int, payload: bytes) -> None:
        self._newest = max(self._newest, version)
        if self._version is None:
            return  # the twin that was asked for may be older: see _keep_twin
        if version <= self._version:
            logger.debug("desired version %d came late", version)
            return
        if version != self._version + 1:
            logger.info("desired version %d is missing: the twin is got", self._version + 1)
            self._stale.set()
            return
        try:
            properties = twin.merge(self._desired, twin.plain(json.loads(payload)))
        except (ValueError, TypeError, RecursionError) as exc:
            logger.warning("desired version %d: %s; the twin is got", version, exc)
            self._stale.set()
        else:
            self._take(properties, version)

    # -- reported properties

    async def _report(self, session: Session) -> None:
        await self._synchronised.wait()  # what the hub has of ours is in the twin
        while True:
            async for report in self._control.reports():
                if not await self._send(session, report):
                    break

    async def _send(self, session: Session, report: Report) -> bool:
        """Has a report acknowledged; returns whether it was, after a pause if not."""
        wanted = {OWN: report.own, **(report.agent or {})}
        patch = twin.difference(self._acknowledged, wanted)
        said, payload = await self._requests.ask(session, topics.report, _json(patch))
        if said.status in (200, 204):
            self._acknowledged = wanted
            return True
        logger.error("the hub refuses a report (%d): %s", said.status, ascii(payload[:300]))
        await asyncio.sleep(self._refused.pause())
        return False

    async def leave(self) -> None:
        """Reports that we go."""
        if self._session is None or self._version is None:
            return
        farewell = self._control.farewell()
        wanted = {OWN: farewell.own, **(farewell.agent or {})}
        patch = twin.difference(self._acknowledged, wanted)
        await self._session.publish(topics.report("farewell"), _json(patch))

    # -- methods

    def _call(self, call: MethodCall, payload: bytes) -> None:
        try:
            self._calls.put_nowait((call, payload))
        except asyncio.QueueFull:
            logger.warning("method %s is refused: too many wait", ascii(call.name[:40]))
            with contextlib.suppress(asyncio.QueueFull):
                self._refusals.put_nowait(call)

    async def _answer(self, session: Session) -> None:
        while True:
            call, payload = await self._calls.get()
            answer = await self._control.call(call.name, payload)
            await session.publish(topics.answer(answer.status, call.request), answer.body)

    async def _refuse(self, session: Session) -> None:
        while True:
            call = await self._refusals.get()
            body = b'{"message":"too many methods wait; try again"}'
            await session.publish(topics.answer(429, call.request), body)


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


async def _first(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Runs works until the first ends, ends the others, and raises what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
