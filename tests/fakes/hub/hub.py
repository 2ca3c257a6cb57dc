"""The hub as a controller sees it: desired properties, reports, methods, telemetry; and its faults.

Everything waits for what it needs with a limit; nothing is polled.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.fakes.authority import Authority, Issued
from tests.fakes.broker import Broker
from tests.fakes.hub.front import Front, Who, tls
from tests.fakes.hub.identities import Identity, RefusedError, new_key, parse_username
from tests.fakes.hub.packets import Publish
from tests.fakes.hub.provisioning import Provisioning
from tests.fakes.hub.twins import PatchError, Twin

LIMIT = 30.0  # seconds
METHODS = "$iothub/methods/POST/#"
PATCHES = "$iothub/twin/PATCH/properties/desired/#"
LARGEST_METHOD = 128 * 1024
_INWARD = re.compile(r"(?P<kind>up|will)/(?P<place>[^/]+/[^/]+)/(?P<topic>.*)", re.DOTALL)
_GET = re.compile(r"\$iothub/twin/GET/\?\$rid=(.+)")
_REPORTED = re.compile(r"\$iothub/twin/PATCH/properties/reported/\?\$rid=(.+)")
_METHOD = re.compile(r"\$iothub/methods/res/(-?\d+)/\?\$rid=(.+)")


class HubError(Exception):
    """What a call to the hub is answered with, such as 404 for a device that is not connected."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


