"""Brings the device to the newest document, through ``Device``, and keeps it said how it stands.

Invariants:
- The newest document wins. A task follows it for as long as it is the newest: it deploys or
  undeploys, tries again what passes, and looks on whether the model stays in service.
- The same document is not applied twice: not when it comes again, not after a restart. What an
  operator does at the device in between stays until the document changes.
- A document that cannot be used changes nothing but the report.
- What can pass (a link, a disk, a held device) is tried again for ever, with growing pauses; what
  is the model's own fault waits for another document, or for its quarantine to be cleared.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edged.deploy.history import Record
from edged.deploy.types import Fault, Progress, State
from edged.errors import EdgedError, RequestError
from edged.mqtt import codes, desired
from edged.mqtt.choice import choose
from edged.mqtt.desired import Desired, Target
from edged.mqtt.device import Device
from edged.mqtt.edge import manifest
from edged.mqtt.news import News, happens
from edged.mqtt.standing import (
    APPLIED,
    APPLYING,
    FAILED,
    INVALID,
    SUPERSEDED,
    TEXT_LIMIT,
    WAITING,
    Memory,
    Standing,
    Verdict,
)

logger = logging.getLogger(__name__)

RETRY, RETRY_LIMIT = 10.0, 300.0  # seconds


def retry_delay(attempts: int) -> float:
    """Returns the seconds to wait after so many attempts that failed in a way that passes."""
    return min(RETRY_LIMIT, RETRY * 2.0 ** min(max(attempts - 1, 0), 16))


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended.

    Attributes:
        fault: whose; NONE if the device is as desired.
        error: why it is not, or not in every respect.
        digest: of the image, if it became known.
        reference: of the image.
        code: as of HTTP; 0 for that of the fault.
        verdicts: by module, of a manifest.
    """

    fault: Fault = Fault.NONE
    error: str = ""
    digest: str = ""
    reference: str = ""
    code: int = 0
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


