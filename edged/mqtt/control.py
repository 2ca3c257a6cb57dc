"""What a dialect asks of the device: the same, whoever the controller is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, Protocol

OWN_LIMIT = (
    8 * 1024 - 64
)  # bytes of our own document as JSON in UTF-8; whoever wraps it has the rest
AGENT_LIMIT = 24 * 1024  # of the one in edgeAgent's shape; together they fit a twin's 32 KiB


class Report(NamedTuple):
    """The whole of what there is to report; what is absent from it is to be gone there too.

    Attributes:
        own: our own document, at most ``OWN_LIMIT`` bytes.
        agent: the same in the shape of an IoT Edge agent, at most ``AGENT_LIMIT`` bytes; None
            unless a deployment manifest was desired.
    """

    own: dict[str, Any]
    agent: dict[str, Any] | None = None


class Answer(NamedTuple):
    """What a method gave.

    Attributes:
        status: as of HTTP.
        body: JSON, never empty.
    """

    status: int
    body: bytes


class Control(Protocol):
    """Brings the device to what is desired, and says how it is."""

    def document(self, payload: bytes) -> None:
        """Takes what the device is to have: our own document, or a manifest; the newest wins.

        Never blocks or raises: what cannot be used is an error in the next report.

        Args:
            payload: untrusted; empty to have no model.
        """

    def twin(self, desired: Mapping[str, Any], version: int) -> None:
        """Takes all desired properties of a twin, each time they may have changed.

        The device is to have what their section ``edged`` says, or else the IoT Edge manifest that
        they are. A section that is gone undeploys; one that never was there says nothing. Never
        blocks or raises.

        Args:
            desired: without ``$version`` and ``$metadata``; untrusted.
            version: of it. Whoever calls sees to it that an older one never follows a newer one.
        """

    async def call(self, name: str, payload: bytes) -> Answer:
        """Answers a direct method within a second; never raises.

        Args:
            name: of the method, untrusted.
            payload: JSON or nothing, untrusted.
        """

    def reports(self) -> AsyncIterator[Report]:
        """Yields what to report: at once, on each change but not too often, and as it ages.

        Whoever could not get a report through asks anew: a report is never yielded twice.
        """

    def farewell(self) -> Report:
        """Returns the last report, for an orderly end."""
