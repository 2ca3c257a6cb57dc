"""The daemon's end of the link: every question ends, and the worker is not trusted."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edged.errors import DeviceError, RequestError
from edged.messages.link import (
    BODY_LIMIT,
    HEADER,
    MAGIC,
    NOTHING_ASKED,
    Ask,
    Frame,
    Kind,
    Said,
    decode,
    encode,
    parse_header,
)
from edged.model.connection import Connection
from edged.rpc.front import NotBegunError


class Worker:
    """The worker's end, in the test's hands."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        end.settimeout(5)

    async def receive(self) -> Frame:
        """Returns the next frame that the daemon sends."""
        return await asyncio.get_running_loop().run_in_executor(None, self._receive)

    def _receive(self) -> Frame:
        kind, frame_id, meta, body = parse_header(self._read(HEADER.size))
        return decode(kind, frame_id, self._read(meta), self._read(body))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.end.recv(size - len(data))
            assert part, "the daemon hung up"
            data += part
        return data

    async def read(self, size: int) -> bytes:
        """Returns so many bytes of what the daemon sends."""
        return await asyncio.get_running_loop().run_in_executor(None, self._read, size)

    def send(self, frame: Frame) -> None:
        head, body = encode(frame)
        self.end.sendall(head + body)


class Link:
    """A connection to a worker, and what was heard of its loss."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.ours = ours
        self.worker = Worker(theirs)
        self.lost: list[str] = []
        self.connection = Connection(self.lost.append)


def request(link: Link, body: bytes, ask: Ask = NOTHING_ASKED) -> asyncio.Future[Frame]:
    """Sends a PREDICT; returns the future of how it ends."""
    ended: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

    def done(outcome: Frame | Exception) -> None:
        if isinstance(outcome, Frame):
            ended.set_result(outcome)
        else:
            ended.set_exception(outcome)

    link.connection.predict(ask, body, done)
    return ended


def linked(test: Callable[[Link], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        link = Link()
        await link.connection.open(link.ours)
        try:
            await test(link)
        finally:
            link.connection.close()
            link.worker.end.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(run(), debug=True)


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_a_question_is_answered_by_its_id(size: int) -> None:
    async def test(link: Link) -> None:
        first = request(link, b"a" * size, Ask(5, top=2))
        second = link.connection.ask(Kind.PROBE)
        questions = [await link.worker.receive(), await link.worker.receive()]
        assert questions[0].body == b"a" * size
        assert questions[0].ask == Ask(5, top=2)
        link.worker.send(Frame(Kind.PROBED, questions[1].id, {"ok": True}))
        loop = asyncio.get_running_loop()
        answer = Frame(Kind.RESULT, questions[0].id, body=b"b" * size, said=Said('{"npu":1}'))
        await loop.run_in_executor(None, link.worker.send, answer)
        assert (await second).meta == {"ok": True}
        answered = await first
        assert (answered.body, answered.said) == (b"b" * size, Said('{"npu":1}', "[]"))

    linked(test)


def test_a_frame_may_come_byte_by_byte() -> None:
    async def test(link: Link) -> None:
        answer = link.connection.ask(Kind.PREDICT)
        question = await link.worker.receive()
        head, body = encode(Frame(Kind.RESULT, question.id, body=b"body"))
        for byte in head + body:
            link.worker.end.sendall(bytes([byte]))
            await asyncio.sleep(0)
        assert (await answer).body == b"body"

    linked(test)


def test_an_error_is_the_callers_with_its_code() -> None:
    async def test(link: Link) -> None:
        answer = link.connection.ask(Kind.PREDICT)
        question = await link.worker.receive()
        link.worker.send(
            Frame(Kind.ERROR, question.id, {"code": "OUT_OF_RANGE", "message": "y" * 2000})
        )
        with pytest.raises(RequestError) as caught:
            await answer
        assert caught.value.code == "OUT_OF_RANGE"
        assert str(caught.value) == "y" * 1024 + "...TRUNCATED"
        assert link.lost == []

    linked(test)


def test_hello_is_heard_or_why_there_is_none() -> None:
    async def hello(link: Link) -> None:
        link.worker.send(Frame(Kind.HELLO, 0, {"name": "m"}))
        assert await link.connection.hello == {"name": "m"}

    async def error(link: Link) -> None:
        link.worker.send(Frame(Kind.ERROR, 0, {"message": "cannot load"}))
        with pytest.raises(RequestError, match="cannot load"):
            await link.connection.hello

    linked(hello)
    linked(error)


def test_a_worker_that_ends_with_a_question_ends_it() -> None:
    async def test(link: Link) -> None:
        answer = link.connection.ask(Kind.PREDICT)
        await link.worker.receive()
        link.worker.end.close()
        with pytest.raises(DeviceError, match="the worker ended") as caught:
            await answer
        assert not isinstance(caught.value, NotBegunError)
        assert link.lost == ["the worker ended"]
        with pytest.raises(DeviceError, match="the worker ended"):
            await link.connection.ask(Kind.PROBE)
        link.connection.stop()

    linked(test)


@pytest.mark.parametrize("read", [0, 10, HEADER.size, 100_000])
def test_a_question_that_was_not_read_to_its_end_was_not_begun(read: int) -> None:
    async def test(link: Link) -> None:
        answer = request(link, bytes(1_000_000))
        await link.worker.read(read)
        link.worker.end.close()
        with pytest.raises(NotBegunError):
            await answer

    linked(test)


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_question_that_one_who_is_given_up_has_not_read_was_not_begun(size: int) -> None:
    async def test(link: Link) -> None:
        answer = request(link, bytes(size))
        link.connection.give_up()
        with pytest.raises(NotBegunError, match="given up"):
            await answer
        assert link.lost == ["the worker was given up"]

    linked(test)


def test_a_question_that_one_who_is_given_up_has_read_was_begun() -> None:
    async def test(link: Link) -> None:
        answer = request(link, bytes(1000))
        await link.worker.receive()
        link.connection.give_up()
        with pytest.raises(DeviceError, match="given up") as caught:
            await answer
        assert not isinstance(caught.value, NotBegunError)

    linked(test)


def test_a_question_to_a_worker_that_has_just_gone_was_not_begun() -> None:
    async def test(link: Link) -> None:
        link.worker.end.close()
        answer = request(link, b"x")
        with pytest.raises(NotBegunError):
            await answer

    linked(test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        HEADER.pack(MAGIC, 99, 0, 0, 1),
        HEADER.pack(MAGIC, Kind.RESULT, 1 << 20, 0, 1),
        HEADER.pack(MAGIC, Kind.RESULT, 0, BODY_LIMIT + 1, 1),
        HEADER.pack(MAGIC, Kind.ERROR, 3, 0, 1) + b"{{{",
        HEADER.pack(MAGIC, Kind.ERROR, 2, 0, 1) + b"[]",
        HEADER.pack(MAGIC, Kind.RESULT, 4, 0, 1) + b"{\r\n}",
        HEADER.pack(MAGIC, Kind.RESULT, 4, 0, 1) + b"{}\n\xfc",
        HEADER.pack(MAGIC, Kind.PROBED, 0, 0, 1),
        HEADER.pack(MAGIC, Kind.RESULT, 0, 0, 2),
        HEADER.pack(MAGIC, Kind.PREDICT, 0, 0, 0),
    ],
    ids=[
        "magic",
        "kind",
        "meta",
        "body",
        "json",
        "object",
        "line",
        "ascii",
        "answer",
        "id",
        "direction",
    ],
)
def test_what_is_no_answer_ends_the_link(garbage: bytes) -> None:
    async def test(link: Link) -> None:
        answer = link.connection.ask(Kind.PREDICT)
        await link.worker.receive()
        link.worker.end.sendall(garbage)
        with pytest.raises(DeviceError, match="broke the protocol"):
            await answer
        assert len(link.lost) == 1
        assert "broke the protocol" in link.lost[0]
        hello = link.connection.hello
        assert isinstance(hello.exception(), DeviceError)

    linked(test)


def test_an_answer_that_nobody_waits_for_any_more_is_dropped() -> None:
    async def test(link: Link) -> None:
        answer = link.connection.ask(Kind.PROBE)
        question = await link.worker.receive()
        answer.cancel()
        link.worker.send(Frame(Kind.PROBED, question.id, {}))
        again = link.connection.ask(Kind.PROBE)
        link.worker.send(Frame(Kind.PROBED, (await link.worker.receive()).id, {"ok": True}))
        assert (await again).meta == {"ok": True}
        assert link.lost == []

    linked(test)


def test_the_loss_is_told_before_the_questions_fail() -> None:
    async def test(link: Link) -> None:
        order: list[str] = []
        link.connection._on_lost = lambda why: order.append("lost")
        answer = link.connection.ask(Kind.PREDICT)
        answer.add_done_callback(lambda done: order.append("failed"))
        await link.worker.receive()
        link.worker.end.close()
        with pytest.raises(DeviceError):
            await answer
        assert order == ["lost", "failed"]

    linked(test)


def test_the_worker_is_told_what_nobody_waits_for_as_long_as_it_owes_an_answer() -> None:
    async def test(link: Link) -> None:
        ended: list[Frame | Exception] = []
        number = link.connection.predict(NOTHING_ASKED, b"x", ended.append)
        link.connection.cancel(number)
        assert (await link.worker.receive()).id == number
        told = await link.worker.receive()
        assert (told.kind, told.id) == (Kind.CANCEL, number)
        link.worker.send(Frame(Kind.ERROR, number, {"code": "CANCELLED", "message": "skipped"}))
        answer = link.connection.ask(Kind.PROBE)
        link.connection.cancel(number)  # it may still be on its way
        question = await link.worker.receive()
        assert question.kind is Kind.PROBE
        link.worker.send(Frame(Kind.PROBED, question.id, {}))
        await answer
        link.connection.cancel(number)
        assert [getattr(each, "code", None) for each in ended] == ["CANCELLED"]
        assert link.lost == []

    linked(test)


def test_a_question_to_a_worker_that_is_known_to_be_gone_ends_later_not_within_the_call() -> None:
    async def test(link: Link) -> None:
        link.worker.end.close()
        with pytest.raises(DeviceError):
            await link.connection.ask(Kind.PROBE)
        ended: list[Frame | Exception] = []
        link.connection.predict(NOTHING_ASKED, b"x", ended.append)
        assert ended == []
        await asyncio.sleep(0)
        assert [type(each) for each in ended] == [DeviceError]

    linked(test)


class Owner:
    """Has a connection that tells it of its loss, as a model's process does."""

    def __init__(self) -> None:
        self.connection = Connection(self.lost)
        self.heard = asyncio.Event()

    def lost(self, _why: str) -> None:
        self.heard.set()


@pytest.mark.parametrize("who", ["we", "the worker"])
def test_one_that_is_lost_is_freed_once_it_is_let_go_of_without_the_collector(who: str) -> None:
    async def test() -> None:
        owner = Owner()
        ours, theirs = socket.socketpair()
        await owner.connection.open(ours)
        if who == "we":
            owner.connection.close()
        theirs.close()
        await owner.heard.wait()
        await asyncio.sleep(0)  # what told it returns
        owner_left, connection_left = weakref.ref(owner), weakref.ref(owner.connection)
        del owner
        assert (owner_left(), connection_left()) == (None, None)

    gc.disable()
    try:
        asyncio.run(asyncio.wait_for(test(), 10))
    finally:
        gc.enable()
