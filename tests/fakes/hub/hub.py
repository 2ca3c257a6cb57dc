"""The hub as a controller sees it: desired properties, reports, methods, telemetry; and its faults.

Everything waits for what it needs with a limit; nothing is polled.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.fakes.authority import Authority, Issued
from tests.fakes.broker import Broker
from tests.fakes.hub.front import Front, tls
from tests.fakes.hub.identities import Identity, new_key
from tests.fakes.hub.rules import Who
from tests.fakes.hub.service import Patch, Report, Service, Telemetry

LIMIT = 30.0  # seconds
METHODS = "$iothub/methods/POST/#"
PATCHES = "$iothub/twin/PATCH/properties/desired/#"
LARGEST_METHOD = 128 * 1024


class HubError(Exception):
    """What a call to the hub is answered with, such as 404 for a device that is not connected."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Hub:
    """A hub and a provisioning service, on one port.

    A device is named as ``device`` or ``device/module``.

    Args:
        folder: for the broker inside and certificates.
        authority: of the certificates; the hub's own one if None.
        port: 0 for any; Microsoft's own client knows only 8883.

    Attributes:
        host: its host name.
        authority: whom devices must trust.
        front: its door; has what was refused and why.
        provisioning: the other service.
        skew: seconds that the hub's clock is ahead of this machine's.
    """

    host = "localhost"

    def __init__(self, folder: Path, *, authority: Authority | None = None, port: int = 0) -> None:
        self.authority = authority or Authority(folder / "authority")
        self.skew = 0.0
        self._service = Service(self.host, self._send)
        self.provisioning = self._service.provisioning
        self._identities = self._service.identities
        self._changed = self._service.changed
        self._calls = 0
        self._broker = Broker(folder / "broker", remembers=False)
        own = self.authority
        self._context = tls(str(own.certificate), str(own.key), str(own.ca))
        self._broker.start()
        self.front = Front(
            self._service.find,
            self._broker.port,
            self._context,
            self._service.accept,
            self._service.notify,
            lambda: time.time() + self.skew,
            port,
        )
        self._client: paho.Client | None = None
        self.start(broker=False)

    # -- its life

    def start(self, *, broker: bool = True) -> None:
        """Goes on after ``stop``, on the same port, with all that it knew."""
        if broker:
            self._broker.start()
        self._client = self._join()
        self.front.open()

    def stop(self) -> None:
        """Is gone, without a word: no connection stands and none can be made."""
        self.front.shut()
        self._broker.kill()
        client, self._client = self._client, None
        if client is not None:
            client.loop_stop()

    def close(self) -> None:
        """Ends it."""
        if self._client is not None:
            self.stop()
        self.front.close()
        self._broker.close()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.front.port

    def show(self, issued: Issued) -> None:
        """Has another certificate from the next connection on."""
        self._context.load_cert_chain(issued.certificate, issued.key)

    # -- its registry

    def register(self, device: str, *, x509: bool = False) -> Identity:
        """Makes a device, or a module of one, with an empty twin."""
        name, _, module = device.partition("/")
        identity = Identity(self.host, name, module, "" if x509 else new_key())
        self._service.add(identity)
        return identity

    def forget(self, device: str) -> None:
        """Removes a device; its connection ends and is refused from now on."""
        self.front.cut(self._identities.pop(device))

    # -- twins

    def desired(
        self, device: str, patch: Mapping[str, Any], *, replace: bool = False, deliver: bool = True
    ) -> Patch:
        """Changes desired properties; a device that listens is told.

        Args:
            device: whose.
            patch: merged; None removes.
            replace: whether everything else goes; the device is sent the difference.
            deliver: whether the device is told; if not, that gets lost.
        """
        with self._changed:
            twin = self._service.twins[device]
            body = twin.replace(patch) if replace else twin.desire(patch)
            sent = Patch(twin.desired_version, body)
        if deliver:
            self.deliver(device, sent)
        return sent

    def deliver(self, device: str, patch: Patch) -> None:
        """Sends a patch, late or once more as it may be; to nobody if nobody listens."""
        identity = self._identities[device]
        topic = f"$iothub/twin/PATCH/properties/desired/?$version={patch.version}"
        body = {**patch.document, "$version": patch.version}
        self._send(identity, topic, json.dumps(body).encode())

    def wanted(self, device: str) -> dict[str, Any]:
        """Returns the desired properties."""
        with self._changed:
            return copy.deepcopy(self._service.twins[device].desired)

    def reported(self, device: str) -> dict[str, Any]:
        """Returns the reported properties."""
        with self._changed:
            return copy.deepcopy(self._service.twins[device].reported)

    def reports(self, device: str) -> list[Report]:
        """Returns all patches that came, in order."""
        with self._changed:
            return list(self._service.reports[device])

    def version(self, device: str) -> int:
        """Returns the version of the desired properties."""
        return self._service.twins[device].desired_version

    def fail(self, status: int | None, *, times: int = 1, operation: str = "") -> None:
        """Answers the next operations on twins with that, or not at all.

        Args:
            status: such as 429; None for no answer.
            times: how many.
            operation: ``get`` or ``reported``; "" for either.
        """
        with self._changed:
            self._service.faults += [(operation, status)] * times

    # -- methods and telemetry

    def invoke(
        self, device: str, method: str, payload: Any = None, timeout: float = LIMIT
    ) -> tuple[int, Any]:
        """Calls a method of a device; returns status and value.

        Raises:
            HubError: 404, it does not listen; 504, it does not answer in time.
        """
        identity = self._identities[device]
        if not self.front.listens(identity, METHODS):
            raise HubError(404, f"{device} is not online")
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        assert len(body) <= LARGEST_METHOD, "the real one would refuse to send it"
        with self._changed:
            self._calls += 1
            rid = f"{self._calls:x}"
            self._service.answers[rid] = None
        self._send(identity, f"$iothub/methods/POST/{method}/?$rid={rid}", body)
        with self._changed:
            self._changed.wait_for(lambda: self._service.answers[rid] is not None, timeout)
            answer = self._service.answers.pop(rid)
        if answer is None:
            raise HubError(504, f"{device} did not answer {method} within {timeout} s")
        return answer[0], json.loads(answer[1]) if answer[1] else None

    def telemetry(self, device: str = "") -> list[Telemetry]:
        """Returns what came, in order: of one device or of all."""
        with self._changed:
            return [each for each in self._service.telemetry if device in ("", each.device)]

    # -- connections

    def connected(self, device: str) -> bool:
        """Whether it listens for all that a controller may want of it."""
        identity = self._identities[device]
        return all(self.front.listens(identity, each) for each in (METHODS, PATCHES))

    def connects(self, device: str) -> int:
        """How often it was let in."""
        return self.front.connects[self._identities[device].place]

    def cut(self, device: str) -> None:
        """Ends its connection without a word."""
        self.front.cut(self._identities[device])

    def silence(self, device: str, silent: bool = True) -> None:
        """Neither hears it nor answers while its connections stand; or does again."""
        self.front.silence(self._identities[device], silent)

    def evict(self, device: str) -> None:
        """Somebody else connects with the same identity, and leaves again."""
        came = threading.Event()
        place = self._identities[device].place
        other = paho.Client(CallbackAPIVersion.VERSION2, place, clean_session=False)
        other.on_connect = lambda *_: came.set()
        other.connect(self._broker.host, self._broker.port)
        other.loop_start()
        assert came.wait(LIMIT)
        other.disconnect()
        other.loop_stop()

    def refuse(self, code: int, times: int = 1) -> None:
        """Answers the next connections with that code: 3 unavailable, 5 not authorised."""
        self.front.code, self.front.refuse_next = code, times

    def until(
        self, true: Callable[[], Any], limit: float = LIMIT, what: str = "what was expected"
    ) -> Any:
        """Returns the value of ``true()`` once it is true, which is asked after every change.

        Raises:
            AssertionError: it was not in time.
        """
        with self._changed:
            value = self._changed.wait_for(true, limit)
        assert value, f"{what} did not come within {limit} s; {self._tell()}"
        return value

    # -- inside

    def _tell(self) -> str:
        refused, closed = self.front.refused[-3:], self.front.closed[-3:]
        last = {device: reports[-1:] for device, reports in self._service.reports.items()}
        return f"refused: {refused}; closed: {closed}; last reports: {last}"

    def _join(self) -> paho.Client:
        """Our own connection to the broker inside; the test waits until it hears everything."""
        listens = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, "$hub", clean_session=True, reconnect_on_failure=False
        )
        client.max_inflight_messages_set(0)
        client.on_message = lambda _client, _data, message: self._service.receive(
            message.topic, bytes(message.payload)
        )
        client.on_subscribe = lambda *_: listens.set()
        client.connect(self._broker.host, self._broker.port)
        client.subscribe([("up/#", 1), ("will/#", 1)])
        client.loop_start()
        assert listens.wait(LIMIT), "the broker inside does not answer"
        return client

    def _send(self, who: Who, topic: str, payload: bytes) -> None:
        client = self._client
        assert client is not None, "the hub is stopped"
        client.publish(f"down/{who.place}/{topic}", payload, qos=1)
