"""The worker's end of the link to the daemon: whole frames over a socket.

Invariants:
- A frame that has begun is read or written to its end within ``FRAME_LIMIT``, or the link is over.
- Between frames the worker sleeps until there is one, the daemon is gone, or a signal came.
- No byte of a frame is read before the frame before it was returned: what is unread when the
  process ends was not begun, and the daemon can tell.
"""

from __future__ import annotations

import select
import signal
import socket
import time
from types import FrameType

from edged.messages import link
from edged.messages.link import HEADER, Frame, Kind, ProtocolError

FRAME_LIMIT = 30.0  # seconds
ROOM = 256 * 1024  # bytes; frames up to this size are read into the same memory again and again


class Channel:
    """Frames to and from the daemon.

    Args:
        end: the connected stream socket, which it owns from then on.
    """

    def __init__(self, end: socket.socket) -> None:
        # Asked first and waited for after: mostly the bytes are there, or there is room for them.
        end.setblocking(False)
        self._end = end
        self._ready = select.poll()
        self._ready.register(end, select.POLLIN)
        # Python's handler of a signal runs between two steps of Python; the byte that arrives here
        # ends a wait that began between the signal and its handler.
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._ready.register(self._woken, select.POLLIN)
        self._header = bytearray(HEADER.size)
        self._room = bytearray(ROOM)
        self._waited = False  # for the last frame
        self.leaving = False

    def leave_on(self, number: signal.Signals) -> None:
        """Makes ``receive`` return None when the process gets this signal; for the main thread."""
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(number, self._leave)

    def _leave(self, _number: int, _frame: FrameType | None) -> None:
        self.leaving = True

    def receive(self) -> Frame | None:
        """Returns the next frame, or None when the daemon is gone or the process is to leave.

        Raises:
            ProtocolError: what came is no frame, or came too slowly.
        """
        try:
            return self._frame() if self._begins() else None
        except ConnectionError:
            return None

    def _begins(self) -> bool:
        """Reads the first bytes of a frame; returns whether there was one."""
        self._waited = False
        while not self._is_leaving():
            try:
                count = self._end.recv_into(self._header)
            except BlockingIOError:
                self._waited = True
                self._sleep()
                continue
            return count > 0 and self._fill(memoryview(self._header)[count:])
        return False

    def _is_leaving(self) -> bool:
        return self.leaving

    def _sleep(self) -> None:
        """Returns when there may be something to read, or a signal came."""
        if self._woken.fileno() in {descriptor for descriptor, _ in self._ready.poll()}:
            self._woken.recv(4096)  # the signal's handler has run by now

    def _frame(self) -> Frame | None:
        kind, frame_id, meta_length, body_length = link.parse_header(self._header)
        size = meta_length + body_length
        room = self._room if size <= ROOM else bytearray(size)
        with memoryview(room)[:size] as rest:
            if not self._fill(rest):
                return None
            meta, body = bytes(rest[:meta_length]), bytes(rest[meta_length:])
        return link.decode(kind, frame_id, meta, body)

    def _fill(self, room: memoryview) -> bool:
        """Reads until there is no room left; returns whether the daemon was there for so long."""
        done, limit = 0, 0.0
        while done < len(room):
            try:
                count = self._end.recv_into(room[done:])
            except BlockingIOError:
                limit = limit or time.monotonic() + FRAME_LIMIT
                if not self._wait(select.POLLIN, limit):
                    cause = f"incomplete after {FRAME_LIMIT:g} s"
                    raise ProtocolError(f"cannot read frame: {cause}") from None
                continue
            if not count:
                return False
            done += count
        return True

    def _wait(self, event: int, limit: float) -> bool:
        """Returns whether the socket is ready before ``limit``, on the monotonic clock."""
        ready = select.poll()
        ready.register(self._end, event)
        return bool(ready.poll(max(0.0, limit - time.monotonic()) * 1e3))

    def cancelled(self, frame: Frame) -> bool:
        """Whether the daemon has already said, right behind a frame, that nobody waits for it."""
        if self._waited:
            return False  # it has only just come
        found = False
        while not found and self._cancel_is_next():
            if (next_frame := self.receive()) is None:
                return True  # nor does anybody else
            found = next_frame.id == frame.id  # others are of questions that were answered
        return found

    def _cancel_is_next(self) -> bool:
        try:
            header = self._end.recv(HEADER.size, socket.MSG_PEEK)
        except (BlockingIOError, ConnectionError):
            return False
        return len(header) == HEADER.size and link.parse_header(header)[0] is Kind.CANCEL

    def send(self, frame: Frame) -> bool:
        """Sends a frame; returns whether the daemon is still there.

        Raises:
            ProtocolError: the frame is over a limit, or the daemon does not take it.
        """
        head, body = link.encode(frame)
        try:
            sent = self._send_now(head, body)
            if sent < len(head) + len(body):
                self._send_rest(memoryview(head + body)[sent:])
        except ConnectionError:
            return False
        return True

    def _send_now(self, head: bytes, body: bytes) -> int:
        try:
            return self._end.sendmsg((head, body))
        except BlockingIOError:
            return 0

    def _send_rest(self, rest: memoryview) -> None:
        limit = time.monotonic() + FRAME_LIMIT
        while rest:
            if not self._wait(select.POLLOUT, limit):
                cause = f"not taken in {FRAME_LIMIT:g} s"
                raise ProtocolError(f"cannot send frame: {cause}")
            try:
                rest = rest[self._end.send(rest) :]
            except BlockingIOError:
                continue  # it was taken back

    def close(self) -> None:
        """Gives the link up."""
        for each in (self._end, self._woken, self._wake):
            each.close()
