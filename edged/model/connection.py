"""The daemon's end of the link to a worker, on the event loop.

Invariants:
- Every question gets exactly one end: its answer, the worker's ERROR, or ``DeviceError`` when the
  link is gone.
- ``on_lost`` runs before the questions under way fail, so that whoever hears of a failed question
  already finds the model out of service.
- A question that the worker has not read to its end fails with ``NotBegunError``. The kernel says
  so: a Unix socket that is closed with unread data resets its other end, else it just ends it. Of
  one that is given up it says how much there is unread.
- The worker is not trusted: a frame that nobody asked for, or that breaks a limit, ends the link.
- A connection that is lost holds on to nobody: with its process it is freed as soon as it is let
  go of, buffer and all, not when the collector comes by.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import socket
import termios
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from edged.errors import DeviceError, RequestError
from edged.messages.inbox import Inbox
from edged.messages.link import Ask, Frame, Kind, ProtocolError, encode
from edged.rpc.front import NotBegunError

ANSWERS = {
    Kind.ACTIVATE: Kind.ACTIVE,
    Kind.LEAVE: Kind.LEFT,
    Kind.PROBE: Kind.PROBED,
    Kind.PREDICT: Kind.RESULT,
    Kind.BEAT: Kind.ALIVE,
}
MESSAGE_LIMIT = 1024  # characters of an error's text

Outcome: TypeAlias = "Frame | RequestError | DeviceError"
Done: TypeAlias = Callable[[Outcome], None]


class Connection(asyncio.BufferedProtocol):
    """Asks a worker questions over a stream socket.

    Args:
        on_lost: called once, with why, when the link is gone; ``lost`` has it from then on.
    """

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._on_lost: Callable[[str], None] | None = on_lost
        self._transport: asyncio.Transport | None = None
        self._end: socket.socket | None = None
        self._asked: dict[int, tuple[Kind, Done]] = {}
        self._last_id = 0
        self._too_late: int | None = None  # the first that was asked when the link was gone
        self._inbox = Inbox()
        self.lost: str | None = None
        self.heard = 0.0  # when the worker last said something, on time.monotonic
        self.hello: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()

    @property
    def busy(self) -> bool:
        """Whether the worker owes an answer."""
        return bool(self._asked)

    async def open(self, end: socket.socket) -> None:
        """Begins to speak over ``end``, which it owns from then on."""
        self._end = end
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    def ask(self, kind: Kind) -> asyncio.Future[Frame]:
        """Sends a question of nothing but its kind and returns the future of its answer.

        The future fails with ``RequestError`` where the worker answers ERROR, and with
        ``DeviceError`` where the link is gone.
        """
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._ask(kind, functools.partial(_settle, answer), Ask(), b"")
        return answer

    def predict(self, ask: Ask, body: bytes, done: Done) -> int:
        """Sends a request; returns its id.

        Args:
            ask: what goes with it.
            body: a PredictRequest.
            done: called once with how it ended, as soon as that is known, never from within this
                call: the RESULT, or one of the errors of ``ask``'s future.
        """
        return self._ask(Kind.PREDICT, done, ask, body)

    def _ask(self, kind: Kind, done: Done, ask: Ask, body: bytes) -> int:
        self._last_id += 1
        if self.lost is not None:
            asyncio.get_running_loop().call_soon(done, DeviceError(self.lost))
            return self._last_id
        self._asked[self._last_id] = (ANSWERS[kind], done)
        self._send(Frame(kind, self._last_id, body=body, ask=ask))
        return self._last_id

    def cancel(self, question: int) -> None:
        """Tells the worker not to begin what nobody waits for; the question ends all the same."""
        if question in self._asked:
            self._send(Frame(Kind.CANCEL, question))

    def stop(self) -> None:
        """Tells the worker to finish what it runs and leave."""
        if self.lost is None:
            self._send(Frame(Kind.STOP))

    def give_up(self) -> None:
        """Closes the link to a worker that hangs; a question that it has not read is not begun."""
        self._fail("the worker was given up", unread=self._has_unread())
        self.close()

    def _has_unread(self) -> bool:
        """Whether something of what was sent has not been read."""
        transport, end = self._transport, self._end
        if transport is None or end is None:
            return False
        if transport.get_write_buffer_size():
            return True
        try:
            unread = fcntl.ioctl(end, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return any(unread)

    def close(self) -> None:
        """Gives the link up."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, frame: Frame) -> None:
        transport, end = self._transport, self._end
        assert transport is not None  # noqa: S101 - nobody asks before ``open``
        assert end is not None  # noqa: S101
        if transport.is_closing() and self._too_late is None:
            self._too_late = frame.id
        head, body = encode(frame)
        sent = 0
        if not transport.get_write_buffer_size() and not transport.is_closing():
            # Past the transport, which would join the two to send them in one go.
            try:
                sent = end.sendmsg((head, body))
            except OSError:  # the transport meets it too, and knows what to do
                sent = 0
        if sent == len(head) + len(body):
            return
        if sent < len(head):
            transport.write(head[sent:])
            sent = len(head)
        transport.write(memoryview(body)[sent - len(head) :])

    # -- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream socket has one
        self._transport = transport

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Says where the next bytes go."""
        return self._inbox.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Acts on the frames that are complete."""
        self._inbox.took(nbytes)
        self.heard = time.monotonic()
        try:
            while (frame := self._inbox.next()) is not None:
                self._act(frame)
        except ProtocolError as exc:
            self._fail(f"the worker broke the protocol: {exc}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends every question under way."""
        unread = isinstance(exc, ConnectionResetError | BrokenPipeError)
        why = f"the worker's link broke: {exc}" if exc and not unread else "the worker ended"
        self._fail(why, unread=unread)

    def _act(self, frame: Frame) -> None:
        if frame.id in self._asked:
            expected, done = self._asked[frame.id]
            if frame.kind is not expected and frame.kind is not Kind.ERROR:
                raise ProtocolError(f"cannot use {frame.kind.name}: expected {expected.name}")
            del self._asked[frame.id]
            done(_error(frame.meta) if frame.kind is Kind.ERROR else frame)
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
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(why)
        if not self.hello.done():
            self.hello.set_exception(DeviceError(why))
            self.hello.exception()  # it is no fault that nobody may be waiting for it
        asked, self._asked = self._asked, {}
        # The worker answers in order: while it owes an answer it has begun none of the later ones.
        late = self._last_id + 1 if self._too_late is None else self._too_late
        for place, (number, (_, done)) in enumerate(asked.items()):
            begun = place == 0 and not (unread and len(asked) == 1) and number < late
            done(DeviceError(why) if begun else NotBegunError(why))


def _settle(answer: asyncio.Future[Frame], outcome: Outcome) -> None:
    if answer.done():
        return  # nobody waits any more
    if isinstance(outcome, Frame):
        answer.set_result(outcome)
    else:
        answer.set_exception(outcome)


def _error(meta: Mapping[str, Any]) -> RequestError:
    """Returns the worker's error, cut to size; its code may be no code at all."""
    message = str(meta.get("message", "the worker gave no reason"))
    if len(message) > MESSAGE_LIMIT:
        message = message[:MESSAGE_LIMIT] + "...TRUNCATED"
    return RequestError(str(meta.get("code", "INTERNAL"))[:64], message)
