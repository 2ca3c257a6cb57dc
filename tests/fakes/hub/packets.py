"""MQTT 3.1.1's packets as far as the front looks into them; the rest passes as bytes.

OASIS MQTT 3.1.1, sections 2 and 3. A broker is mosquitto's business: this reads and writes again.
"""

from __future__ import annotations

import asyncio
import enum
import struct
from dataclasses import dataclass

MOST = 268_435_455  # bytes of a packet's rest, which four bytes of length can say


class Kind(enum.IntEnum):
    """The types of packets."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class MalformedError(Exception):
    """Not a packet of MQTT 3.1.1."""


@dataclass(frozen=True)
class Packet:
    """One packet: its type, the four flags beside that, and what follows the length."""

    kind: Kind
    flags: int
    body: bytes

    def encode(self) -> bytes:
        length, rest = bytearray(), len(self.body)
        while True:
            rest, digit = divmod(rest, 128)
            length.append(digit | (0x80 if rest else 0))
            if not rest:
                break
        return bytes([self.kind << 4 | self.flags]) + length + self.body


async def read(stream: asyncio.StreamReader) -> Packet | None:
    """Returns the next packet; None at the end of the stream."""
    try:
        first = (await stream.readexactly(1))[0]
        length = shift = 0
        while True:
            digit = (await stream.readexactly(1))[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                break
            if shift > 21:
                raise MalformedError("a length of more than four bytes")
        body = await stream.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None
    try:
        return Packet(Kind(first >> 4), first & 15, body)
    except ValueError:
        raise MalformedError(f"a packet of type {first >> 4}") from None


class _Reader:
    """Takes fields off a packet's body."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise MalformedError("a packet ends within a field")
        self._at += count
        return part

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError:
            raise MalformedError("text that is not UTF-8") from None

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def more(self) -> bool:
        return self._at < len(self._data)


def _binary(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


@dataclass(frozen=True)
class Connect:
    """What a client asks for at first; ``will`` is its topic, payload and quality of service."""

    level: int
    clean: bool
    keepalive: int
    client_id: str
    will: tuple[str, bytes, int] | None
    username: str | None
    password: str | None

    @classmethod
    def parse(cls, packet: Packet) -> Connect:
        fields = _Reader(packet.body)
        protocol, level, flags = fields.text(), fields.take(1)[0], fields.take(1)[0]
        if protocol != "MQTT" or flags & 1:
            raise MalformedError(f"a CONNECT of protocol {protocol!r} with flags {flags:#x}")
        keepalive, client_id = fields.number(), fields.text()
        will = (fields.text(), fields.binary(), flags >> 3 & 3) if flags & 4 else None
        username = fields.text() if flags & 0x80 else None
        password = fields.text() if flags & 0x40 else None
        return cls(level, bool(flags & 2), keepalive, client_id, will, username, password)

    def packet(self) -> Packet:
        """The same again, without user name and password."""
        flags, tail = (2 if self.clean else 0), _binary(self.client_id.encode())
        if self.will is not None:
            topic, payload, qos = self.will
            flags |= 4 | qos << 3
            tail += _binary(topic.encode()) + _binary(payload)
        head = _binary(b"MQTT") + bytes([self.level, flags]) + struct.pack(">H", self.keepalive)
        return Packet(Kind.CONNECT, 0, head + tail)


@dataclass(frozen=True)
class Publish:
    """A message on its way; ``number`` is 0 with quality of service 0."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    number: int

    @classmethod
    def parse(cls, packet: Packet) -> Publish:
        fields = _Reader(packet.body)
        qos = packet.flags >> 1 & 3
        topic, number = fields.text(), fields.number() if qos else 0
        retain, dup = bool(packet.flags & 1), bool(packet.flags & 8)
        return cls(topic, fields.rest(), qos, retain, dup, number)

    def packet(self) -> Packet:
        number = struct.pack(">H", self.number) if self.qos else b""
        flags = self.retain | self.qos << 1 | self.dup << 3
        return Packet(Kind.PUBLISH, flags, _binary(self.topic.encode()) + number + self.payload)


@dataclass(frozen=True)
class Subscribe:
    """Filters asked for, with their quality of service; for UNSUBSCRIBE without."""

    kind: Kind
    number: int
    filters: tuple[tuple[str, int], ...]

    @classmethod
    def parse(cls, packet: Packet) -> Subscribe:
        fields = _Reader(packet.body)
        number, filters = fields.number(), []
        while fields.more():
            text = fields.text()
            filters.append((text, fields.take(1)[0] if packet.kind is Kind.SUBSCRIBE else 0))
        return cls(packet.kind, number, tuple(filters))

    def packet(self) -> Packet:
        body = struct.pack(">H", self.number)
        for text, qos in self.filters:
            body += _binary(text.encode())
            body += bytes([qos]) if self.kind is Kind.SUBSCRIBE else b""
        return Packet(self.kind, 2, body)


def connack(code: int) -> bytes:
    """A server's answer to CONNECT: 0, or why not (section 3.2.2.3)."""
    return Packet(Kind.CONNACK, 0, bytes([0, code])).encode()


def number(packet: Packet) -> int:
    """The number in an acknowledgement."""
    return _Reader(packet.body).number()
