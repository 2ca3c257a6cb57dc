"""Wakes whoever waits for something to change; a change between looking and waiting is not lost."""

from __future__ import annotations

import asyncio


class News:
    """Changes, without what they are.

    ``next`` is taken first, then one looks, then one waits for it.
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """Set at the next change."""
        return self._next

    def tell(self) -> None:
        """Wakes those who wait."""
        self._next.set()
        self._next = asyncio.Event()


async def happens(event: asyncio.Event, limit: float | None = None) -> bool:
    """Returns whether an event happens within ``limit`` seconds; None waits for ever.

    Unlike ``asyncio.wait_for`` before Python 3.12 it never loses a cancellation.
    """
    waiting = asyncio.ensure_future(event.wait())
    try:
        done, _ = await asyncio.wait([waiting], timeout=limit)
    finally:
        waiting.cancel()
    return bool(done)
