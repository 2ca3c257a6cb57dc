"""Frames between daemon and worker survive the way, and what is no frame is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.messages.link import (
    BODY_LIMIT,
    HEADER,
    META_LIMIT,
    Frame,
    Kind,
    ProtocolError,
    encode,
    parse_header,
    parse_meta,
)

METAS = st.dictionaries(st.text(max_size=20), st.integers() | st.text(max_size=50) | st.none())


@given(st.sampled_from(Kind), st.integers(0, 2**64 - 1), METAS, st.binary(max_size=200))
def test_a_frame_is_read_as_it_was_written(
    kind: Kind, number: int, meta: object, body: bytes
) -> None:
    assert isinstance(meta, dict)
    head, rest = encode(Frame(kind, number, meta, body))
    got_kind, got_number, meta_length, body_length = parse_header(head[: HEADER.size])
    assert (got_kind, got_number, body_length, rest) == (kind, number, len(body), body)
    assert parse_meta(head[HEADER.size :]) == meta
    assert meta_length == len(head) - HEADER.size


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size))
def test_bytes_that_are_no_header_are_refused(header: bytes) -> None:
    try:
        kind, _, meta_length, body_length = parse_header(header)
    except ProtocolError:
        return
    assert isinstance(kind, Kind)
    assert meta_length <= META_LIMIT
    assert body_length <= BODY_LIMIT


@given(st.binary(max_size=100))
def test_meta_is_an_object_or_refused(meta: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(parse_meta(meta), dict)


def test_deep_json_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not JSON"):
        parse_meta(b"[" * 60_000)


def test_frames_over_a_limit_are_not_sent() -> None:
    with pytest.raises(ProtocolError, match="meta is"):
        encode(Frame(Kind.RESULT, 1, {"x": "y" * META_LIMIT}))
    with pytest.raises(ProtocolError, match="body is"):
        encode(Frame(Kind.RESULT, 1, {}, bytes(BODY_LIMIT + 1)))
