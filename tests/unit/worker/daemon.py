"""The daemon's side of the link, for tests: one question at a time, with its answer."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from edged.messages import DataType, PredictRequest, link
from edged.messages.link import HEADER, NOTHING_ASKED, Ask, Frame, Kind

PATIENCE = 60.0  # seconds


class Worker:
    """A worker process with a model.

    Args:
        model: its folder.
        arguments: more of its command line.
    """

    def __init__(self, model: Path, *arguments: str) -> None:
        self.end, theirs = socket.socketpair()
        self.end.settimeout(PATIENCE)
        command = [sys.executable, "-m", "edged.worker", "--fd", str(theirs.fileno())]
        self.process = subprocess.Popen(
            [*command, "--model", str(model), "--threads", "1", *arguments],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        theirs.close()
        self._last = 0

    def send(self, kind: Kind, body: bytes = b"", ask: Ask = NOTHING_ASKED) -> int:
        """Sends a question; returns its id."""
        self._last += 1
        self.end.sendall(b"".join(link.encode(Frame(kind, self._last, body=body, ask=ask))))
        return self._last

    def cancel(self, question: int) -> None:
        """Says that nobody waits for the answer to this question."""
        self.end.sendall(b"".join(link.encode(Frame(Kind.CANCEL, question))))

    def receive(self, question: int | None = None) -> Frame:
        """Returns the next frame, and checks that it answers that question, or else the last."""
        kind, frame_id, meta, body = link.parse_header(self._exactly(HEADER.size))
        frame = link.decode(kind, frame_id, self._exactly(meta), self._exactly(body))
        assert frame.id == (self._last if question is None else question)
        return frame

    def ask(self, kind: Kind, body: bytes = b"", ask: Ask = NOTHING_ASKED) -> Frame:
        """Sends a question and returns its answer."""
        self.send(kind, body, ask)
        return self.receive()

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self.end.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def wait_until_taken(self) -> None:
        """Waits until the worker has read all that was sent."""
        until = time.monotonic() + PATIENCE
        # TIOCOUTQ counts what the other end of a Unix socket has not read yet.
        while struct.unpack("i", fcntl.ioctl(self.end, termios.TIOCOUTQ, bytes(4)))[0]:
            assert time.monotonic() < until
            time.sleep(0.001)

    def wait(self) -> tuple[int, str]:
        """Waits for its end; returns its exit code and what it wrote to stderr."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors.decode()

    def close(self) -> None:
        """Ends it, whatever it does."""
        self.end.close()
        self.process.kill()
        self.process.communicate()


def predict(*pictures: bytes, outputs: tuple[str, ...] = ()) -> bytes:
    """A request to classify pictures."""
    made = PredictRequest(output_filter=outputs)
    made.inputs["images"].dtype = DataType.DT_STRING
    made.inputs["images"].tensor_shape.dim.add(size=len(pictures))
    made.inputs["images"].string_val.extend(pictures)
    return made.SerializeToString()
