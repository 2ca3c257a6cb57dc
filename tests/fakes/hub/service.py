"""What the hub knows and how it answers: twins, telemetry and calls of methods, and its faults."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes.hub.identities import Identity, RefusedError, parse_username
from tests.fakes.hub.packets import Publish
from tests.fakes.hub.provisioning import Provisioning
from tests.fakes.hub.rules import Who
from tests.fakes.hub.twins import PatchError, Twin

_INWARD = re.compile(r"(?P<kind>up|will)/(?P<place>[^/]+/[^/]+)/(?P<topic>.*)", re.DOTALL)
_GET = re.compile(r"\$iothub/twin/GET/\?\$rid=(.+)")
_REPORTED = re.compile(r"\$iothub/twin/PATCH/properties/reported/\?\$rid=(.+)")
_METHOD = re.compile(r"\$iothub/methods/res/(-?\d+)/\?\$rid=(.+)")


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
    """A patch of reported properties that came.

    Attributes:
        patch: as it came; bytes if it could not be taken.
        status: that it was answered with; None for no answer.
        at: when it came, monotonic.
        whole: the reported properties with it.
    """

    patch: Any
    status: int | None
    at: float
    whole: dict[str, Any]


class Service:
    """Answers what devices send. Whoever reads or changes it holds ``changed``.

    Args:
        host: the hub's name.
        send: sends a message to a device: topic and payload.

    Attributes:
        changed: notified after every change.
        identities: by ``device`` or ``device/module``.
        twins: likewise.
        reports: likewise, in order.
        telemetry: all of it, in order.
        answers: of methods by request; None until it came.
        faults: what operations on twins are answered next: kind and status.
    """

    def __init__(self, host: str, send: Callable[[Who, str, bytes], None]) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.provisioning = Provisioning(host)
        self.identities: dict[str, Identity] = {}
        self.twins: dict[str, Twin] = {}
        self.reports: dict[str, list[Report]] = {}
        self.telemetry: list[Telemetry] = []
        self.answers: dict[str, tuple[int, bytes] | None] = {}
        self.faults: list[tuple[str, int | None]] = []
        self._host = host
        self._send = send

    def add(self, identity: Identity) -> None:
        """Knows a device or module from now on; a twin it had before it keeps."""
        with self.changed:
            self.identities[identity.name] = identity
            self.twins.setdefault(identity.name, Twin())
            self.reports.setdefault(identity.name, [])

    def find(self, username: str) -> Who:
        """Returns who that is.

        Raises:
            RefusedError: nobody whom we know.
        """
        found = parse_username(username)
        if len(found) == 2:
            return self.provisioning.find(*found)
        host, device, module = found
        name = f"{device}/{module}" if module else device
        if host != self._host:
            raise RefusedError(f"no such hub: {host}")
        if name not in self.identities:
            raise RefusedError(f"no such device: {name}")
        return self.identities[name]

    def notify(self) -> None:
        """Something that can be waited for has changed elsewhere."""
        with self.changed:
            self.changed.notify_all()

    def accept(self, who: Who, message: Publish) -> None:
        """Takes an event that was acknowledged."""
        assert isinstance(who, Identity)
        self._keep(who, message.topic, message.payload, will=False)

    def receive(self, inner_topic: str, payload: bytes) -> None:
        """Answers what the broker inside brings."""
        found = _INWARD.fullmatch(inner_topic)
        assert found, inner_topic
        device, _, module = found["place"].partition("/")
        if device == "$dps":
            self._provision(module, found["topic"], payload)
            return
        identity = self.identities.get(device if module == "-" else f"{device}/{module}")
        if identity is None:
            return  # removed in between
        if found["kind"] == "will":
            self._keep(identity, found["topic"], payload, will=True)
        else:
            self._operate(identity, found["topic"], payload)

    def _keep(self, who: Identity, topic: str, payload: bytes, *, will: bool) -> None:
        given = topic[len(who.events()) :].strip("/")
        pairs = (part.partition("=") for part in given.split("&") if part)
        named = {urllib.parse.unquote(k): urllib.parse.unquote(v) for k, _, v in pairs}
        if will:
            named["iothub-MessageType"] = "Will"
        with self.changed:
            self.telemetry.append(Telemetry(who.name, payload, named, will, time.monotonic()))
            self.changed.notify_all()

    def _provision(self, name: str, topic: str, payload: bytes) -> None:
        registration = self.provisioning.find(self.provisioning.scope, name)
        answer, body = self.provisioning.answer(registration, topic, payload)
        if "/res/200/" in answer and self.provisioning.outcome == "assigned":
            self.add(Identity(self._host, name, "", registration.key))
        self._send(registration, answer, body)

    def _operate(self, who: Identity, topic: str, payload: bytes) -> None:
        if found := _GET.fullmatch(topic):
            self._get(who, found[1])
        elif found := _REPORTED.fullmatch(topic):
            self._report(who, found[1], payload)
        elif found := _METHOD.fullmatch(topic):
            with self.changed:
                if found[2] in self.answers:
                    self.answers[found[2]] = (int(found[1]), payload)
                self.changed.notify_all()

    def _get(self, who: Identity, rid: str) -> None:
        status = self._fault("get", 200)
        with self.changed:
            document = self.twins[who.name].document()
        if status is not None:
            body = json.dumps(document).encode() if status == 200 else b""
            self._send(who, f"$iothub/twin/res/{status}/?$rid={rid}", body)

    def _report(self, who: Identity, rid: str, payload: bytes) -> None:
        status, body, tail = self._fault("reported", 204), b"", ""
        patch: Any = None
        with self.changed:
            twin = self.twins[who.name]
            if status == 204:
                try:
                    patch = twin.report(payload)
                    tail = f"&$version={twin.reported_version}"
                except PatchError as exc:
                    status, patch = 400, payload
                    body = json.dumps({"errorCode": 400000, "message": str(exc)}).encode()
            report = Report(patch, status, time.monotonic(), twin.reported)
            self.reports[who.name].append(report)
            self.changed.notify_all()
        if status is not None:
            self._send(who, f"$iothub/twin/res/{status}/?$rid={rid}{tail}", body)

    def _fault(self, kind: str, otherwise: int) -> int | None:
        """What the next operation of that kind is answered with."""
        with self.changed:
            for number, (wanted, status) in enumerate(self.faults):
                if wanted in ("", kind):
                    del self.faults[number]
                    return status
        return otherwise
