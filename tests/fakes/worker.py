"""A worker without a model: does what its model's folder and the requests' bytes tell it to.

The folder's ``behaviour.json`` may have ``hello`` (``exit``, ``refuse``, ``hang``, ``garbage``,
``abort``, ``memory``, ``hungry`` (which takes 4 GiB), ``disk``), ``activate``, ``leave``, ``beat``,
``probe`` (``refuse``, ``hang``, ``exit``, and ``fail`` of a probe), ``hello_after`` and
``probe_after`` (seconds), ``crash_after`` (so many answers), ``crash`` (how: ``abort`` if not
given), and ``name``, which begins each answer. In a container each of them may also be ``fill`` and
``outside`` (``spoil``; ``outside`` tries ``places``, too). A request's body is a command:

==================  =================================================================
``die``             the process kills itself
``crash``           the process aborts, as a fault in its code would have it
``wait PATH``       answers once a test has opened the named pipe
``refuse CODE T``   answers with that error
``garbage``         answers with bytes that are no frame
``size N``          answers with N bytes
``work US ...``     answers after so many microseconds, and says how many they were
anything else       is answered with ``NAME:`` and itself
==================  =================================================================

``EDGED_TEST_NOTES.behaviour`` has changes of it by the model's name. Each request is noted in
``EDGED_TEST_NOTES`` before it is answered, so that a test can see what
ran.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from edged.messages.link import HEADER, Frame, Kind, Said, decode, encode, parse_header
from tests.fakes import spoil


def _changed(name: str) -> dict[str, Any]:
    """What a test has a model do from now on, though its files are what they were."""
    path = Path(os.environ.get("EDGED_TEST_NOTES", "") + ".behaviour")
    changes: dict[str, dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else {}
    return changes.get(name, {})


class Worker:
    """Answers frames on a blocking socket."""

    def __init__(self, end: socket.socket, folder: Path) -> None:
        self._end = end
        self._behaviour: dict[str, Any] = json.loads((folder / "behaviour.json").read_bytes())
        self._name = str(self._behaviour.get("name", "model"))
        self._behaviour |= _changed(self._name)
        self._active = False
        self._ran = 0

    def run(self) -> int:
        """Serves until the daemon goes away or says STOP."""
        hello = self._behaviour.get("hello")
        if hello == "exit":
            return 3
        if hello == "hang":
            signal.pause()
        if "hello_after" in self._behaviour:
            time.sleep(self._behaviour["hello_after"])
        if hello == "abort":
            os.abort()
        if hello == "memory":
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
            bytearray(1 << 40)
        if hello == "hungry":
            return len([bytes([1]) * (1 << 20) for _ in range(4096)])
        if hello == "disk":
            Path("/dev/full").write_bytes(b"x" * 10_000)
        self._spoil(hello)
        if hello == "garbage":
            self._end.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            signal.pause()
        if hello == "refuse":
            self._send(Frame(Kind.ERROR, 0, {"code": "FAILED_PRECONDITION", "message": "cannot x"}))
            return 1
        facts = {"name": self._name, "version": "1", "pid": os.getpid(), "isa": "portable"}
        self._send(Frame(Kind.HELLO, 0, {**facts, "format": "ms-fp13", "sku": "bw-cnn-a10"}))
        while (question := self._receive()) is not None and question.kind is not Kind.STOP:
            self._answer(question)
        return 0

    def _answer(self, question: Frame) -> None:
        if question.kind is Kind.PREDICT:
            return self._predict(question)
        if question.kind is Kind.CANCEL:
            return None
        name = question.kind.name.lower()
        what = self._behaviour.get(name)
        if what == "hang":
            signal.pause()
        if f"{name}_after" in self._behaviour:
            time.sleep(self._behaviour[f"{name}_after"])
        if what == "exit":
            os._exit(4)
        self._spoil(what)
        if what == "refuse":
            error = {"code": "INTERNAL", "message": f"cannot {name}"}
            return self._send(Frame(Kind.ERROR, question.id, error))
        self._active = {Kind.ACTIVATE: True, Kind.LEAVE: False}.get(question.kind, self._active)
        answers = {Kind.ACTIVATE: Kind.ACTIVE, Kind.LEAVE: Kind.LEFT, Kind.PROBE: Kind.PROBED}
        answers[Kind.BEAT] = Kind.ALIVE
        probed = {"ok": what != "fail", "reason": "npu output differs" if what == "fail" else ""}
        meta = probed if question.kind is Kind.PROBE else {}
        return self._send(Frame(answers[question.kind], question.id, meta))

    def _spoil(self, what: str | None) -> None:
        if what == "fill":
            spoil.fill()
        if what == "outside":
            spoil.outside(self._behaviour.get("places", ()))

    def _cancelled(self, question: Frame) -> bool:
        """Whether the next frame says that nobody waits for this one."""
        try:
            header = self._end.recv(HEADER.size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return len(header) == HEADER.size and parse_header(header)[:2] == (Kind.CANCEL, question.id)

    def _predict(self, question: Frame) -> None:
        if self._cancelled(question):
            error = {"code": "CANCELLED", "message": "its caller hung up"}
            return self._send(Frame(Kind.ERROR, question.id, error))
        deadline = question.ask.deadline_us
        if deadline and deadline < time.monotonic_ns() // 1000:
            error = {"code": "DEADLINE_EXCEEDED", "message": "too late"}
            return self._send(Frame(Kind.ERROR, question.id, error))
        note(question.body)
        assert self._active, "asked off the NPU"
        self._ran += 1
        command, _, rest = question.body.decode("latin-1").partition(" ")
        body = self._name.encode() + b":" + question.body
        if command == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "crash":
            os.abort()
        elif command == "garbage":
            return self._end.sendall(b"x" * HEADER.size)
        elif command == "refuse":
            code, _, text = rest.partition(" ")
            return self._send(Frame(Kind.ERROR, question.id, {"code": code, "message": text}))
        elif command == "wait":
            Path(rest).open("rb").close()  # opens when the test opens its other end
        elif command == "size":
            body = b"x" * int(rest)
        elif command == "work":
            return self._work(question, int(rest.partition(" ")[0]))
        top = {"index": 1, "label": "dent", "score": 0.75}
        said = Said('{"npu":1234,"onnx":5}', json.dumps([top] * question.ask.top))
        self._send(Frame(Kind.RESULT, question.id, body=body, said=said))
        if self._ran == self._behaviour.get("crash_after"):
            self._spoil(self._behaviour.get("crash"))
            os.abort()
        return None

    def _work(self, question: Frame, microseconds: int) -> None:
        began = time.perf_counter_ns()
        time.sleep(microseconds / 1e6)
        took = (time.perf_counter_ns() - began) // 1000
        said = Said(json.dumps({"work": took}))
        self._send(Frame(Kind.RESULT, question.id, body=b"done", said=said))

    def _send(self, frame: Frame) -> None:
        head, body = encode(frame)
        self._end.sendall(head + body)

    def _receive(self) -> Frame | None:
        header = self._read(HEADER.size)
        if not header:
            return None
        kind, frame_id, meta_length, body_length = parse_header(header)
        return decode(kind, frame_id, self._read(meta_length), self._read(body_length))

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._end.recv(min(size - len(data), 1 << 20))
            if not part:
                return b""
            data += part
        return bytes(data)


def note(body: bytes) -> None:
    """Notes a request, whole, for the test to read."""
    path = os.environ.get("EDGED_TEST_NOTES")
    if path:
        with Path(path).open("ab") as notes:
            notes.write(body[:200] + b"\n")


def main() -> int:
    """Runs the worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads")
    parser.add_argument("--isa")
    given = parser.parse_args()
    return Worker(socket.socket(fileno=given.fd), given.model).run()


if __name__ == "__main__":
    sys.exit(main())
