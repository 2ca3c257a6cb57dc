"""What the service manager, and whoever asks it, sees of the daemon.

Invariants:
- WATCHDOG is fed by the event loop, and only while ``trouble`` finds none: a daemon that hangs, or
  whose parts stand still, is ended and started anew.
- The status text changes with the state of service at once, with figures every ``FIGURES``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from edged.deploy.types import Slot
from edged.model.condition import Condition
from edged.model.service import Service
from edged.osutil import systemd
from edged.rpc.latency import Latencies

logger = logging.getLogger(__name__)

FIGURES = 10.0  # seconds between two texts that differ in figures only
DIGEST_SHOWN = 19  # characters: "sha256:" and twelve more


class Supervision:
    """Tells the service manager about one daemon.

    Args:
        service: whose model it is.
        latencies: of its answers.
        trouble: says what stands still; empty if nothing does.
        links: each says in a few words how a link to others fares, such as ``mqtt connected``;
            empty for nothing.
    """

    def __init__(
        self,
        service: Service,
        latencies: Latencies,
        trouble: Callable[[], str],
        links: Sequence[Callable[[], str]] = (),
    ) -> None:
        self._service = service
        self._latencies = latencies
        self._trouble = trouble
        self._links = links
        self._told = ""
        self._troubled = ""
        service.on_change.append(self._note_change)

    def ready(self) -> None:
        """Says that the sockets accept calls, or that a reload is over."""
        self._told = self.sentence()
        systemd.notify(READY="1", STATUS=self._told)

    def sentence(self) -> str:
        """Returns what is in service and how it fares, in a line for people."""
        condition, slot = self._service.condition, self._service.serving
        text = condition.state + (f" {_name(slot)}" if slot is not None else "")
        text += f": {condition.reason}" if condition.reason else ""
        p99 = self._latencies.quantile(0.99)
        if p99 is not None:
            text += f"; p99 {_milliseconds(p99)} of {len(self._latencies)} answers"
        return "; ".join([text, *(said for link in self._links if (said := link()))])

    async def run(self) -> None:
        """Feeds the watchdog, if there is one, and keeps the status text up to date; for ever."""
        interval = systemd.watchdog_interval()
        loop = asyncio.get_running_loop()
        figures_at = loop.time() + FIGURES
        while True:
            if interval is not None:
                self._feed()
            if loop.time() >= figures_at:
                self._tell()
                figures_at = loop.time() + FIGURES
            await asyncio.sleep(min(interval or FIGURES, FIGURES))

    def _feed(self) -> None:
        trouble = self._trouble()
        if not trouble:
            systemd.notify(WATCHDOG="1")
        elif not self._troubled:
            text = "the watchdog is not fed any more: %s"
            logger.critical(text, trouble, extra={"event": "watchdog"})
        self._troubled = trouble

    def _tell(self) -> None:
        text = self.sentence()
        if text != self._told:
            self._told = text
            systemd.notify(STATUS=text)

    def _note_change(self, condition: Condition) -> None:
        slot = self._service.serving
        text = condition.state + (f": {condition.reason}" if condition.reason else "")
        fields = {"event": "state", "state": condition.state}
        if slot is not None:
            fields |= {"model": slot.name, "digest": slot.digest}
        logger.info("%s", text, extra=fields)
        self._tell()


def _name(slot: Slot) -> str:
    named = " ".join(part for part in (slot.name, slot.version) if part)
    digest = slot.digest[:DIGEST_SHOWN]
    return f"{named} ({digest})" if named else digest


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds * 1e3:.0f} ms"
