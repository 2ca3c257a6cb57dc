"""The worker's end of the link to the daemon: whole frames over a blocking socket.

Invariants:
- A frame that has begun is read or written to its end within ``FRAME_LIMIT``, or the link is over.
- Between frames the worker sleeps until there is one, the daemon is gone, or a signal came.
"""

from __future__ import annotations

import select
import signal
import socket
from types import FrameType

from edged.messages import link
from edged.messages.link import HEADER, Frame, ProtocolError

FRAME_LIMIT = 30.0  # seconds
JOIN_LIMIT = 128 * 1024  # below this a copy that saves a system call is the cheaper way


class Channel:
    """Frames to and from the daemon.

    Args:
        end: the connected stream socket, which it owns from then on.
    """

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(FRAME_LIMIT)
        self._end = end
        self._ready = select.poll()
        self._ready.register(end, select.POLLIN)
        # Python's handler of a signal runs between two steps of Python; the byte that arrives here
        # ends a wait that began between the signal and its handler.
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._ready.register(self._woken, select.POLLIN)
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
        if self.leaving:
            return None
        while self._end.fileno() not in {descriptor for descriptor, _ in self._ready.poll()}:
            self._woken.recv(4096)
            # The handler of the signal that woke it ran in between.
            if self._is_leaving():
                return None
        try:
            return self._frame()
        except TimeoutError as exc:
            raise ProtocolError(f"cannot read frame: incomplete after {FRAME_LIMIT:g} s") from exc
        except ConnectionError:
            return None

    def _is_leaving(self) -> bool:
        return self.leaving

    def _frame(self) -> Frame | None:
        header = self._exactly(HEADER.size)
        if header is None:
            return None
        kind, frame_id, meta_length, body_length = link.parse_header(bytes(header))
        meta, body = self._exactly(meta_length), self._exactly(body_length)
        if meta is None or body is None:
            return None
        return Frame(kind, frame_id, link.parse_meta(bytes(meta)), bytes(body))

    def _exactly(self, length: int) -> bytearray | None:
        """Returns so many bytes, or None where the other end is gone before that."""
        data = bytearray(length)
        view, done = memoryview(data), 0
        while done < length:
            count = self._end.recv_into(view[done:])
            if not count:
                return None
            done += count
        return data

    def send(self, frame: Frame) -> bool:
        """Sends a frame; returns whether the daemon is still there.

        Raises:
            ProtocolError: the frame is over a limit, or the daemon does not take it.
        """
        head, body = link.encode(frame)
        try:
            if len(body) < JOIN_LIMIT:
                self._end.sendall(head + body)
            else:
                self._end.sendall(head)
                self._end.sendall(body)
        except TimeoutError as exc:
            raise ProtocolError(f"cannot send frame: not taken in {FRAME_LIMIT:g} s") from exc
        except ConnectionError:
            return False
        return True

    def close(self) -> None:
        """Gives the link up."""
        for each in (self._end, self._woken, self._wake):
            each.close()
