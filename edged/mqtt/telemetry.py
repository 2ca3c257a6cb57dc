"""Telemetry: counts and latencies on an interval, events, and results where they are asked for.

Everything goes to the outbox, so it outlives an outage, in order. Kinds of messages:

- ``telemetry``, each interval: what was answered and refused in it, latency by percentiles, the
  stages' medians, the outbox itself;
- ``event``, as it happens: a deployment's outcome, an undeployment, a revert, a death;
- ``result``: the best classes of an answer, its model, its times; at most so many a second, and the
  next one says how many were left out.

Each has ``boot_id``, a ``seq`` of its kind, ``up`` and, while the clock can be trusted, ``time``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from edged.deploy.history import Record
from edged.mqtt.bounded import encode, fit
from edged.mqtt.device import Counters, Device
from edged.mqtt.dialect import EVENT, RESULT, TELEMETRY
from edged.mqtt.meter import Meter
from edged.mqtt.report import rfc3339

logger = logging.getLogger(__name__)

MESSAGE_LIMIT = 4096  # bytes
TOP_LIMIT = 2048  # characters of an answer's classes
BURST = 5  # results at once, however few a second


class Outbox(Protocol):
    """Where messages go."""

    @property
    def pending(self) -> int:
        """How many wait."""

    @property
    def dropped(self) -> int:
        """How many were lost, since the device was set up."""

    def put(self, kind: str, payload: bytes) -> None:
        """Takes a message; never blocks."""


@dataclass(frozen=True)
class Settings:
    """What is sent.

    Attributes:
        interval: seconds between two ``telemetry``; 0 for none.
        results: how many ``result`` a second at most; 0 for none.
    """

    interval: float = 60.0
    results: float = 0.0


class Telemetry:
    """Makes messages.

    Args:
        device: whose events they are.
        meter: counts answers.
        outbox: takes the messages.
        settings: what is sent.
        boot_id: of this start of edged.
        now: the time while the clock can be trusted, else None.
    """

    def __init__(
        self,
        device: Device,
        meter: Meter,
        outbox: Outbox,
        settings: Settings,
        boot_id: str,
        now: Callable[[], float | None],
    ) -> None:
        self._device = device
        self._meter = meter
        self._outbox = outbox
        self._settings = settings
        self._boot_id = boot_id
        self._now = now
        self._began = time.monotonic()
        self._seq = dict.fromkeys((TELEMETRY, EVENT, RESULT), 0)
        snapshot = device.snapshot()
        self._last = snapshot.last
        self._deaths = snapshot.counters.deaths
        self._counted = snapshot.counters
        # Tokens of results: a bucket that fills by so many a second.
        self._tokens, self._filled = float(BURST), self._began
        self._left_out = 0
        device.on_change.append(self._look)

    async def run(self) -> None:
        """Sends counts on the interval, until it is cancelled."""
        interval = self._settings.interval
        if not interval:
            return
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # By the clock that only goes forward, and without catching up after a sleep.
            due = max(due + interval, loop.time())
            await asyncio.sleep(due - loop.time())
            try:
                self._send(TELEMETRY, self._counts(interval))
            except Exception:
                logger.exception("cannot make telemetry")

    # -- results

    def answered(self, times: str, top: str, digest: str, seconds: float) -> None:
        """Takes note of an answer; it is on the way of every request.

        Args:
            times: JSON object of microseconds by stage, as the worker said it.
            top: JSON array of the best classes, likewise.
            digest: of the model.
            seconds: from the request's arrival to its answer.
        """
        self._meter.note(times, digest, seconds)
        rate = self._settings.results
        if not rate:
            return
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._filled) * rate, max(rate, BURST))
        self._filled = now
        if self._tokens < 1:
            self._left_out += 1
            return
        self._tokens -= 1
        left_out, self._left_out = self._left_out, 0
        asyncio.get_running_loop().call_soon(self._result, times, top, digest, seconds, left_out)

    def _result(self, times: str, top: str, digest: str, seconds: float, left_out: int) -> None:
        self._send(
            RESULT,
            {
                "digest": digest,
                "top": _json(top, []),
                "times_us": _json(times, {}),
                "latency_us": round(seconds * 1e6),
                "left_out": left_out,
            },
        )

    # -- events

    def _look(self) -> None:
        """Sends what has happened since the last look."""
        now = self._device.snapshot()
        last, before = now.last, self._last
        if last is not None and last != before:
            self._last = last
            if before is None or (last.number, last.outcome) != (before.number, before.outcome):
                self._send(EVENT, _change(last))
        if now.counters.deaths > self._deaths:
            self._deaths = now.counters.deaths
            model = now.model.digest if now.model else ""
            self._send(EVENT, {"event": "death", "digest": model, "deaths": self._deaths})

    # -- counts

    def _counts(self, interval: float) -> dict[str, Any]:
        now = self._device.snapshot()
        latency, counted = self._meter.take(), now.counters
        before, self._counted = self._counted, counted
        counts = {
            each.name: getattr(counted, each.name) - getattr(before, each.name)
            for each in dataclasses.fields(Counters)
            if each.name != "queued"
        }
        return {
            "interval_s": interval,
            "state": now.state,
            "digest": now.model.digest if now.model else "",
            "counts": counts,
            "queued": counted.queued,
            "latency_us": {
                "count": latency.total,
                "p50": latency.percentile(0.5),
                "p90": latency.percentile(0.9),
                "p99": latency.percentile(0.99),
                "max": latency.most,
            },
            "stages_us": self._meter.stages_us(),
            "outbox": {"pending": self._outbox.pending, "dropped": self._outbox.dropped},
        }

    def _send(self, kind: str, facts: dict[str, Any]) -> None:
        self._seq[kind] += 1
        now = self._now()
        stamp: dict[str, Any] = {
            "kind": kind,
            "boot_id": self._boot_id,
            "seq": self._seq[kind],
            "up": round(time.monotonic() - self._began, 3),
        }
        if now is not None:
            stamp["time"] = rfc3339(now)
        self._outbox.put(kind, encode(fit({**stamp, **facts}, MESSAGE_LIMIT)))


def _change(record: Record) -> dict[str, Any]:
    facts = {
        "event": record.outcome,
        "cause": record.cause,
        "name": record.name,
        "version": record.version,
        "digest": record.digest,
        "before": record.before,
        "reason": record.reason,
        "blackout_us": max(record.blackout_us, record.window_blackout_us),
        "elapsed_us": record.elapsed_us,
    }
    return {key: value for key, value in facts.items() if value}


def _json(text: str, default: Any) -> Any:
    """Returns what a worker said, if that is JSON of the kind it should be."""
    if len(text) > TOP_LIMIT:
        return default
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return default
    return value if isinstance(value, type(default)) else default
