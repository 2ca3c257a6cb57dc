"""The hub's rules for a connection, without any input or output: who may come in, what may pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tests.fakes.hub.identities import Identity, RefusedError, Registration, check_signature
from tests.fakes.hub.packets import Connect, Kind, Packet, Publish, Subscribe, number

Who = Identity | Registration
LARGEST = 256 * 1024  # bytes of a message
SUBSCRIPTIONS = 5
LONGEST_KEEPALIVE = 1767  # seconds


class RuleError(Exception):
    """A rule that was broken; the connection is closed, as the hub does it."""


def admit(
    connect: Connect, peer: Any, find: Callable[[str], Who], now: float
) -> tuple[Who, float | None]:
    """Returns who that is, and when its right ends; None if it does not.

    Args:
        connect: what came.
        peer: the client's certificate, if it showed one.
        find: gives who a user name stands for.
        now: when signatures must not have expired yet, in seconds since 1970.

    Raises:
        RefusedError: it may not come in.
    """
    if connect.level != 4:
        raise RefusedError(f"protocol level {connect.level}, not MQTT 3.1.1", 1)
    who = find(connect.username or "")
    if connect.client_id != who.name:
        raise RefusedError(f"client identifier {connect.client_id!r}, not {who.name!r}")
    if connect.keepalive > LONGEST_KEEPALIVE:
        raise RefusedError(f"keep-alive of {connect.keepalive} s, at most {LONGEST_KEEPALIVE} s")
    if connect.will and not (isinstance(who, Identity) and is_event(who, connect.will[0])):
        raise RefusedError(f"the last will's topic is {connect.will[0]!r}, not its events'")
    if connect.password:
        if not who.key:
            raise RefusedError("a signature, but it is known by its certificate")
        policies = ("registration", "") if isinstance(who, Registration) else ("",)
        return who, check_signature(connect.password, who.uri, who.key, now, policies)
    if not peer:
        raise RefusedError("neither password nor certificate", 4)
    common = {key: value for rdn in peer["subject"] for key, value in rdn}.get("commonName")
    own = who.name if isinstance(who, Registration) else who.device
    if who.key or common != own:
        raise RefusedError(f"the certificate of {common!r} is not that of {own!r}")
    return who, None


def is_event(who: Identity, topic: str) -> bool:
    """Whether that is a topic of its telemetry."""
    return topic.startswith(who.events()[:-1])


def inward(connect: Connect, who: Who) -> Packet:
    """The same CONNECT for the broker inside: it knows everybody by the place of its topics."""
    will = connect.will
    if will is not None:
        will = (f"will/{who.place}/{will[0]}", will[1], min(will[2], 1))
    return dataclasses.replace(
        connect, client_id=who.place, will=will, username=None, password=None
    ).packet()


class Passage:
    """What passes over one connection, and becomes of it on the way.

    Args:
        who: is connected.
        confirmed: what it subscribed to in its session; kept up to date.
        accepted: is called with each event that the hub has taken.
    """

    def __init__(
        self, who: Who, confirmed: set[str], accepted: Callable[[Who, Publish], None]
    ) -> None:
        self.who = who
        self.confirmed = confirmed
        self._accepted = accepted
        self._filters = set(confirmed)
        self._asked: dict[int, set[str]] = {}
        self._waiting: dict[int, Publish] = {}

    def inward(self, packet: Packet) -> Packet:
        """Returns what the broker inside is to get.

        Raises:
            RuleError: nothing, and the connection is closed.
        """
        if packet.kind in (Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP, Kind.CONNECT):
            raise RuleError(f"a packet {packet.kind.name} from {self.who.name}")
        if packet.kind is Kind.PUBLISH:
            return self._published(Publish.parse(packet))
        if packet.kind in (Kind.SUBSCRIBE, Kind.UNSUBSCRIBE):
            return self._subscribed(Subscribe.parse(packet))
        return packet

    def outward(self, packet: Packet) -> Packet:
        """Returns what the device is to get."""
        if packet.kind is Kind.PUBACK and (message := self._waiting.pop(number(packet), None)):
            # From here on it is the hub's: whatever becomes of the broker inside.
            self._accepted(self.who, message)
        if packet.kind is Kind.SUBACK:
            self.confirmed |= self._asked.pop(number(packet), set())
        if packet.kind is not Kind.PUBLISH:
            return packet
        message = Publish.parse(packet)
        topic = message.topic.removeprefix(f"down/{self.who.place}/")
        return dataclasses.replace(message, topic=topic).packet()

    def _published(self, message: Publish) -> Packet:
        who = self.who
        if message.qos > 1:
            raise RuleError(f"{who.name} published with QoS {message.qos}")
        if len(message.payload) > LARGEST:
            raise RuleError(f"{who.name} published {len(message.payload)} bytes")
        if not who.may_publish(message.topic):
            raise RuleError(f"{who.name} published to {message.topic!r}, which there is not")
        if message.retain:  # nothing is retained; the message says that it should have been
            sign = "" if message.topic.endswith("/") else "&"
            topic = f"{message.topic}{sign}mqtt-retain=true"
            message = dataclasses.replace(message, retain=False, topic=topic)
        if isinstance(who, Identity) and is_event(who, message.topic):
            if message.qos:
                self._waiting[message.number] = message
            else:
                self._accepted(who, message)
        return dataclasses.replace(message, topic=f"up/{who.place}/{message.topic}").packet()

    def _subscribed(self, wanted: Subscribe) -> Packet:
        who, texts = self.who, {text for text, _ in wanted.filters}
        for text in texts - who.filters():
            raise RuleError(f"{who.name} subscribed to {text!r}, which there is not")
        if wanted.kind is Kind.SUBSCRIBE:
            self._filters |= texts
            self._asked[wanted.number] = texts
        else:
            self._filters -= texts
            self.confirmed -= texts
        if len(self._filters) > SUBSCRIPTIONS:
            raise RuleError(f"{who.name} has {len(self._filters)} subscriptions")
        filters = tuple((f"down/{who.place}/{text}", min(qos, 1)) for text, qos in wanted.filters)
        return dataclasses.replace(wanted, filters=filters).packet()
