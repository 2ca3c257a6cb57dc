"""A device whose fake worker runs a request until the test lets it end, and who waits meanwhile."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

import grpc

from edged import messages
from tests.e2e.device import Device, call

LOOKS = 2000  # at the status, until what is waited for must have come about


class Busy:
    """A request that runs, and a channel for those behind it; made by the fixture ``busy``.

    Attributes:
        device: that is busy.
        channel: to it.
        body: of the request that runs: it waits at a named pipe.
        running: what becomes of it.
    """

    def __init__(self, device: Device, channel: grpc.Channel, pool: ThreadPoolExecutor) -> None:
        self.device = device
        self.channel = channel
        self._pool = pool
        self._gate = device.folder / "gate"
        os.mkfifo(self._gate)
        self.body = b"wait " + str(self._gate).encode()
        self.running = self.submit(self.body)
        wait_until_queued(device, 0, started=self.body)

    def submit(self, body: bytes, timeout: float = 60.0) -> Future[bytes]:
        """Sends a request; returns what becomes of it."""
        return self._pool.submit(call, self.channel, body, timeout)

    def wait_until_queued(self, count: int) -> None:
        """Returns when so many requests wait."""
        wait_until_queued(self.device, count)

    def open(self) -> None:
        """Lets the request end; returns once the worker has come to the gate."""
        with self._gate.open("wb"):
            pass


def wait_until_queued(device: Device, count: int, started: bytes | None = None) -> None:
    """Returns when so many requests wait, and the worker has begun the one of these bytes."""
    with device.channel(f"unix:{device.run}/control.sock") as channel:
        status = channel.unary_unary(
            "/edged.control.v1.Control/Status",
            messages.StatusRequest.SerializeToString,
            messages.StatusReply.FromString,
        )
        for _ in range(LOOKS):
            queued = status(messages.StatusRequest(), timeout=30).counters.queued
            if queued == count and (started is None or started in device.ran()):
                return
    raise AssertionError(f"{queued} wait, expected {count}")
