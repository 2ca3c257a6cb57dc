"""The daemon's end of the link to a worker, on the event loop.

Invariants:
- Every question gets exactly one end: its answer, the worker's ERROR, or ``DeviceError`` when the
  link is gone.
- ``on_lost`` runs before the questions under way fail, so that whoever hears of a failed question
  already finds the model out of service.
- A question that the worker has not read to its end fails with ``NotBegunError``. The kernel says
  so: a Unix socket that is closed with unread data resets its other end, else it just ends it.
- The worker is not trusted: a frame that nobody asked for, or that breaks a limit, ends the link.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

from edged.errors import DeviceError, RequestError
from edged.messages.link import (
    HEADER,
    Frame,
    Kind,
    ProtocolError,
    encode,
    parse_header,
    parse_meta,
)
from edged.rpc.front import NotBegunError

ANSWERS = {
    Kind.ACTIVATE: Kind.ACTIVE,
    Kind.LEAVE: Kind.LEFT,
    Kind.PROBE: Kind.PROBED,
    Kind.PREDICT: Kind.RESULT,
}
# Below this a copy that saves a system call is the cheaper way.
JOIN_LIMIT = 128 * 1024
MESSAGE_LIMIT = 1024  # characters of an error's text


class Connection(asyncio.Protocol):
    """Asks a worker questions over a stream socket.

    Args:
        on_lost: called once, with why, when the link is gone; ``lost`` has it from then on.
    """

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._asked: dict[int, tuple[Kind, asyncio.Future[Frame]]] = {}
        self._last_id = 0
        self._received = bytearray()
        self.lost: str | None = None
        self.hello: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()

    async def open(self, end: socket.socket) -> None:
        """Begins to speak over ``end``, which it owns from then on."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    def ask(
        self, kind: Kind, meta: dict[str, Any] | None = None, body: bytes = b""
    ) -> asyncio.Future[Frame]:
        """Sends a question and returns the future of its answer.

        The future fails with ``RequestError`` where the worker answers ERROR, and with
        ``DeviceError`` where the link is gone.
        """
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        if self.lost is not None:
            answer.set_exception(DeviceError(self.lost))
            return answer
        self._last_id += 1
        self._asked[self._last_id] = (ANSWERS[kind], answer)
        self._send(Frame(kind, self._last_id, meta or {}, body))
        return answer

    def stop(self) -> None:
        """Tells the worker to finish what it runs and leave."""
        if self.lost is None:
            self._send(Frame(Kind.STOP))

    def close(self) -> None:
        """Gives the link up."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, frame: Frame) -> None:
        assert self._transport is not None  # noqa: S101 - nobody asks before ``open``
        head, body = encode(frame)
        if len(body) < JOIN_LIMIT:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream socket has one
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Takes bytes off the socket and acts on the frames that are complete."""
        self._received += data
        try:
            while (frame := self._next_frame()) is not None:
                self._act(frame)
        except ProtocolError as exc:
            self._fail(f"the worker broke the protocol: {exc}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends every question under way."""
        unread = isinstance(exc, ConnectionResetError | BrokenPipeError)
        why = f"the worker's link broke: {exc}" if exc and not unread else "the worker ended"
        self._fail(why, unread=unread)

    def _next_frame(self) -> Frame | None:
        received = self._received
        if len(received) < HEADER.size:
            return None
        kind, frame_id, meta_length, body_length = parse_header(bytes(received[: HEADER.size]))
        start = HEADER.size + meta_length
        if len(received) < start + body_length:
            return None
        meta = parse_meta(bytes(received[HEADER.size : start]))
        with memoryview(received) as view:
            body = bytes(view[start : start + body_length])
        del received[: start + body_length]
        return Frame(kind, frame_id, meta, body)

    def _act(self, frame: Frame) -> None:
        if frame.id in self._asked:
            expected, answer = self._asked.pop(frame.id)
            if frame.kind not in (expected, Kind.ERROR):
                self._asked[frame.id] = (expected, answer)
                raise ProtocolError(f"cannot use {frame.kind.name}: expected {expected.name}")
            if answer.done():
                return  # nobody waits any more
            if frame.kind is Kind.ERROR:
                answer.set_exception(_error(frame.meta))
            else:
                answer.set_result(frame)
        elif frame.kind is Kind.HELLO and not self.hello.done():
            self.hello.set_result(frame.meta)
        elif frame.kind is Kind.ERROR and not self.hello.done():
            self.hello.set_exception(_error(frame.meta))
        else:
            raise ProtocolError(f"cannot use {frame.kind.name}: nobody asked for id {frame.id}")

    def _fail(self, why: str, *, unread: bool = False) -> None:
        if self.lost is not None:
            return
        self.lost = why
        self._on_lost(why)
        if not self.hello.done():
            self.hello.set_exception(DeviceError(why))
            self.hello.exception()  # it is no fault that nobody may be waiting for it
        # The worker answers in order: while it owes an answer it has begun none of the later ones.
        for place, (_, answer) in enumerate(self._asked.values()):
            begun = place == 0 and not (unread and len(self._asked) == 1)
            if not answer.done():
                answer.set_exception(DeviceError(why) if begun else NotBegunError(why))
        self._asked.clear()


def _error(meta: Mapping[str, Any]) -> RequestError:
    """Returns the worker's error, cut to size; its code may be no code at all."""
    message = str(meta.get("message", "the worker gave no reason"))
    if len(message) > MESSAGE_LIMIT:
        message = message[:MESSAGE_LIMIT] + "...TRUNCATED"
    return RequestError(str(meta.get("code", "INTERNAL"))[:64], message)
