"""Connections as gRPC has them, by hand: for callers that a gRPC library will not be.

Only what such callers send (RFC 9113, RFC 7541); of what comes back, whether something is in it.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType

from tests.e2e.device import PREDICT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS, ACKNOWLEDGED = 1, 4, 1
REFUSED_STREAM = 7  # the error
INITIAL_WINDOW = 4  # the setting: bytes that may be sent on a stream before we ask for more
FRAME_LIMIT = 16_384
SOCKET_LIMIT = 30.0  # seconds


class Connection:
    """A connection that has said hello.

    Args:
        address: ``HOST:PORT``.
        window: bytes of each answer that the server may send.
    """

    def __init__(self, address: str, window: int = 65_535) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), SOCKET_LIMIT)
        self._streams = iter(range(1, 1 << 31, 2))
        settings = struct.pack(">HI", INITIAL_WINDOW, window)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def hello(self) -> None:
        """Waits for the server's hello and takes its settings, which bind us from then on."""
        assert self.socket.recv(FRAME_LIMIT), "the server hung up"
        self.socket.sendall(frame(SETTINGS, ACKNOWLEDGED, 0, b""))

    def begin(self) -> int:
        """Begins a request; returns its stream."""
        stream = next(self._streams)
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, headers()))
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Sends some of a request's message, which ``message`` has made."""
        self.socket.sendall(frame(DATA, END_STREAM if end else 0, stream, data))

    def request(self, body: bytes) -> int:
        """Sends a whole request; returns its stream."""
        stream = self.begin()
        self.send(stream, message(body), end=True)
        return stream

    def read_until(self, expected: bytes) -> bytes:
        """Reads until ``expected`` has come; returns everything."""
        data = b""
        while expected not in data:
            part = self.socket.recv(65_536)
            assert part, f"the server hung up after {data!r}"
            data += part
        return data

    def reset(self) -> None:
        """Hangs up without a word, as a host does that loses power."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def message(body: bytes) -> bytes:
    """Returns a gRPC message: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(body)) + body


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Returns an HTTP/2 frame."""
    assert len(payload) <= FRAME_LIMIT
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


def refused(stream: int) -> bytes:
    """Returns the frame that refuses a stream."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", REFUSED_STREAM))


def headers(**more: str) -> bytes:
    """Returns a call's headers, with more of them by name."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": PREDICT,
        ":authority": "device",
        "te": "trailers",
        "content-type": "application/grpc",
        **more,
    }
    # Literal fields without indexing: lengths below 127 take a byte.
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
