"""The provisioning service: who is enrolled, and where they belong.

Microsoft's "Use the DPS symmetric key or X.509 attestation with MQTT": register, 202, poll, 200.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.hub.identities import RefusedError, Registration, derived_key, new_key

_OPERATION = re.compile(
    r"\$dps/registrations/(?P<verb>PUT|GET)/(?P<name>[a-z\-]+)/\?\$rid=(?P<rid>[^&]+)"
    r"(?:&operationId=(?P<operation>.+))?"
)


@dataclass
class _Assigning:
    registration: str
    polls: int


@dataclass
class Provisioning:
    """Answers registrations.

    Attributes:
        hub: the host name that devices are assigned to.
        scope: of this service.
        group_key: of the enrolment group; devices' keys are derived from it.
        polls: how often one is told to ask again.
        retry_after: seconds between that.
        busy: how many requests are answered 429 from now on.
        outcome: ``assigned``, or ``failed`` or ``disabled``.
        asked: all requests, as verb and registration.
    """

    hub: str
    scope: str = "0ne00ABCDEF"
    group_key: str = field(default_factory=new_key, repr=False)
    polls: int = 1
    retry_after: int = 1
    busy: int = 0
    outcome: str = "assigned"
    asked: list[tuple[str, str]] = field(default_factory=list)
    _enrolled: dict[str, Registration] = field(default_factory=dict)
    _assigning: dict[str, _Assigning] = field(default_factory=dict)

    def enrol(self, name: str, key: str = "") -> Registration:
        """One device by itself; without a key by its certificate."""
        registration = Registration(self.scope, name, key)
        self._enrolled[name] = registration
        return registration

    def find(self, scope: str, name: str) -> Registration:
        """Returns who registers.

        Raises:
            RefusedError: there is no such scope.
        """
        if scope != self.scope:
            raise RefusedError(f"no such scope: {scope}")
        group = Registration(scope, name, derived_key(self.group_key, name))
        return self._enrolled.get(name, group)

    def answer(self, who: Registration, topic: str, payload: bytes) -> tuple[str, bytes]:
        """Returns topic and payload of the answer to a request."""
        found = _OPERATION.fullmatch(topic)
        assert found, topic
        rid = found["rid"]
        self.asked.append((found["verb"], who.name))
        if self.busy:
            self.busy -= 1
            return self._said(
                429, rid, {"errorCode": 429001, "message": "Operations are throttled"}
            )
        if found["verb"] == "PUT":
            return self._register(who, rid, payload)
        return self._poll(who, rid, found["operation"])

    def _register(self, who: Registration, rid: str, payload: bytes) -> tuple[str, bytes]:
        try:
            given = json.loads(payload)["registrationId"]
        except (ValueError, KeyError, TypeError):
            return self._said(400, rid, {"errorCode": 400004, "message": "no registrationId"})
        if given != who.name:
            return self._said(401, rid, {"errorCode": 401002, "message": f"not {given}"})
        operation = f"5.{secrets.token_hex(8)}.{secrets.token_hex(4)}"
        self._assigning[operation] = _Assigning(who.name, self.polls)
        return self._said(202, rid, {"operationId": operation, "status": "assigning"})

    def _poll(self, who: Registration, rid: str, operation: str) -> tuple[str, bytes]:
        assigning = self._assigning.get(operation)
        if assigning is None or assigning.registration != who.name:
            return self._said(404, rid, {"errorCode": 404204, "message": "no such operation"})
        if assigning.polls > 1:
            assigning.polls -= 1
            return self._said(202, rid, {"operationId": operation, "status": "assigning"})
        state = {
            "registrationId": who.name,
            "createdDateTimeUtc": "2026-01-01T00:00:00.0000000Z",
            "lastUpdatedDateTimeUtc": "2026-01-01T00:00:00.0000000Z",
            "status": self.outcome,
            "etag": "IjEi",
        }
        if self.outcome == "assigned":
            state |= {
                "assignedHub": self.hub,
                "deviceId": who.name,
                "substatus": "initialAssignment",
            }
        elif self.outcome == "failed":
            state |= {"errorCode": "400207", "errorMessage": "Custom allocation failed"}
        done = {"operationId": operation, "status": self.outcome, "registrationState": state}
        return self._said(200, rid, done)

    def _said(self, status: int, rid: str, body: dict[str, Any]) -> tuple[str, bytes]:
        wait = f"&retry-after={self.retry_after}" if status in (202, 429) else ""
        topic = f"$dps/registrations/res/{status}/?$rid={rid}{wait}"
        return topic, json.dumps(body).encode()
