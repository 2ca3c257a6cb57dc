"""What happens in each state of a deployment.

Each step does its work or raises an ``EdgedError``; where that leads is for ``states`` to say. What
takes the disk or the processor runs in a thread, so that requests are served on.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from edged.deploy.ports import Candidate, Npu
from edged.deploy.types import Event, Limits, Slot, State
from edged.errors import ConfigError, ModelError, StoreError

if TYPE_CHECKING:
    from edged.deploy.store import Store
    from edged.oci.image import Image

MANIFEST_LIMIT = 1024 * 1024  # bytes; the manifest's own limit is lower
_Value = TypeVar("_Value")


class Work(Generic[Candidate]):
    """One deployment on its way: what the steps have found and made so far.

    Attributes:
        reference: what is deployed, as it was asked for.
        digest: of the image's manifest, empty until it is known.
        detail: for people.
        abandoned: set to end copying early.
    """

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.digest = ""
        self.detail = ""
        self.bytes_done = 0
        self.bytes_total = 0
        self.abandoned = False
        self.image: Image | None = None
        self.slot: Slot | None = None
        self.candidate: Candidate | None = None
        self.parked_at: float | None = None
        self.parked_us = 0
        self.probe_until = 0.0


class Steps(Generic[Candidate]):
    """The steps, by state.

    Args:
        npu: where the model is to run.
        store: where it is kept.
        limits: of the steps.
        clock: monotonic, in seconds.
        tell: called when a deployment has something new to say within a step.
    """

    def __init__(
        self,
        npu: Npu[Candidate],
        store: Store,
        limits: Limits,
        clock: Callable[[], float],
        tell: Callable[[Work[Candidate]], None],
    ) -> None:
        self._npu = npu
        self._store = store
        self._limits = limits
        self._clock = clock
        self._tell = tell
        self.of: dict[State, Callable[[Work[Candidate]], Awaitable[Event]]] = {
            State.FETCH: self._fetch,
            State.VERIFY: self._verify,
            State.STORE: self._keep,
            State.PREPARE: self._prepare,
            State.PARK: self._park,
            State.ACTIVATE: self._activate,
            State.PROBE: self._probe,
            State.COMMIT: self._commit,
            State.REVERT: self.revert,
        }

    async def _fetch(self, work: Work[Candidate]) -> Event:
        """Copies the image into the store; its manifest and annotations are checked first."""
        from edged import oci

        reference = oci.Reference.parse(work.reference)
        if not reference.remote and not reference.path.is_absolute():
            raise ConfigError(f"cannot deploy {work.reference}: expected an absolute path")
        image = await asyncio.to_thread(oci.open_image, reference)
        work.digest = str(image.digest)
        facts = image.facts
        work.detail = f"{facts.name} {facts.version}, {facts.format} for {facts.sku}"
        serving = self._npu.serving
        if serving is not None and serving.digest == work.digest and self._npu.answering:
            return Event.PRESENT
        work.bytes_total = self._store.reserve(image)
        work.image = await asyncio.to_thread(self._store.copy, image, self._copied(work))
        return Event.DONE

    def _copied(self, work: Work[Candidate]) -> Callable[[int], None]:
        loop = asyncio.get_running_loop()

        def copied(done: int) -> None:  # in the copying thread
            if work.abandoned:
                raise StoreError(f"cannot fetch {work.reference}: edged is stopping")
            work.bytes_done = done
            loop.call_soon_threadsafe(self._tell, work)

        return copied

    async def _verify(self, work: Work[Candidate]) -> Event:
        """Reads the image back from the store, every byte of it."""
        image = _have(work.image)
        await asyncio.to_thread(_read_through, image)
        return Event.DONE

    async def _keep(self, work: Work[Candidate]) -> Event:
        """Unpacks the model, and compares it with what the image announced."""
        image = _have(work.image)
        slot = await asyncio.to_thread(self._store.unpack, image, work.reference)
        await asyncio.to_thread(_compare, slot.folder, image)
        work.slot = slot
        return Event.DONE

    async def _prepare(self, work: Work[Candidate]) -> Event:
        """Loads the model beside the one that serves."""
        work.candidate = await self._npu.prepare(_have(work.slot), self._limits.prepare)
        return Event.DONE

    async def _park(self, work: Work[Candidate]) -> Event:
        """Holds requests, and lets the one that runs end."""
        work.parked_at = self._clock()
        await self._npu.park(self._limits.drain)
        return Event.DONE

    async def _activate(self, work: Work[Candidate]) -> Event:
        """Gives the NPU to the new model."""
        limit = self._limits.activate_and_probe
        work.probe_until = self._clock() + limit
        await self._npu.activate(_have(work.candidate), limit)
        return Event.DONE

    async def _probe(self, work: Work[Candidate]) -> Event:
        """Runs the golden test, in what ``activate`` left of their common time."""
        left = max(work.probe_until - self._clock(), 0.0)
        await self._npu.probe(_have(work.candidate), left)
        return Event.DONE

    async def _commit(self, work: Work[Candidate]) -> Event:
        """Moves the pointer, then lets requests through."""
        slot = dataclasses.replace(_have(work.slot), deployed_unix_us=time.time_ns() // 1000)
        # To go back to: what served, or was to serve, unless this is the same again.
        kept = (self._npu.serving, self._store.current, self._store.previous)
        previous = next((s for s in kept if s is not None and s.digest != slot.digest), None)
        # Not in a thread: nothing may come between the pointer and the NPU, no cancellation either.
        self._store.commit(slot, previous)
        await self._npu.commit(_have(work.candidate), slot)
        work.slot, work.candidate = slot, None
        self._unparked(work)
        return Event.DONE

    async def revert(self, work: Work[Candidate]) -> Event:
        """Gives the NPU back."""
        candidate, work.candidate = _have(work.candidate), None
        await self._npu.revert(candidate, self._limits.revert)
        self._unparked(work)
        return Event.DONE

    async def give_up(self, work: Work[Candidate]) -> None:
        """Ends what a deployment has begun, wherever it was when it was cancelled."""
        work.abandoned = True
        if work.candidate is None:
            return
        if work.parked_at is not None:
            await self.revert(work)
        else:
            candidate, work.candidate = work.candidate, None
            await self._npu.discard(candidate)

    def _unparked(self, work: Work[Candidate]) -> None:
        if work.parked_at is not None:
            work.parked_us = round((self._clock() - work.parked_at) * 1e6)


def _have(value: _Value | None) -> _Value:
    """Returns what an earlier step has made; the table lets no step come before it."""
    if value is None:
        raise RuntimeError("a step of a deployment came too early")
    return value


def _read_through(image: Image) -> None:
    for blob in image.blobs():
        with image.open_blob(blob) as stored:
            stored.drain()


def _compare(folder: Path, image: Image) -> None:
    """Raises if the model in ``folder`` is not what its image announced, or cannot be probed."""
    from edged.manifest import Manifest
    from edged.oci import ModelFacts

    try:
        with (folder / "manifest.json").open("rb") as file:
            manifest = Manifest.parse(file.read(MANIFEST_LIMIT))
    except OSError as exc:
        raise ModelError(f"cannot use {image.digest}: no /model/manifest.json in it") from exc
    found = ModelFacts(
        manifest.name,
        manifest.version,
        manifest.sku,
        manifest.format,
        manifest.memory,
        image.facts.counter,  # which the image alone knows
    )
    if found != image.facts:
        raise ModelError(
            f"cannot use {image.digest}: its annotations say {image.facts}, "
            f"its /model/manifest.json says {found}"
        )
    if manifest.golden is None:
        raise ModelError(
            f"cannot use {image.digest}: it has no golden test, so nothing would tell whether it "
            "works here; build it again"
        )