@dataclass(frozen=True)
class Telemetry:
    """A message that a device sent.

    Attributes:
        device: or ``device/module``.
        body: its payload.
        properties: of the topic, decoded; system ones begin with ``$.``.
        will: whether it is a last will.
        at: when it came, monotonic.
    """

    device: str
    body: bytes
    properties: dict[str, str]
    will: bool
    at: float

    def json(self) -> Any:
        """The payload's value."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Patch:
    """A change of desired properties as it goes to the device."""

    version: int
    document: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """A patch of reported properties that came, and what it was answered."""

    patch: Any
    status: int | None
    at: float


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
        self.provisioning = Provisioning(self.host)
        self.skew = 0.0
        self._identities: dict[str, Identity] = {}
        self._twins: dict[str, Twin] = {}
        self._telemetry: list[Telemetry] = []
        self._reports: dict[str, list[Report]] = {}
        self._answers: dict[str, tuple[int, bytes] | None] = {}
        self._faults: list[tuple[str, int | None]] = []
        self._calls = 0
        self._changed = threading.Condition(threading.RLock())
        self._broker = Broker(folder / "broker", remembers=False)
        own = self.authority
        self._context = tls(str(own.certificate), str(own.key), str(own.ca))
        self._broker.start()
        self.front = Front(
            self._find,
            self._broker.port,
            self._context,
            self._accepted,
            self._notify,
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
        with self._changed:
            self._identities[device] = identity
            self._twins.setdefault(device, Twin())
            self._reports.setdefault(device, [])
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
            replace: whether everything else goes.
            deliver: whether the device is told; if not, that gets lost.
        """
        with self._changed:
            twin = self._twins[device]
            gone = {key: None for key in twin.desired if key not in patch} if replace else {}
            twin.replace(patch) if replace else twin.desire(patch)
            sent = Patch(twin.desired_version, {**copy.deepcopy(dict(patch)), **gone})
        if deliver:
            self.deliver(device, sent)
        return sent

    def deliver(self, device: str, patch: Patch) -> None:
        """Sends a patch, late or once more as it may be; to nobody if nobody listens."""
        identity = self._identities[device]
        topic = f"$iothub/twin/PATCH/properties/desired/?$version={patch.version}"
        body = {**patch.document, "$version": patch.version}
        self._send(identity, topic, json.dumps(body).encode())

    def reported(self, device: str) -> dict[str, Any]:
        """Returns the reported properties."""
        with self._changed:
            return copy.deepcopy(self._twins[device].reported)

    def reports(self, device: str) -> list[Report]:
        """Returns all patches that came, in order."""
        with self._changed:
            return list(self._reports[device])

    def version(self, device: str) -> int:
        """Returns the version of the desired properties."""
        return self._twins[device].desired_version

    def fail(self, status: int | None, *, times: int = 1, operation: str = "") -> None:
        """Answers the next operations on twins with that, or not at all.

        Args:
            status: such as 429; None for no answer.
            times: how many.
            operation: ``get`` or ``reported``; "" for either.
        """
        with self._changed:
            self._faults += [(operation, status)] * times

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
            self._answers[rid] = None
        self._send(identity, f"$iothub/methods/POST/{method}/?$rid={rid}", body)
        with self._changed:
            self._changed.wait_for(lambda: self._answers[rid] is not None, timeout)
            answer = self._answers.pop(rid)
        if answer is None:
            raise HubError(504, f"{device} did not answer {method} within {timeout} s")
        return answer[0], json.loads(answer[1]) if answer[1] else None

    def telemetry(self, device: str = "") -> list[Telemetry]:
        """Returns what came, in order: of one device or of all."""
        with self._changed:
            return [each for each in self._telemetry if device in ("", each.device)]

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
        last = {device: reports[-1:] for device, reports in self._reports.items()}
        return f"refused: {refused}; closed: {closed}; last reports: {last}"

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _find(self, username: str) -> Who:
        found = parse_username(username)
        if len(found) == 2:
            return self.provisioning.find(*found)
        host, device, module = found
        name = f"{device}/{module}" if module else device
        if host != self.host:
            raise RefusedError(f"no such hub: {host}")
        if name not in self._identities:
            raise RefusedError(f"no such device: {name}")
        return self._identities[name]

    def _join(self) -> paho.Client:
        """Our own connection to the broker inside; the test waits until it hears everything."""
        listens = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, "$hub", clean_session=True, reconnect_on_failure=False
        )
        client.max_inflight_messages_set(0)
        client.on_message = self._received
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

    def _accepted(self, who: Who, message: Publish) -> None:
        assert isinstance(who, Identity)
        self._keep(who, message.topic, message.payload, will=False)

    def _keep(self, who: Identity, topic: str, payload: bytes, *, will: bool) -> None:
        given = topic[len(who.events()) :].strip("/")
        pairs = (part.partition("=") for part in given.split("&") if part)
        named = {urllib.parse.unquote(k): urllib.parse.unquote(v) for k, _, v in pairs}
        if will:
            named["iothub-MessageType"] = "Will"
        with self._changed:
            self._telemetry.append(Telemetry(who.name, payload, named, will, time.monotonic()))
            self._changed.notify_all()

    def _received(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        found = _INWARD.fullmatch(message.topic)
        assert found
        topic, payload = found["topic"], bytes(message.payload)
        device, _, module = found["place"].partition("/")
        if device == "$dps":
            registration = self.provisioning.find(self.provisioning.scope, module)
            answer = self.provisioning.answer(registration, topic, payload)
            if "/res/200/" in answer[0] and self.provisioning.outcome == "assigned":
                self._assign(module, registration.key)
            self._send(registration, *answer)
            return
        identity = self._identities.get(device if module == "-" else f"{device}/{module}")
        if identity is None:
            return  # removed in between
        if found["kind"] == "will":
            self._keep(identity, topic, payload, will=True)
        else:
            self._operate(identity, topic, payload)

    def _assign(self, name: str, key: str) -> None:
        with self._changed:
            self._identities[name] = Identity(self.host, name, "", key)
            self._twins.setdefault(name, Twin())
            self._reports.setdefault(name, [])

    def _operate(self, who: Identity, topic: str, payload: bytes) -> None:
        if found := _GET.fullmatch(topic):
            self._get(who, found[1])
        elif found := _REPORTED.fullmatch(topic):
            self._report(who, found[1], payload)
        elif found := _METHOD.fullmatch(topic):
            with self._changed:
                if found[2] in self._answers:
                    self._answers[found[2]] = (int(found[1]), payload)
                self._changed.notify_all()

    def _get(self, who: Identity, rid: str) -> None:
        status = self._fault("get", 200)
        with self._changed:
            document = self._twins[who.name].document()
        body = json.dumps(document).encode() if status == 200 else b""
        if status is not None:
            self._send(who, f"$iothub/twin/res/{status}/?$rid={rid}", body)

    def _report(self, who: Identity, rid: str, payload: bytes) -> None:
        status, body, tail = self._fault("reported", 204), b"", ""
        patch: Any = None
        with self._changed:
            twin = self._twins[who.name]
            if status == 204:
                try:
                    twin.report(payload)
                    patch = json.loads(payload)
                    tail = f"&$version={twin.reported_version}"
                except PatchError as exc:
                    status, body = (
                        400,
                        json.dumps({"errorCode": 400000, "message": str(exc)}).encode(),
                    )
                    patch = payload
            self._reports[who.name].append(Report(patch, status, time.monotonic()))
            self._changed.notify_all()
        if status is not None:
            self._send(who, f"$iothub/twin/res/{status}/?$rid={rid}{tail}", body)

    def _fault(self, operation: str, otherwise: int) -> int | None:
        """What the next operation of that kind is answered with."""
        with self._changed:
            for number, (wanted, status) in enumerate(self._faults):
                if wanted in ("", operation):
                    del self._faults[number]
                    return status
        return otherwise
