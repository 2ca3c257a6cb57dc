"""Frames between daemon and worker survive the way, and what is no frame is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.messages.inbox import ROOM, Inbox
from edged.messages.link import (
    BODY_LIMIT,
    HEADER,
    META_LIMIT,
    Ask,
    Frame,
    Kind,
    ProtocolError,
    Said,
    decode,
    encode,
    parse_header,
)

METAS = st.dictionaries(st.text(max_size=20), st.integers() | st.text(max_size=50) | st.none())
LINES = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=50)
OWN = (Kind.PREDICT, Kind.RESULT)  # kinds whose meta is no JSON
NUMBERS = st.integers(0, 2**64 - 1)
BODIES = st.binary(max_size=200)
FRAMES = st.one_of(
    st.builds(
        Frame,
        st.sampled_from(sorted(set(Kind) - {Kind.PREDICT, Kind.RESULT})),
        NUMBERS,
        METAS,
        BODIES,
    ),
    st.builds(
        lambda number, body, ask: Frame(Kind.PREDICT, number, body=body, ask=ask),
        NUMBERS,
        BODIES,
        st.builds(Ask, NUMBERS, st.integers(0, 65535), st.booleans(), st.booleans(), st.booleans()),
    ),
    st.builds(
        lambda number, body, said: Frame(Kind.RESULT, number, body=body, said=said),
        NUMBERS,
        BODIES,
        st.builds(Said, LINES, LINES),
    ),
)


@given(FRAMES)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    head, body = encode(frame)
    kind, number, meta_length, body_length = parse_header(head)
    assert (meta_length, body_length) == (len(head) - HEADER.size, len(body))
    assert decode(kind, number, head[HEADER.size :], body) == frame


@given(st.lists(FRAMES, max_size=5), st.data())
def test_frames_are_put_together_however_they_are_cut(
    frames: list[Frame], data: st.DataObject
) -> None:
    inbox, came = Inbox(), []
    left = b"".join(b"".join(encode(frame)) for frame in frames)
    while left:
        part = left[: data.draw(st.integers(1, min(len(left), len(inbox.room()))))]
        left = left[len(part) :]
        inbox.room()[: len(part)] = part
        inbox.took(len(part))
        while (frame := inbox.next()) is not None:
            came.append(frame)
    assert came == frames


def test_a_frame_larger_than_the_room_makes_room_and_gives_it_back() -> None:
    inbox = Inbox()
    frames = [Frame(Kind.RESULT, n, body=bytes([n]) * size) for n, size in enumerate((9, ROOM, 9))]
    left = memoryview(b"".join(b"".join(encode(frame)) for frame in frames))
    came = []
    while left:
        room = inbox.room()
        size = min(len(room), len(left), 100_000)
        room[:size] = left[:size]
        left = left[size:]
        inbox.took(size)
        while (frame := inbox.next()) is not None:
            came.append(frame)
    assert came == frames
    assert len(inbox.room()) == ROOM


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size))
def test_bytes_that_are_no_header_are_refused(header: bytes) -> None:
    try:
        kind, _, meta_length, body_length = parse_header(header)
    except ProtocolError:
        return
    assert isinstance(kind, Kind)
    assert meta_length <= META_LIMIT
    assert body_length <= BODY_LIMIT


@given(st.sampled_from(Kind), st.binary(max_size=100))
def test_meta_is_that_of_its_kind_or_refused(kind: Kind, meta: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        frame = decode(kind, 1, meta, b"")
        assert isinstance(frame.meta, dict)
        assert frame.said.times.isprintable()
        assert frame.said.top.isprintable()


def test_deep_json_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not JSON"):
        decode(Kind.HELLO, 1, b"[" * 60_000, b"")


def test_frames_over_a_limit_are_not_sent() -> None:
    with pytest.raises(ProtocolError, match="meta is"):
        encode(Frame(Kind.ERROR, 1, {"x": "y" * META_LIMIT}))
    with pytest.raises(ProtocolError, match="body is"):
        encode(Frame(Kind.RESULT, 1, body=bytes(BODY_LIMIT + 1)))
