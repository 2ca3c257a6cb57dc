"""The device's side of every dialect: joins what is desired, the methods and the reports.

Invariants:
- A report is made when somebody is about to publish it, so it is never older than its ``seq``.
- Reports come at least every half of their ``ttl`` and at most every ``GAP``, whatever changes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from edged.mqtt import report
from edged.mqtt.control import Answer, Report
from edged.mqtt.controller import Controller
from edged.mqtt.device import Device
from edged.mqtt.edge import report as edge_report
from edged.mqtt.methods import Methods
from edged.mqtt.news import News, happens
from edged.mqtt.report import Link, Stamp

logger = logging.getLogger(__name__)

GAP = 0.5  # seconds
MANIFEST = "manifest"


class Clock(Protocol):
    """The wall clock, and whether it can be trusted."""

    @property
    def sane(self) -> bool:
        """Whether it can."""

    def now(self) -> float:
        """Returns seconds since 1970."""


class Agent:
    """What a dialect asks of the device; see ``edged.mqtt.control.Control``.

    Args:
        device: the device.
        folder: where it remembers; must exist.
        clock: the wall clock.
        ttl: seconds that a report is good for.
        is_edge: whether the device is the agent of an IoT Edge for its controller in any case.

    Attributes:
        boot_id: of this start of edged.
        link: gives what reports say of the link; None for nothing.
        delivery: gives counts of the outbox.
    """

    def __init__(
        self, device: Device, folder: Path, clock: Clock, ttl: int, *, is_edge: bool = False
    ) -> None:
        self.boot_id = secrets.token_hex(8)
        self.link: Callable[[], Link] | None = None
        self.delivery: Callable[[], dict[str, int]] = dict
        self._device = device
        self._clock = clock
        self._ttl = ttl
        self._is_edge = is_edge
        self._began = time.monotonic()
        self._seq = 0
        self._leaving = False
        self._news = News()
        self.controller = Controller(device, folder, self.changed)
        self.methods = Methods(device, self._modules, self.boot_id)
        device.on_change.append(self.changed)

    async def stop(self) -> None:
        """Ends what is under way."""
        await self.methods.stop()
        await self.controller.stop()

    def changed(self) -> None:
        """Notes that there is something new to report."""
        self._news.tell()

    def time(self) -> float | None:
        """Returns seconds since 1970; None while the clock cannot be trusted."""
        return self._clock.now() if self._clock.sane else None

    # -- Control

    def document(self, payload: bytes) -> None:
        """Takes what the device is to have; see ``Control.document``."""
        self.controller.document(payload)

    def twin(self, desired: Mapping[str, Any], version: int) -> None:
        """Takes all desired properties of a twin; see ``Control.twin``."""
        self.controller.twin(desired, version)

    async def call(self, name: str, payload: bytes) -> Answer:
        """Answers a direct method within a second; never raises."""
        return await self.methods.call(name, payload)

    async def reports(self) -> AsyncIterator[Report]:
        """Yields what to report; see ``Control.reports``."""
        while True:
            news = self._news.next
            yield self._report()
            made = time.monotonic()
            await happens(news, self._ttl / 2)
            await asyncio.sleep(max(0.0, made + GAP - time.monotonic()))

    def farewell(self) -> Report:
        """Returns the last report, for an orderly end."""
        self._leaving = True  # and none that is made after it says otherwise
        return self._report()

    def _report(self) -> Report:
        now, standing = self._device.snapshot(), self.controller.standing
        if self._leaving:
            now = replace(now, state="stopping", reason="edged is about to end")
        self._seq += 1
        up = time.monotonic() - self._began
        stamp = Stamp(self.boot_id, self._seq, self._ttl, up, self.time())
        link = self.link() if self.link is not None else None
        own = report.build(stamp, now, standing, link, self.delivery())
        agent = None
        if self._is_edge or standing.source == MANIFEST:
            wanted = self.controller.desired
            deployment = wanted.deployment if wanted else None
            agent = edge_report.build(now, standing, deployment, stopping=self._leaving)
        return Report(own, agent)

    def _modules(self) -> list[str]:
        """Returns the names by which controllers know the model as a module."""
        standing, model = self.controller.standing, self._device.snapshot().model
        named = [name for name, each in standing.verdicts.items() if each.digest]
        return list(dict.fromkeys([*named, *([model.name] if model and model.name else [])])) or [
            "model"
        ]
