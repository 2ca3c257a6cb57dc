"""Frames over the socket: whole or not at all, and never waited for without end."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from edged.messages import link
from edged.messages.link import HEADER, MAGIC, Frame, Kind, ProtocolError
from edged.worker import channel
from edged.worker.channel import Channel

Ends = tuple[Channel, socket.socket]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setattr(channel, "FRAME_LIMIT", 0.2)
    ours, theirs = socket.socketpair()
    made = Channel(ours)
    yield made, theirs
    made.close()
    theirs.close()


def test_frames_arrive_whole_however_they_are_cut(ends: Ends) -> None:
    made, theirs = ends
    frames = [Frame(Kind.PREDICT, 5, {"top": 1}, b"body" * 1000), Frame(Kind.LEAVE, 6)]
    sent = b"".join(b"".join(link.encode(frame)) for frame in frames)
    for byte in range(0, len(sent), 100):
        theirs.sendall(sent[byte : byte + 100])
    assert [made.receive(), made.receive()] == frames


def test_a_frame_that_stays_incomplete_ends_the_link(ends: Ends) -> None:
    made, theirs = ends
    theirs.sendall(HEADER.pack(MAGIC, Kind.PREDICT, 0, 10, 1) + b"12345")
    with pytest.raises(ProtocolError, match="incomplete"):
        made.receive()


def test_an_answer_that_nobody_takes_ends_the_link(ends: Ends) -> None:
    made, _ = ends
    with pytest.raises(ProtocolError, match="not taken"):
        made.send(Frame(Kind.RESULT, 1, {}, bytes(10_000_000)))


def test_a_daemon_that_is_gone_is_told_apart(ends: Ends) -> None:
    made, theirs = ends
    assert made.send(Frame(Kind.ACTIVE, 1, {}, bytes(channel.JOIN_LIMIT)))
    theirs.close()
    assert not made.send(Frame(Kind.ACTIVE, 1))
    assert made.receive() is None


def test_nothing_is_received_any_more_when_leaving(ends: Ends) -> None:
    made, theirs = ends
    theirs.sendall(b"".join(link.encode(Frame(Kind.LEAVE, 6))))
    made.leaving = True
    assert made.receive() is None


def test_an_answer_over_the_limit_is_refused(ends: Ends) -> None:
    made, _ = ends
    with pytest.raises(ProtocolError, match="limit"):
        made.send(Frame(Kind.RESULT, 1, {"x": "y" * link.META_LIMIT}))
