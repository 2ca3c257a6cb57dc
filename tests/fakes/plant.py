"""A plant's own controller: the other side of the dialect ``plain``, over any broker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.fakes.broker import Broker

LIMIT = 30.0  # seconds


@dataclass(frozen=True)
class Heard:
    """A message that came: below which topic of the device's, when (monotonic), and what."""

    topic: str
    payload: bytes
    retained: bool
    at: float

    def json(self) -> Any:
        """The payload's value; None if there is none."""
        return json.loads(self.payload) if self.payload else None


class Plant:
    """Hears all that a device says, and tells it what to do. Comes back whenever the broker does.

    Its session outlives connections, so that it misses nothing that the broker has.

    Args:
        broker: which may start later.
        device: the device's name.
        user: with its password, for a broker that asks.
    """

    def __init__(
        self, broker: Broker, device: str, user: str | None = None, password: str | None = None
    ) -> None:
        self.device = device
        self._changed = threading.Condition(threading.RLock())
        self._heard: dict[str, list[Heard]] = {}
        self._calls = 0
        self._listens = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, f"plant-{device}", clean_session=False)
        client.username_pw_set(user, password)
        client.max_inflight_messages_set(0)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._connected
        client.on_subscribe = lambda *_: self._listens.set()
        client.on_message = self._received
        client.connect_async(broker.host, broker.port)
        client.loop_start()
        self._client = client

    def close(self) -> None:
        """Ends it."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Plant:
        assert self._listens.wait(LIMIT), "the broker does not let the plant in"
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it tells

    def desired(self, document: Mapping[str, Any] | bytes | None) -> None:
        """Says what the device is to have, retained; None removes it. Returns once it is taken."""
        payload = document if isinstance(document, bytes) else _encoded(document)
        self.publish("desired", payload, retain=True)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publishes below the device's topic; returns once the broker has it."""
        info = self._client.publish(f"edged/v1/{self.device}/{topic}", payload, 1, retain)
        info.wait_for_publish(LIMIT)
        assert info.is_published(), f"the broker did not take {topic} within {LIMIT} s"

    def call(self, name: str, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Calls a method and returns the answer's document.

        Raises:
            AssertionError: there was no answer in time.
        """
        self._calls += 1
        mark = f"call-{self._calls}"
        body = {**(payload or {}), "correlation": mark}
        self.publish(f"command/{name}", json.dumps(body).encode())

        def answer() -> dict[str, Any] | None:
            answers = (each.json() for each in self.heard(f"answer/{name}"))
            return next((each for each in answers if each.get("correlation") == mark), None)

        found: dict[str, Any] = self.until(answer, what=f"an answer to {name}")
        return found

    # -- what it heard

    def heard(self, topic: str) -> list[Heard]:
        """Returns what came below that topic of the device's, in order."""
        with self._changed:
            return list(self._heard.get(topic, ()))

    def last(self, topic: str) -> Heard | None:
        """Returns the newest of them."""
        with self._changed:
            heard = self._heard.get(topic)
            return heard[-1] if heard else None

    def reports(self) -> list[dict[str, Any]]:
        """Returns all reports, in order."""
        return [each.json() for each in self.heard("reported") if each.payload]

    def reported(self) -> dict[str, Any]:
        """Returns the newest report; empty before one came."""
        newest = self.last("reported")
        document: dict[str, Any] = newest.json() or {} if newest else {}
        return document

    def until(
        self, true: Callable[[], Any], limit: float = LIMIT, what: str = "what was expected"
    ) -> Any:
        """Returns the value of ``true()`` once it is true, which is asked after every message.

        Raises:
            AssertionError: it was not in time.
        """
        with self._changed:
            value = self._changed.wait_for(true, limit)
        assert value, f"{what} did not come within {limit} s; the last report: {self.reported()}"
        return value

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(f"edged/v1/{self.device}/#", 1)

    def _received(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        topic = message.topic.removeprefix(f"edged/v1/{self.device}/")
        heard = Heard(topic, bytes(message.payload), message.retain, time.monotonic())
        with self._changed:
            self._heard.setdefault(topic, []).append(heard)
            self._changed.notify_all()


def _encoded(document: Mapping[str, Any] | None) -> bytes:
    return b"" if document is None else json.dumps(document).encode()