class Controller:
    """Follows what a controller wants.

    Args:
        device: that is changed.
        folder: where it remembers; must exist.
        changed: called when there is something new to report.
        delay: seconds to wait after so many attempts that failed in a way that passes.

    Attributes:
        standing: of the newest document.
        desired: the newest document that could be used; None before one came.
    """

    def __init__(
        self,
        device: Device,
        folder: Path,
        changed: Callable[[], None],
        delay: Callable[[int], float] = retry_delay,
    ) -> None:
        self._device = device
        self._memory = Memory(folder)
        self._changed = changed
        self._delay = delay
        self._task: asyncio.Task[None] | None = None
        self._news = News()
        self.standing = self._memory.read()
        self.desired: Desired | None = None
        device.on_change.append(self._look)

    # -- what controllers want

    def document(self, payload: bytes, source: str = "plain") -> None:
        """Takes a document as it came; an empty one wants no model. Never raises."""
        try:
            wanted = desired.read(payload)
        except RequestError as exc:
            self._refuse(hashlib.sha256(payload).hexdigest(), source, 0, exc)
        else:
            self._want(wanted, source, 0)

    def twin(self, properties: Mapping[str, Any], version: int) -> None:
        """Takes all desired properties of a twin; see ``Control.twin``."""
        source = "twin" if desired.SECTION in properties else "manifest"
        try:
            if desired.SECTION in properties:
                wanted = desired.own(properties[desired.SECTION])
            elif manifest.is_one(properties):
                wanted = desired.understand(properties)
            elif self.standing.key:
                wanted, source = desired.NOTHING, self.standing.source
            else:
                return
        except RequestError as exc:
            key = hashlib.sha256(repr(properties).encode(errors="replace")).hexdigest()
            self._refuse(key, source, version, exc)
        else:
            self._want(wanted, source, version)

    def _refuse(self, key: str, source: str, version: int, error: RequestError) -> None:
        logger.warning("desired document refused: %s", error, extra={"event": "desired"})
        self._end_task()
        self.desired = None
        _, fix = codes.split(str(error))
        self._set(
            Standing(
                f"invalid:{key}",
                source,
                version,
                outcome=INVALID,
                code=codes.of_error(error),
                error=str(error)[:TEXT_LIMIT],
                fix=fix or "mend the document and send it again",
            )
        )
        self._task = asyncio.get_running_loop().create_task(self._remember(), name="desired")

    def _want(self, wanted: Desired, source: str, version: int) -> None:
        before, known = self.standing, self.desired
        self.desired = wanted
        if wanted.key != before.key:
            logger.info("new desired document from %s", source, extra={"event": "desired"})
            self._set(Standing(wanted.key, source, version, wanted.id, APPLYING))
            self._follow(self._bring, wanted)
            return
        self._set(replace(before, source=source, version=version))
        if before.is_settled:
            if self._task is None or self._task.done():
                self._follow(self._stay, wanted)
        elif known is None or _credentials(known) != _credentials(wanted):
            self._follow(self._bring, wanted)  # left by a restart, or there are new credentials

    def _follow(
        self, work: Callable[[Desired], Coroutine[Any, Any, None]], wanted: Desired
    ) -> None:
        self._end_task()
        guarded = self._guarded(work, wanted)
        self._task = asyncio.get_running_loop().create_task(guarded, name="desired")

    async def _guarded(
        self, work: Callable[[Desired], Coroutine[Any, Any, None]], wanted: Desired
    ) -> None:
        """Lets no fault of ours end more than this document's task."""
        try:
            await work(wanted)
        except Exception:
            logger.exception("cannot follow the desired document")
            text = "internal error; see the device's log"
            self._set(replace(self.standing, outcome=FAILED, code=codes.FAILED, error=text))

    def _end_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Ends what is under way; the document is taken up again after the next start."""
        self._end_task()
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._remember()
        with contextlib.suppress(ValueError):  # stopped already
            self._device.on_change.remove(self._look)

    # -- one document's life

    async def _bring(self, wanted: Desired) -> None:
        """Applies a document, and follows it for as long as it is the newest."""
        await self._remember()
        attempts = 0
        while True:
            attempts += 1
            outcome = await self._attempt(wanted, again=attempts > 1)
            if outcome.fault is Fault.STOPPING:
                return
            await self._settle(outcome)
            if outcome.fault is Fault.OVERTAKEN:
                return
            if outcome.fault is Fault.NONE and not await self._watch():
                return
            if not await self._pause(attempts):
                return
            self._set(replace(self.standing, outcome=APPLYING))

    async def _stay(self, wanted: Desired) -> None:
        """Follows a document that was settled before edged started."""
        if self.standing.outcome == SUPERSEDED:
            return
        if self.standing.outcome == APPLIED and not await self._watch():
            return
        if await self._pause(1):
            self._set(replace(self.standing, outcome=APPLYING))
            await self._bring(wanted)

    async def _attempt(self, wanted: Desired, *, again: bool) -> Outcome:
        """Returns how one attempt ended; whatever goes wrong is an outcome."""
        try:
            if wanted.deployment is None:
                return await self._change(wanted.target or Target(), again=again)
            return await self._deploy_manifest(wanted, again=again)
        except EdgedError as exc:
            return Outcome(_fault(exc), str(exc))
        except Exception:
            logger.exception("cannot apply the desired document")
            return Outcome(Fault.PASSING, "internal error; see the device's log")

    async def _deploy_manifest(self, wanted: Desired, *, again: bool) -> Outcome:
        assert wanted.deployment is not None  # noqa: S101 - only called with one
        choice = await choose(wanted.deployment, self._device)
        self._set(replace(self.standing, verdicts=choice.verdicts))
        if choice.target is None:
            fault, error = Fault.MODEL, choice.refused or "there is no model in the manifest"
            if choice.unknown is not None:
                fault, error = Fault.PASSING, str(choice.unknown)
            return Outcome(fault, error, verdicts=choice.verdicts)
        outcome = await self._change(choice.target, again=again)
        outcome = replace(outcome, verdicts=choice.verdicts)
        if outcome.fault is not Fault.NONE:
            return outcome
        if choice.unknown is not None:
            return replace(outcome, fault=Fault.PASSING, error=str(choice.unknown))
        if choice.refused:
            return replace(outcome, code=codes.UNSUITABLE, error=choice.refused)
        return outcome

    async def _change(self, target: Target, *, again: bool) -> Outcome:
        """Deploys or undeploys."""
        now = self._device.snapshot()
        if not target.reference:
            if now.model is not None or now.progress is not None:
                await self._device.undeploy(target.options)
            return Outcome()
        self._set(replace(self.standing, reference=target.reference))
        last: Progress | None = None
        options = replace(target.options, again=again)
        async for progress in self._device.deploy(target.reference, options):
            last = progress
        if last is None:
            return Outcome(Fault.PASSING, "the deployment ended without an outcome")
        fault = last.fault
        if last.state is not State.COMMITTED and fault is Fault.NONE:
            fault = Fault.PASSING
        return Outcome(fault, last.error, last.digest, target.reference)

    async def _settle(self, outcome: Outcome) -> None:
        """Says how an attempt ended, and remembers it."""
        done, now = outcome.fault is Fault.NONE, self._device.snapshot()
        state = {
            Fault.NONE: APPLIED,
            Fault.MODEL: FAILED,
            Fault.OVERTAKEN: SUPERSEDED,
        }.get(outcome.fault, WAITING)
        fix = "" if done and not outcome.error else codes.fix(outcome.fault, outcome.error)
        self._set(
            replace(
                self.standing,
                outcome=state,
                fault=outcome.fault,
                code=outcome.code or (codes.OK if done else codes.of_fault(outcome.fault)),
                error=outcome.error[:TEXT_LIMIT],
                fix=fix,
                reference=outcome.reference,
                digest=outcome.digest,
                quarantined=outcome.digest in now.quarantined,
                record=now.last.number if now.last else 0,
                verdicts=outcome.verdicts,
            )
        )
        await self._remember()

    # -- waiting

    async def _watch(self) -> bool:
        """Waits for as long as the device is as desired.

        Returns whether the model was reverted, which is settled then and may be tried again; False
        if others brought something else into service, or took it out: that is not our business.
        """
        standing = self.standing
        while True:
            news = self._news.next
            now = self._device.snapshot()
            last = now.last
            if _is_changed_by_others(last, standing):
                await self._give_way()
                return False
            if last is not None and _is_reverted(last, standing):
                fault = Fault.MODEL if standing.digest in now.quarantined else Fault.PASSING
                reverted = Outcome(fault, last.reason, standing.digest, standing.reference)
                await self._settle(replace(reverted, verdicts=standing.verdicts))
                return True
            await happens(news)

    async def _pause(self, attempts: int) -> bool:
        """Waits until a document that failed is worth another attempt; False for never."""
        standing, loop = self.standing, asyncio.get_running_loop()
        until = loop.time() + self._delay(attempts)
        while True:
            news = self._news.next
            now = self._device.snapshot()
            if _is_changed_by_others(now.last, standing):
                await self._give_way()
                return False
            left: float | None = until - loop.time()
            if standing.fault is Fault.MODEL:
                if standing.quarantined and standing.digest not in now.quarantined:
                    return True
                left = None
            elif standing.fault is Fault.HELD:
                if now.hold is None:
                    return True
                left = now.hold.left
            elif until <= loop.time():
                return True
            await happens(news, left)

    async def _give_way(self) -> None:
        text = "somebody changed the model at the device, or by a method, meanwhile"
        self._set(
            replace(
                self.standing,
                outcome=SUPERSEDED,
                fault=Fault.OVERTAKEN,
                code=codes.CONFLICT,
                error=text,
                fix="send another document to have it otherwise",
            )
        )
        await self._remember()

    def _look(self) -> None:
        """Wakes whoever waits for a change of the device."""
        self._news.tell()

    def _set(self, standing: Standing) -> None:
        if standing != self.standing:
            self.standing = standing
            self._changed()

    async def _remember(self) -> None:
        await asyncio.to_thread(self._memory.write, lambda: self.standing)


def _is_changed_by_others(newest: Record | None, standing: Standing) -> bool:
    """Whether somebody brought something else into service since a standing was settled."""
    if newest is None or newest.number <= standing.record:
        return False
    if newest.outcome == "undeployed":
        return bool(standing.digest) or standing.outcome != APPLIED
    return newest.outcome == "committed" and newest.digest != standing.digest


def _is_reverted(last: Record, standing: Standing) -> bool:
    """Whether the model of a standing was taken out of service again."""
    if last.outcome != "reverted" or not standing.digest:
        return False
    ours = last.digest == standing.digest and last.number >= standing.record
    return ours or (last.cause == "start" and last.before == standing.digest)


def _credentials(wanted: Desired) -> Mapping[str, Any]:
    return wanted.deployment.credentials if wanted.deployment else {}


def _fault(error: EdgedError) -> Fault:
    """Returns whose fault an error is that a change of the device was refused with."""
    if isinstance(error, RequestError):
        return {
            "FAILED_PRECONDITION": Fault.HELD,
            "UNAVAILABLE": Fault.STOPPING,
            "ABORTED": Fault.OVERTAKEN,
        }.get(error.code, Fault.PASSING)
    return Fault.PASSING
