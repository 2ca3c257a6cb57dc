"""Puts the frames of ``link`` together from a stream's bytes, which come cut anywhere.

Invariants:
- Bytes stay where they were received until their frame is whole; only one that does not fit behind
  those before it is moved.
- The room is ``ROOM``, or as much as the one frame under way needs; never more than a frame may be.

The module does no I/O: whoever reads the stream fills ``room`` and says how much came.
"""

from __future__ import annotations

from edged.messages.link import HEADER, Frame, decode, parse_header

ROOM = 256 * 1024  # bytes; most frames fit, and those that do not are few


class Inbox:
    """Frames on their way in."""

    def __init__(self) -> None:
        self._data = bytearray(ROOM)
        self._view = memoryview(self._data)
        self._begin = self._end = 0  # of what came and is in no frame yet

    def room(self) -> memoryview:
        """Returns where the next bytes go; it is never empty."""
        return self._view[self._end :]

    def took(self, count: int) -> None:
        """Notes that so many bytes of ``room`` were filled."""
        self._end += count

    def next(self) -> Frame | None:
        """Returns the next frame, or None if it is not whole yet.

        Raises:
            ProtocolError: what came is no frame.
        """
        begin, came = self._begin, self._end - self._begin
        if came < HEADER.size:
            self._make_room(HEADER.size)
            return None
        kind, frame_id, meta_length, body_length = parse_header(self._data, begin)
        size = HEADER.size + meta_length + body_length
        if came < size:
            self._make_room(size)
            return None
        meta_end = begin + HEADER.size + meta_length
        meta = bytes(self._view[begin + HEADER.size : meta_end])
        body = bytes(self._view[meta_end : begin + size])
        self._begin += size
        return decode(kind, frame_id, meta, body)

    def _make_room(self, size: int) -> None:
        """Moves the frame that has begun to the front of a room that it fits into."""
        came = self._end - self._begin
        wanted = max(ROOM, size)
        if self._begin == 0 and len(self._data) == wanted:
            return
        begun = bytes(self._view[self._begin : self._end])
        if len(self._data) != wanted:
            self._data = bytearray(wanted)
            self._view = memoryview(self._data)
        self._view[:came] = begun
        self._begin, self._end = 0, came
