"""Frames over the socket: whole or not at all, and never waited for without end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from edged.messages import link
from edged.messages.link import HEADER, MAGIC, Ask, Frame, Kind, ProtocolError
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
    frames = [Frame(Kind.PREDICT, 5, body=b"body" * 1000, ask=Ask(7, 2)), Frame(Kind.LEAVE, 6)]
    sent = b"".join(b"".join(link.encode(frame)) for frame in frames)
    for byte in range(0, len(sent), 100):
        theirs.sendall(sent[byte : byte + 100])
    assert [made.receive(), made.receive()] == frames


def test_a_frame_that_stays_incomplete_ends_the_link(ends: Ends) -> None:
    made, theirs = ends
    theirs.sendall(HEADER.pack(MAGIC, Kind.LEAVE, 0, 10, 1) + b"12345")
    with pytest.raises(ProtocolError, match="incomplete"):
        made.receive()


def test_an_answer_that_nobody_takes_ends_the_link(ends: Ends) -> None:
    made, _ = ends
    with pytest.raises(ProtocolError, match="not taken"):
        made.send(Frame(Kind.RESULT, 1, body=bytes(10_000_000)))


def test_a_daemon_that_is_gone_is_told_apart(ends: Ends) -> None:
    made, theirs = ends
    assert made.send(Frame(Kind.ACTIVE, 1, {}, bytes(100_000)))
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
        made.send(Frame(Kind.ERROR, 1, {"x": "y" * link.META_LIMIT}))


def sent(*frames: Frame) -> bytes:
    return b"".join(b"".join(link.encode(frame)) for frame in frames)


def test_what_the_daemon_took_back_meanwhile_is_known(ends: Ends) -> None:
    made, theirs = ends
    question = Frame(Kind.PREDICT, 5, body=b"x" * 1000)
    cancels = [Frame(Kind.CANCEL, 4), Frame(Kind.CANCEL, 5)]
    theirs.sendall(sent(question, *cancels, Frame(Kind.LEAVE, 6)))
    assert made.receive() == question
    assert made.cancelled(question)
    assert made.receive() == Frame(Kind.LEAVE, 6)


@pytest.mark.parametrize(
    "behind", [b"", sent(Frame(Kind.CANCEL, 4)), sent(Frame(Kind.LEAVE, 5)), b"eL"]
)
def test_nothing_else_takes_a_question_back(ends: Ends, behind: bytes) -> None:
    made, theirs = ends
    question = Frame(Kind.PREDICT, 5)
    theirs.sendall(sent(question) + behind)
    assert made.receive() == question
    assert not made.cancelled(question)


def test_frames_of_any_size_pass_both_ways(ends: Ends) -> None:
    made, theirs = ends
    for size in (0, channel.ROOM, channel.ROOM + 1, 3_000_000):
        frame = Frame(Kind.PREDICT, 5, body=bytes(size))
        sender = threading.Thread(target=theirs.sendall, args=(sent(frame),))
        sender.start()
        assert made.receive() == frame
        sender.join()
        answer = Frame(Kind.RESULT, 5, body=bytes(size))
        expected, came = sent(answer), bytearray()
        sender = threading.Thread(target=made.send, args=(answer,))
        sender.start()
        while len(came) < len(expected):
            came += theirs.recv(1 << 20)
        sender.join()
        assert came == expected
