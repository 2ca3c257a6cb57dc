"""The dialect ``plain``, for any broker of MQTT 3.1.1: ours, and open to be read.

=========================================  ==============  =======================================
topic, below ``edged/v1/DEVICE``           direction       what
=========================================  ==============  =======================================
``/desired``                               in, retained    what the device is to have; empty for
                                                           no model
``/reported``                              out, retained   how it is (``edged.mqtt.report``)
``/online``                                out, retained   whether the link stands; its will
``/telemetry``, ``/result``, ``/event``    out             from the outbox
``/command/NAME``                          in              a method (``edged.mqtt.methods``)
``/answer/NAME``                           out             its answer, with its ``correlation``
=========================================  ==============  =======================================

All at QoS 1. A command that the broker had retained is not obeyed: it is an order of some other
time. One that comes twice is done twice unless it has an ``idempotencyKey``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edged.errors import ConfigError, LinkError
from edged.mqtt.bounded import encode
from edged.mqtt.control import Answer, Control
from edged.mqtt.dialect import Endpoint, Message, Session, Will
from edged.mqtt.fields import parse
from edged.mqtt.methods import PAYLOAD_LIMIT

if TYPE_CHECKING:
    from edged.config.mqtt import Mqtt

logger = logging.getLogger(__name__)

ROOT = "edged/v1"
PORT, TLS_PORT = 1883, 8883
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
COMMANDS_LIMIT = 32  # that wait for their answer
CORRELATION_LIMIT = 256  # characters


class Plain:
    """Speaks plain.

    Args:
        control: of the device.
        device: its name in topics.
        boot_id: of this start of edged.
        connect: makes where to connect, without a will; may read files, so it runs in a thread.
    """

    def __init__(
        self, control: Control, device: str, boot_id: str, connect: Callable[[], Endpoint]
    ) -> None:
        self._control = control
        self._root = f"{ROOT}/{device}"
        self._boot_id = boot_id
        self._connect = connect
        self._session: Session | None = None
        self._commands: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(COMMANDS_LIMIT)

    @property
    def subscriptions(self) -> Sequence[str]:
        """What is desired, and commands."""
        return (f"{self._root}/desired", f"{self._root}/command/+")

    async def endpoint(self) -> Endpoint:
        """Where to connect now, with a will that says we are gone."""
        endpoint = await asyncio.to_thread(self._connect)
        will = Will(f"{self._root}/online", self._online(online=False), retain=True)
        return dataclasses.replace(endpoint, will=will)

    async def serve(self, session: Session) -> None:
        """Says that we are there, reports, and answers commands, while the session stands."""
        self._session = session
        await session.publish(f"{self._root}/online", self._online(online=True), retain=True)
        answering = [
            asyncio.get_running_loop().create_task(self._answer(session), name="answer")
            for _ in range(2)
        ]
        try:
            async for each in self._control.reports():
                await session.publish(f"{self._root}/reported", encode(each.own), retain=True)
        finally:
            self._session = None
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)

    async def leave(self) -> None:
        """Says goodbye over the session that stands, if one does."""
        session = self._session
        if session is None:
            return
        own = self._control.farewell().own
        await session.publish(f"{self._root}/reported", encode(own), retain=True)
        await session.publish(f"{self._root}/online", self._online(online=False), retain=True)

    async def explain(self, why: LinkError) -> LinkError | None:
        """There is nothing more to say."""
        return why

    def received(self, message: Message) -> None:
        """Takes what is desired, or a command."""
        if message.topic == f"{self._root}/desired":
            self._control.document(message.payload)
            return
        prefix, _, name = message.topic.rpartition("/")
        if prefix != f"{self._root}/command":
            logger.warning("message on %s is not for us", ascii(message.topic[:80]))
        elif message.retained:
            logger.warning("command %s was retained, so it is passed over", ascii(name[:40]))
        else:
            try:
                self._commands.put_nowait((name, message.payload))
            except asyncio.QueueFull:
                logger.warning("command %s is dropped: too many wait", ascii(name[:40]))

    def outgoing(self, kind: str, payload: bytes) -> tuple[str, bytes]:
        """The topic of an entry of the outbox."""
        return f"{self._root}/{kind}", payload

    def _online(self, *, online: bool) -> bytes:
        return encode({"online": online, "boot_id": self._boot_id})

    async def _answer(self, session: Session) -> None:
        """Answers commands, one after the other."""
        while True:
            name, payload = await self._commands.get()
            payload, correlation = _correlated(payload)
            answer = await self._control.call(name, payload)
            with contextlib.suppress(LinkError, ValueError):  # nobody is there any more to read it
                await session.publish(f"{self._root}/answer/{name}", _told(answer, correlation))


def check_device(name: str) -> None:
    """Raises if a device may not be called so.

    Raises:
        ConfigError: it would be several topics, or none.
    """
    if not _DEVICE.fullmatch(name):
        raise ConfigError(
            f"cannot use device {name[:80]!a}: expected 1 to 128 letters, digits and . _ - "
        )


def make(settings: Mqtt, control: Control, boot_id: str) -> Plain:
    """Returns the dialect as it is configured."""
    from edged.mqtt import tls

    def connect() -> Endpoint:
        files = (settings.ca_file, settings.cert_file, settings.key_file)
        return Endpoint(
            settings.host,
            settings.port or (TLS_PORT if settings.tls else PORT),
            f"edged-{settings.device}",
            settings.username,
            settings.secret("password") or None,
            tls.context(*files) if settings.tls else None,
            settings.keepalive,
        )

    return Plain(control, settings.device, boot_id, connect)


def _correlated(payload: bytes) -> tuple[bytes, Any]:
    """Returns a command's payload without its correlation, and that; None if it has none.

    What is no object stays as it is: the method says so.
    """
    try:
        document = parse(payload, "command", PAYLOAD_LIMIT) if payload else {}
    except Exception:  # noqa: BLE001 - whatever it is, the method will say it in its own words
        return payload, None
    correlation = document.pop("correlation", None)
    if not isinstance(correlation, str) or len(correlation) > CORRELATION_LIMIT:
        correlation = None
    return (json.dumps(document).encode() if document else b""), correlation


def _told(answer: Answer, correlation: str | None) -> bytes:
    body = b'{"status":%d,"payload":%b' % (answer.status, answer.body)
    if correlation is not None:
        body += b',"correlation":' + json.dumps(correlation).encode()
    return body + b"}"
