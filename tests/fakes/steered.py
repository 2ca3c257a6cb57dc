"""A device as MQTT sees it (``edged.mqtt.device``), whose deployments end as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from edged.deploy.history import Record
from edged.deploy.types import Fault, Options, Progress, Slot, State
from edged.errors import EdgedError, ModelError, RequestError
from edged.mqtt.device import Npu, Snapshot
from edged.oci.facts import ModelFacts
from edged.oci.registries import Credentials

ENDS = {Fault.NONE: State.COMMITTED, Fault.OVERTAKEN: State.CANCELLED}


def digest_of(reference: str) -> str:
    """A digest that belongs to a reference."""
    _, at, digest = reference.partition("@")
    return digest if at else "sha256:" + f"{abs(hash(reference)):064x}"[-64:]


class Steered:
    """Notes what it is asked, in ``asked``, and does it unless it was told otherwise.

    Attributes:
        faults: how deployments of a reference end; NONE for the others.
        errors: what ``undeploy``, ``restart``, ``self_test`` and ``look_up`` of an image raise.
        gate: deployments wait for it before their end.
        models: references that ``look_up`` knows as models; None for all.
        seen: the credentials that came with each look-up.
    """

    def __init__(self, logs: Path = Path("/nonexistent")) -> None:
        self.logs = logs
        self.on_change: list[Callable[[], None]] = []
        self.now = Snapshot("1.2.3", "not_serving", Npu("bw-cnn-a10"))
        self.asked: list[str] = []
        self.faults: dict[str, tuple[Fault, str]] = {}
        self.errors: dict[str, EdgedError] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.models: set[str] | None = None
        self.seen: list[Mapping[str, Credentials]] = []
        self.options: list[Options] = []
        self.stirred = asyncio.Event()

    def snapshot(self) -> Snapshot:
        return self.now

    def change(self, **fields: object) -> None:
        self.now = replace(self.now, **fields)  # type: ignore[arg-type]
        for tell in list(self.on_change):
            tell()
        self.stirred.set()

    def _note(self, what: str) -> None:
        self.asked.append(what)
        self.stirred.set()

    def record(self, outcome: str, *, digest: str = "", cause: str = "deploy", **more: str) -> None:
        """Adds a record to the history."""
        number = self.now.last.number + 1 if self.now.last else 1
        self.change(last=Record(number, cause, digest=digest, outcome=outcome, **more))  # type: ignore[arg-type]

    async def deploy(self, reference: str, options: Options) -> AsyncIterator[Progress]:
        self._note(f"deploy {reference}")
        self.options.append(options)
        if self.now.hold is not None and not options.force:
            raise RequestError("FAILED_PRECONDITION", "cannot deploy: the device is held; wait")
        yield await self._tell(Progress(State.QUEUED), reference)
        yield await self._tell(Progress(State.FETCH, bytes_done=1, bytes_total=2), reference)
        await self.gate.wait()
        fault, error = self.faults.get(reference, (Fault.NONE, ""))
        end = ENDS.get(fault, State.FAILED)
        digest = digest_of(reference)
        if end is State.COMMITTED:
            slot = Slot(digest, reference, Path("/m"), 1_800_000_000_000_000, "surface", "7")
            self.change(model=slot, previous=self.now.model, state="serving")
        self.change(progress=None, reference="")
        self.record(end.value, digest=digest, reason=error, reference=reference)
        yield Progress(end, digest, error=error, fault=fault)

    async def _tell(self, progress: Progress, reference: str) -> Progress:
        self.change(progress=progress, reference=reference)
        await asyncio.sleep(0)
        return progress

    def rollback(self, options: Options) -> AsyncIterator[Progress]:
        if self.now.previous is None:
            raise RequestError(
                "FAILED_PRECONDITION", "cannot roll back: there is no previous model"
            )
        return self.deploy(self.now.previous.reference, options)

    async def undeploy(self, options: Options) -> str:
        self._note("undeploy")
        self._fail("undeploy")
        digest = self.now.model.digest if self.now.model else ""
        self.change(model=None, state="not_serving")
        self.record("undeployed", cause="undeploy")
        return digest

    async def look_up(
        self, reference: str, credentials: Mapping[str, Credentials]
    ) -> tuple[str, ModelFacts]:
        self.seen.append(credentials)
        self._fail(reference)
        if self.models is not None and reference not in self.models:
            raise ModelError("cannot use image: its manifest has no annotation of a model")
        return digest_of(reference), ModelFacts("surface", "7", "bw-cnn-a10", "ms-fp13", 4096)

    async def restart(self) -> Slot:
        self._note("restart")
        self._fail("restart")
        await self.gate.wait()
        assert self.now.model is not None
        return self.now.model

    async def self_test(self) -> float:
        self._note("self_test")
        self._fail("self_test")
        return 0.25

    def _fail(self, what: str) -> None:
        if what in self.errors:
            raise self.errors[what]


async def until(is_so: Callable[[], object], device: Steered, limit: float = 10.0) -> None:
    """Waits until something is so; it is looked at whenever the device stirs."""

    async def look() -> None:
        while not is_so():
            await device.stirred.wait()
            device.stirred.clear()

    await asyncio.wait_for(look(), limit)
