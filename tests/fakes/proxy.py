"""A link that breaks: passes bytes on, cuts connections, stalls, and counts."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable


class Proxy:
    """Listens on loopback and passes everything on to another port.

    Args:
        target: ``HOST:PORT``.
        cut_every: bytes towards the client after which a connection is cut.
        stall: seconds that the link stands still now and then.
        stall_every: mean number of bytes between two stalls.
        rate: bytes per second; without a bound, whole megabytes lie in the kernel's buffers.
        seed: of the chance for stalls.

    Attributes:
        host: ``HOST:PORT`` to connect to.
        sent: bytes sent towards the client in all.
        cuts: connections cut.
        stalls: how often the link stood still.
        down: whether connections are refused; changed by tests.
    """

    def __init__(
        self,
        target: str,
        *,
        cut_every: int = 0,
        stall: float = 0.0,
        stall_every: int = 8 << 20,
        rate: float = 25e6,
        seed: int = 0,
    ) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._cut_every = cut_every
        self._stall, self._stall_every, self._rate = stall, stall_every, rate
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._end = threading.Event()
        self.sent = self.cuts = self.stalls = 0
        self.down = False
        self.on_bytes: Callable[[int], None] = lambda _: None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._end.set()
        self._listener.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                if self.down:
                    client.close()
                    continue
                server = socket.create_connection(self._target, 10)
            except OSError:
                if self._end.is_set():
                    return
                continue
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass
        _shut(server)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        left = self._cut_every
        try:
            while data := server.recv(16384):
                if self._cut_every:
                    data = data[:left]
                    left -= len(data)
                self._maybe_stall(len(data))
                self._end.wait(len(data) / self._rate)
                with self._lock:
                    self.sent += len(data)
                client.sendall(data)
                self.on_bytes(self.sent)
                if self._cut_every and not left:
                    self.cuts += 1
                    break
        except OSError:
            pass
        _shut(client)
        _shut(server)

    def _maybe_stall(self, count: int) -> None:
        if self._stall and self._chance.random() < count / self._stall_every:
            self.stalls += 1
            self._end.wait(self._stall)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
