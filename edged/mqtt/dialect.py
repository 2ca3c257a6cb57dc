"""The seam: what a link asks of a dialect, and what it gives it.

Invariants:
- A dialect knows topics and documents, never a socket; a link knows sockets, never a topic.
- All of it runs in the daemon's event loop. Nothing here may block it.
- Whatever goes wrong between the device and its broker is an ``edged.errors.LinkError``.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edged.errors import LinkError

TELEMETRY, RESULT, EVENT = "telemetry", "result", "event"
KINDS = (TELEMETRY, RESULT, EVENT)  # of entries in the outbox


@dataclass(frozen=True)
class Will:
    """What the broker is to publish for us when we are gone without a word, at QoS 1."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True)
class Endpoint:
    """Where and as whom to connect, for one connection.

    Attributes:
        host: name or address.
        port: of TCP.
        client_id: another connection with the same one ends ours.
        username: empty for none.
        password: None for none.
        tls: None for a connection in plain.
        keepalive: seconds without a word after which the broker is asked whether it is there.
        will: None for none.
        renew_in: seconds after which the connection is made anew, before its credentials expire;
            None if they do not.
        proof: what shows who we are, for people, such as "the signature of 'x'"; empty for user
            name and password.
        hint: what to do if the broker does not accept that.
    """

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    keepalive: int = 60
    will: Will | None = None
    renew_in: float | None = None
    proof: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Message:
    """What the broker sent.

    Attributes:
        topic: it was published to.
        payload: untrusted, at most ``session.PACKET_LIMIT`` bytes.
        retained: whether the broker had kept it from before we subscribed.
    """

    topic: str
    payload: bytes
    retained: bool = False


class Session(Protocol):
    """One connection that stands; its subscriptions are confirmed."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publishes at QoS 1; returns when the broker has acknowledged.

        Raises:
            LinkError: the connection ended before; the broker may have the message or not.
        """


class Dialect(Protocol):
    """How one kind of controller is spoken to.

    Attributes:
        subscriptions: filters of topics, all at QoS 1.
    """

    @property
    def subscriptions(self) -> Sequence[str]:
        """Asked for after ``endpoint``, once for each connection."""

    async def endpoint(self) -> Endpoint:
        """Where to connect now; may have the device provisioned first.

        Raises:
            LinkError: why there is no connecting now, and what to do.
        """

    async def serve(self, session: Session) -> None:
        """Runs while the session stands: synchronises what is desired, publishes reports.

        It is cancelled at the session's end. It returns only if it wants the session to be made
        anew, which then happens at once.

        Raises:
            LinkError: the session is of no use; the next one begins after a pause.
        """

    def received(self, message: Message) -> None:
        """Takes a message, in the order of arrival; must not block.

        What is wrong with a message is logged and answered, never raised. Messages may come before
        ``serve`` is called: a broker sends retained ones with the confirmation of a subscription.
        """

    async def explain(self, why: LinkError) -> LinkError | None:
        """Says more of why a connection was not made or has ended, if that can be found out.

        ``why`` itself stands in the status meanwhile. None has it tried again at once.
        """

    async def leave(self) -> None:
        """Says the last words over the session that stands, if one does: edged is about to end.

        Raises:
            LinkError: the session ended meanwhile.
        """

    def outgoing(self, kind: str, payload: bytes) -> tuple[str, bytes]:
        """The topic and the payload of an entry of the outbox; ``kind`` is one of ``KINDS``."""
