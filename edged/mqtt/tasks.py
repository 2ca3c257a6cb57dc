"""Work that takes longer than an answer may: begun by a method, asked for by its correlation id.

Invariants:
- At most ``RUNNING`` run at a time, and the newest ``KEPT`` are remembered, until edged ends.
- A task that fails says so; it never ends more than itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from edged.errors import EdgedError, RequestError
from edged.mqtt import codes

logger = logging.getLogger(__name__)

KEPT = 64
RUNNING = 8
IN_PROGRESS, COMPLETED, FAILED = "Running", "Completed", "Failed"


@dataclass
class Task:
    """One piece of work.

    Attributes:
        name: of the method that began it.
        id: its correlation id.
        status: Running, Completed or Failed.
        message: for people; why it failed, and what to do.
        facts: what else is known by now, or came of it.
        ended: set when it has.
    """

    name: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    status: str = IN_PROGRESS
    message: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def document(self) -> dict[str, Any]:
        """Returns what a controller is told."""
        told = {"correlationId": self.id, "name": self.name, "status": self.status}
        return {**told, "message": self.message, **self.facts}


class Tasks:
    """The tasks of one daemon."""

    def __init__(self) -> None:
        self._known: dict[str, Task] = {}
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Callable[[Task], Awaitable[None]]) -> Task:
        """Begins a piece of work, which notes in its task what it has to say.

        Raises:
            RequestError: too many run.
        """
        if len(self._running) >= RUNNING:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                f"cannot {name}: {RUNNING} tasks run already; ask again when one has ended",
            )
        task = Task(name)
        self._known[task.id] = task
        for old in list(self._known)[:-KEPT]:
            del self._known[old]
        running = asyncio.get_running_loop().create_task(self._run(task, work), name=name)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return task

    def find(self, correlation: str) -> Task:
        """Returns a task.

        Raises:
            RequestError: NOT_FOUND, it is not known, or not any more.
        """
        task = self._known.get(correlation)
        if task is None:
            raise RequestError(
                "NOT_FOUND",
                f"no task {correlation[:40]!a} is known: edged remembers the newest {KEPT} since "
                "it started; look at the reported state",
            )
        return task

    async def stop(self) -> None:
        """Ends what runs."""
        for running in self._running:
            running.cancel()
        if self._running:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(self._running)

    async def _run(self, task: Task, work: Callable[[Task], Awaitable[None]]) -> None:
        try:
            await work(task)
        except EdgedError as exc:
            task.status, task.message = FAILED, str(exc)
            task.facts["code"] = codes.of_error(exc)
        except asyncio.CancelledError:
            task.status, task.message = FAILED, "edged is stopping"
            raise
        except Exception:
            logger.exception("task %s failed", task.name)
            task.status, task.message = FAILED, "internal error; see the device's log"
        else:
            task.status = COMPLETED if task.status == IN_PROGRESS else task.status
        finally:
            task.ended.set()
