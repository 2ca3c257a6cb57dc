"""Callers that never stop while something else happens to the device, and note what they got."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from edged.errors import RequestError
from tests.e2e.device import Device, call


class Callers:
    """What the callers got: answers with their latency in seconds, and errors."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, float]] = []
        self.errors: list[RequestError] = []
        self._more = threading.Condition()

    def note(self, answer: bytes, seconds: float) -> None:
        """Keeps an answer."""
        with self._more:
            self.answers.append((answer, seconds))
            self._more.notify_all()

    def wait_for(self, answer: bytes, limit: float = 30.0) -> None:
        """Returns once somebody got this answer, from now on."""
        with self._more:
            seen = len(self.answers)
            assert self._more.wait_for(
                lambda: any(each == answer for each, _ in self.answers[seen:]), limit
            ), f"nobody got {answer!r} within {limit} s; errors: {self.errors}"

    @property
    def bodies(self) -> set[bytes]:
        """Every answer, once."""
        return {answer for answer, _ in self.answers}


@contextlib.contextmanager
def calling(device: Device, count: int = 4, body: bytes = b"x") -> Iterator[Callers]:
    """Callers with deadlines of 10 s, one request after the other, until the block ends."""
    callers, done = Callers(), threading.Event()

    def run() -> None:
        with device.channel() as channel:
            while not done.is_set():
                began = time.monotonic()
                try:
                    callers.note(call(channel, body, timeout=10), time.monotonic() - began)
                except RequestError as exc:
                    callers.errors.append(exc)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield callers
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
