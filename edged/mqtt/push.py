"""The controller's side of the dialect ``plain``: sets what a device is to have, and follows it.

A report counts once it names the ``id`` of our document: that is after it was taken up, so a
retained report of some other time is never taken for an answer. What retained reports are good for
is to say why there is no answer: the device is offline, its last report is stale, or there never
was one.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from edged.errors import DeviceError, LinkError
from edged.mqtt.bounded import encode
from edged.mqtt.dialect import Endpoint, Message
from edged.mqtt.plain import ROOT
from edged.mqtt.session import Session
from edged.mqtt.standing import APPLIED, FAILED, INVALID, SUPERSEDED, WAITING

REPORT_LIMIT = 64 * 1024  # bytes; ours have less than 8 KiB
TTL_LIMIT = 86400.0  # seconds
ENDS = (APPLIED, FAILED, INVALID, SUPERSEDED, WAITING)


@dataclass
class _Known:
    """What a device was heard to say.

    Attributes:
        reports: live ones, as they come.
        last: the newest report, retained or not.
        online: what ``/online`` says; None if nothing.
    """

    reports: asyncio.Queue[dict[str, Any]] = field(default_factory=lambda: asyncio.Queue(64))
    last: dict[str, Any] | None = None
    online: bool | None = None


class Pusher:
    """Sets and follows one device's desired document.

    Args:
        device: its name in topics.
        patience: seconds to wait for its first answer.
    """

    def __init__(self, device: str, patience: float) -> None:
        self._root = f"{ROOT}/{device}"
        self._device = device
        self._patience = patience
        self._known = _Known()

    async def push(
        self, endpoint: Endpoint, document: Mapping[str, Any], *, wait: bool = True
    ) -> AsyncIterator[dict[str, Any]]:
        """Publishes a document and yields the device's reports on it, the outcome last.

        Args:
            endpoint: of the broker.
            document: to set, without ``id``.
            wait: whether to wait for the device at all.

        Raises:
            LinkError: the broker could not be reached, or was lost.
            DeviceError: the device does not answer; says what is known of it.
        """
        mark = secrets.token_hex(8)
        topics = [f"{self._root}/reported", f"{self._root}/online"] if wait else []
        session = Session(endpoint, topics, self._received)
        try:
            await asyncio.wait_for(session.open(), self._patience)
            payload = encode({**document, "id": mark})
            publishing = session.publish(f"{self._root}/desired", payload, retain=True)
            await asyncio.wait_for(publishing, self._patience)
            if wait:
                async for report in self._follow(session, mark):
                    yield report
        except asyncio.TimeoutError as exc:
            raise LinkError(
                f"cannot push: no answer from {endpoint.host} within {self._patience:g} s",
                "look whether that is a broker",
            ) from exc
        finally:
            await session.close()

    async def _follow(self, session: Session, mark: str) -> AsyncIterator[dict[str, Any]]:
        until = time.monotonic() + self._patience
        answered = False
        while True:
            report = await self._next(session, until)
            if report is None:
                raise DeviceError(self._silence(answered=answered))
            desired = report["desired"]
            if desired.get("id") != mark:
                if answered:
                    raise DeviceError(
                        f"cannot push: another document was set for {self._device} meanwhile"
                    )
                continue
            answered = True
            until = time.monotonic() + max(_ttl(report), self._patience)
            yield report
            if desired.get("outcome") in ENDS:
                return

    async def _next(self, session: Session, until: float) -> dict[str, Any] | None:
        """Returns the next live report; None if there is none in time."""
        getting = asyncio.ensure_future(self._known.reports.get())
        either: list[asyncio.Future[Any]] = [getting, session.ended]
        try:
            await asyncio.wait(
                either,
                timeout=max(until - time.monotonic(), 0.0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if getting.done():
                return getting.result()
            if session.ended.done():
                why = session.ended.result()
                raise why or LinkError("cannot push: the connection was closed")
            return None
        finally:
            getting.cancel()

    # -- what the device says

    def _received(self, message: Message) -> None:
        if len(message.payload) > REPORT_LIMIT:
            return
        try:
            value = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict):
            return
        if message.topic.endswith("/online"):
            self._known.online = value.get("online") is True
        elif isinstance(value.get("desired"), dict):
            self._known.last = value
            if not message.retained:
                if self._known.reports.full():  # nobody reads; the newest say it all
                    self._known.reports.get_nowait()
                self._known.reports.put_nowait(value)

    def _silence(self, *, answered: bool) -> str:
        """Says why there is no answer, as far as that can be known."""
        known, device = self._known, self._device
        if known.last is None and known.online is None:
            return (
                f"cannot push: no device {device} has ever reported at this broker; look at its "
                "name, and at [mqtt] in its edged.toml. The document stays there for it"
            )
        seen = _seen(known.last)
        if known.online is False:
            return (
                f"cannot push: {device} is offline{seen}. It takes the document when it is back, "
                "as long as the broker keeps it"
            )
        if answered:
            return f"cannot push: {device} fell silent{seen}; it may still be at it"
        if known.last is not None and (age := _age(known.last)) is not None:
            ttl = _ttl(known.last)
            if age > ttl:
                return (
                    f"cannot push: the last report of {device} is stale: {age:.0f} s old, good "
                    f"for {ttl:.0f} s (boot {_text(known.last, 'boot_id')}, seq "
                    f"{known.last.get('seq')}). It takes the document when it is back"
                )
        return (
            f"cannot push: {device} did not take the document up within {self._patience:g} s{seen}"
        )


def _seen(report: dict[str, Any] | None) -> str:
    """Says when a device was last heard of."""
    if report is None:
        return ""
    age = _age(report)
    when = f"{age:.0f} s ago" if age is not None else "at a time its clock did not know"
    return f"; its last report came {when}, state {_text(report, 'state')}"


def _age(report: dict[str, Any]) -> float | None:
    """Returns the seconds since a report was made; None if it does not say."""
    try:
        made = datetime.fromisoformat(str(report["time"]).replace("Z", "+00:00"))
        return max(time.time() - made.timestamp(), 0.0)
    except (KeyError, ValueError, OverflowError):
        return None


def _ttl(report: dict[str, Any]) -> float:
    """Returns the seconds that a report is good for, within reason."""
    ttl = report.get("ttl")
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= TTL_LIMIT:
        return 60.0
    return float(ttl)


def _text(report: dict[str, Any], key: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in str(report.get(key))[:80])
