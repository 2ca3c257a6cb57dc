"""What happens in each state of a deployment.

Each step does its work or raises an ``EdgedError``; where that leads is for ``states`` to say. What
takes the disk, the network or the processor runs in a thread, so that requests are served on. Each
can be done again: what it had done before a crash is found, checked and used, or replaced.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from edged.deploy import device
from edged.deploy.admission import Admission, Admitted, check_wanted
from edged.deploy.ports import Candidate, Npu
from edged.deploy.types import Cause, Event, Limits, Slot, State
from edged.deploy.work import Work
from edged.errors import ConfigError, ModelError, StoreError

if TYPE_CHECKING:
    from edged.deploy.store import Store
    from edged.oci.image import Image
    from edged.oci.registries import Registries

MANIFEST_LIMIT = 1024 * 1024  # bytes; the manifest's own limit is lower
_Value = TypeVar("_Value")


class Steps(Generic[Candidate]):
    """The steps, by state.

    Args:
        npu: where the model is to run.
        store: where it is kept.
        admission: whether it may come in.
        limits: of the steps.
        clock: monotonic, in seconds.
        tell: called when a deployment has something new to say within a step.
        may_park: raises if a deployment that is ready may not go on to the NPU now.
        registries: how registries are spoken to.
    """

    def __init__(
        self,
        npu: Npu[Candidate],
        store: Store,
        admission: Admission,
        limits: Limits,
        clock: Callable[[], float],
        tell: Callable[[Work[Candidate]], None],
        may_park: Callable[[Work[Candidate]], None],
        registries: Registries,
    ) -> None:
        self._npu = npu
        self._store = store
        self._admission = admission
        self._limits = limits
        self._clock = clock
        self._tell = tell
        self._may_park = may_park
        self._registries = registries
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
        """Copies the image into the store; manifest, annotations and signature go first."""
        if work.deployment.cause is Cause.ROLLBACK:
            return await self._find_previous(work)
        options = work.deployment.options
        registries = self._registries.signed_in(options.credentials)
        image = await asyncio.to_thread(_open, work.deployment.reference, registries)
        work.digest = str(image.digest)
        facts = image.facts
        work.detail = f"{facts.name} {facts.version}, {facts.format} for {facts.sku}"
        check_wanted(work.digest, facts, options)
        if self._serves(work.digest):
            return Event.PRESENT
        work.admitted = await asyncio.to_thread(self._admission.examine, image, options)
        work.bytes_total = await asyncio.to_thread(self._store.reserve, image)
        work.image = await asyncio.to_thread(
            self._store.copy, image, self._copied(work), lambda: _go_on(work)
        )
        return Event.DONE

    async def _find_previous(self, work: Work[Candidate]) -> Event:
        """Finds the image of the previous model in the store; no network is asked."""
        slot = self._store.previous
        if slot is None:
            raise StoreError("cannot roll back: there is no previous model")
        work.digest, work.reference = slot.digest, slot.reference
        image = await asyncio.to_thread(self._store.kept_image, slot)
        facts = image.facts
        work.detail = f"{facts.name} {facts.version}, {facts.format} for {facts.sku}"
        if self._serves(work.digest):
            return Event.PRESENT
        work.admitted = await asyncio.to_thread(self._admission.examine_kept, image, slot)
        work.image = image
        return Event.DONE

    def _serves(self, digest: str) -> bool:
        serving = self._npu.serving
        return serving is not None and serving.digest == digest and self._npu.answering

    def _copied(self, work: Work[Candidate]) -> Callable[[int], None]:
        loop = asyncio.get_running_loop()

        def copied(done: int) -> None:  # in the copying thread
            work.bytes_done = done
            loop.call_soon_threadsafe(self._tell, work)

        return copied

    async def _verify(self, work: Work[Candidate]) -> Event:
        """Reads the image back from the store, every byte of it."""
        await asyncio.to_thread(_read_through, _have(work.image), work)
        return Event.DONE

    async def _keep(self, work: Work[Candidate]) -> Event:
        """Unpacks the model, and compares it with what the image announced."""
        image, admitted = _have(work.image), _have(work.admitted)
        slot = await asyncio.to_thread(self._store.unpack, image, work.reference)
        await asyncio.to_thread(_compare, slot.folder, image)
        work.slot = _described(slot, admitted)
        return Event.DONE

    async def _prepare(self, work: Work[Candidate]) -> Event:
        """Loads the model beside the one that serves."""
        slot = _have(work.slot)
        # There is memory for two models: whoever served before the one that serves now has to go.
        await self._npu.dismiss()
        if self._npu.serving is not None:
            needed = await asyncio.to_thread(device.memory_needed, slot.folder)
            device.check_memory(needed, device.memory_available())
        work.candidate = await self._npu.prepare(slot, self._limits.prepare)
        self._may_park(work)
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
        on_trial = previous is not None and self._limits.window > 0
        # Not in a thread: nothing may come between the pointer and the NPU, no cancellation either.
        self._store.commit(slot, previous, on_trial=on_trial)
        work.is_on_trial = on_trial
        self._npu.watch(closely=on_trial)
        await self._npu.commit(_have(work.candidate), slot)
        work.slot, work.candidate = slot, None
        work.unparked(self._clock())
        return Event.DONE

    async def revert(self, work: Work[Candidate]) -> Event:
        """Gives the NPU back."""
        if work.candidate is not None:
            candidate, work.candidate = work.candidate, None
            await self._npu.revert(candidate, self._limits.revert)
            work.unparked(self._clock())
        return Event.DONE

    def abandon(self, work: Work[Candidate]) -> None:
        """Ends what runs in a thread for a deployment, soon."""
        work.abandoned.set()
        self._store.wake()

    async def give_up(self, work: Work[Candidate]) -> None:
        """Ends what a deployment has begun, wherever it was when it was cancelled."""
        self.abandon(work)
        if work.candidate is None:
            return
        if work.parked_at is not None:
            await self.revert(work)
        else:
            candidate, work.candidate = work.candidate, None
            await self._npu.discard(candidate)


def _have(value: _Value | None) -> _Value:
    """Returns what an earlier step has made; the table lets no step come before it."""
    if value is None:
        raise RuntimeError("a step of a deployment came too early")
    return value


def _go_on(work: Work[Candidate]) -> None:
    """Raises, in a thread, if nobody waits for its work any more."""
    if work.abandoned.is_set():
        why = work.deployment.reason or "edged is stopping"
        raise StoreError(f"cannot go on with {work.deployment}: {why}")


def _open(text: str, registries: Registries) -> Image:
    from edged import oci

    reference = oci.Reference.parse(text)
    if not reference.remote and not reference.path.is_absolute():
        raise ConfigError(f"cannot deploy {text}: expected an absolute path")
    return oci.open_image(reference, registries)


def _read_through(image: Image, work: Work[Candidate]) -> None:
    for blob in image.blobs():
        _go_on(work)
        with image.open_blob(blob) as stored:
            stored.drain()


def _described(slot: Slot, admitted: Admitted) -> Slot:
    facts = admitted.facts
    return dataclasses.replace(
        slot,
        name=facts.name,
        version=facts.version,
        counter=facts.counter,
        key=admitted.key,
    )


def _compare(folder: Path, image: Image) -> None:
    """Raises if the model in ``folder`` is not what its image announced, or cannot be probed."""
    from edged.manifest import Manifest

    try:
        with (folder / "manifest.json").open("rb") as file:
            manifest = Manifest.parse(file.read(MANIFEST_LIMIT))
    except OSError as exc:
        raise ModelError(f"cannot use {image.digest}: no /model/manifest.json in it") from exc
    facts = image.facts
    found = dataclasses.replace(
        facts,
        name=manifest.name,
        version=manifest.version,
        sku=manifest.sku,
        format=manifest.format,
        memory=manifest.memory,
    )
    if found != facts:
        raise ModelError(
            f"cannot use {image.digest}: its annotations say {facts}, "
            f"its /model/manifest.json says {found}"
        )
    if manifest.golden is None:
        raise ModelError(
            f"cannot use {image.digest}: it has no golden test, so nothing would tell whether it "
            "works here; build it again"
        )
