"""The topics of twins and methods: what to send, and what a topic that came says. Pure.

After "Communicate with an IoT hub using the MQTT protocol" and "Understand device twins".
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass

SUBSCRIPTIONS = (
    "$iothub/twin/res/#",
    "$iothub/twin/PATCH/properties/desired/#",
    "$iothub/methods/POST/#",
)
_ANSWER = re.compile(r"\$iothub/twin/res/([0-9]{3})/\?(.*)")
_DESIRED = re.compile(r"\$iothub/twin/PATCH/properties/desired/\?(.*)")
_METHOD = re.compile(r"\$iothub/methods/POST/([^/]+)/\?(.*)")
_LONGEST = 1024  # characters of a topic that are looked at


@dataclass(frozen=True)
class TwinAnswer:
    """The hub's answer to a request about the twin.

    Attributes:
        status: as of HTTP.
        request: which request is answered.
        version: of the section after it; 0 if that is not said.
        after: seconds to wait that the hub asks for; 0 if it does not.
    """

    status: int
    request: str
    version: int
    after: float


@dataclass(frozen=True)
class DesiredPatch:
    """Desired properties have changed; ``version`` is the one they have now."""

    version: int


@dataclass(frozen=True)
class MethodCall:
    """A direct method was called; ``request`` is to be in the answer's topic."""

    name: str
    request: str


def parse(topic: str) -> TwinAnswer | DesiredPatch | MethodCall | None:
    """Returns what a topic says; None if it is none of the hub's."""
    if len(topic) > _LONGEST:
        return None
    if match := _ANSWER.fullmatch(topic):
        said = properties(match[2])
        version, after = _number(said.get("$version")), _number(said.get("retry-after"))
        return TwinAnswer(int(match[1]), said.get("$rid", ""), version, float(after))
    if match := _DESIRED.fullmatch(topic):
        return DesiredPatch(_number(properties(match[1]).get("$version")))
    if match := _METHOD.fullmatch(topic):
        request = properties(match[2]).get("$rid", "")
        return MethodCall(urllib.parse.unquote(match[1]), request) if request else None
    return None


def get_twin(request: str) -> str:
    """The topic that asks for the twin."""
    return f"$iothub/twin/GET/?$rid={request}"


def report(request: str) -> str:
    """The topic of a patch of reported properties."""
    return f"$iothub/twin/PATCH/properties/reported/?$rid={request}"


def answer(status: int, request: str) -> str:
    """The topic of a method's answer."""
    return f"$iothub/methods/res/{status}/?$rid={request}"


def event(events: str, **named: str) -> str:
    """The topic of a message of telemetry in JSON, with properties."""
    given = {"$.ct": "application/json", "$.ce": "utf-8", **named}
    return events + "&".join(f"{k}={urllib.parse.quote(v, safe='')}" for k, v in given.items())


def properties(text: str) -> dict[str, str]:
    """What stands after the question mark of a topic."""
    pairs = (part.partition("=") for part in text.split("&"))
    return {name: urllib.parse.unquote(value) for name, _, value in pairs}


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0
