"""The NPU as the control path sees it (``edged.deploy.ports``), without a model on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edged.deploy.types import Slot


class Npu:
    """Notes what it is asked; a step named in ``fails`` raises, one in ``hangs`` never ends."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.hangs: str = ""
        self.dismissed = 0
        self.serving: Slot | None = None
        self.answering = True
        self.reached = asyncio.Event()
        self.on_crash: Callable[[], bool] | None = None
        self.on_other: Callable[[Slot, str], None] | None = None
        self.is_own_fault = True

    async def _step(self, name: str) -> None:
        self.asked.append(name)
        if name == self.hangs:
            self.reached.set()
            await asyncio.Event().wait()
        if name in self.fails:
            raise self.fails[name]

    async def prepare(self, slot: Slot, limit: float) -> str:
        assert (slot.folder / "manifest.json").exists()
        await self._step("prepare")
        return "candidate"

    async def park(self, limit: float) -> None:
        await self._step("park")

    async def activate(self, candidate: str, limit: float) -> None:
        await self._step("activate")

    async def probe(self, candidate: str, limit: float) -> None:
        await self._step("probe")

    async def commit(self, candidate: str, slot: Slot) -> None:
        await self._step("commit")
        self.serving = slot

    async def revert(self, candidate: str, limit: float) -> None:
        await self._step("revert")

    async def discard(self, candidate: str) -> None:
        await self._step("discard")

    async def restart(self, drain: float, load: float, *, beside: bool) -> None:
        await self._step("restart")

    async def probe_serving(self, limit: float) -> None:
        await self._step("probe_serving")

    async def empty(self, limit: float) -> None:
        await self._step("empty")
        self.serving = None

    def watch(self, *, closely: bool) -> None:
        self.watched = closely

    async def dismiss(self) -> None:
        self.dismissed += 1

    async def fall_back(self, slot: Slot, limit: float) -> None:
        await self._step("fall_back")
        self.serving = slot
