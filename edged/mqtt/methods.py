"""Direct methods: what a controller may have done at once, answered within a second.

=================  =============================  =================================================
method             payload                        answer
=================  =============================  =================================================
``ping``           nothing                        200, edged's version and state
``Deploy``         as the desired document        202 and a correlation id
``Rollback``       ``force``                      202 and a correlation id
``Undeploy``       ``force``                      202 and a correlation id
``RestartModule``  ``id``                         202 and a correlation id
``RunSelfTest``    nothing                        202 and a correlation id
``GetTaskStatus``  ``correlationId``              200 and how far that is
``GetModuleLogs``  ``items``, ``encoding``,       200 and the logs; 202 and a correlation id if it
                   ``contentType``                takes longer than a second
=================  =============================  =================================================

A payload is a JSON object or nothing. Any may have ``schemaVersion`` (1.x) and ``idempotencyKey``:
the same key again gets the same answer, and nothing is done twice. Errors are
``{"error": {"code", "message", "fix"}}`` with that code as the status.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from edged.deploy.types import Options, Progress, State
from edged.errors import EdgedError, RequestError
from edged.mqtt import codes, desired, module_logs
from edged.mqtt.bounded import encode, fit
from edged.mqtt.control import Answer
from edged.mqtt.device import Device
from edged.mqtt.fields import Fields, parse
from edged.mqtt.report import percent
from edged.mqtt.tasks import COMPLETED, FAILED, Task, Tasks

logger = logging.getLogger(__name__)

PAYLOAD_LIMIT = 128 * 1024  # bytes, a hub's
ANSWER_LIMIT = 120 * 1024
AT_ONCE = 0.9  # seconds that an answer may be waited for
KEYS_KEPT = 256
ENVELOPE = ("schemaVersion", "idempotencyKey")
Handler = Callable[[Fields], Awaitable[tuple[int, Any]]]


class Methods:
    """The methods of one device.

    Args:
        device: that they act on.
        modules: gives the names by which the model is known as a module.
        boot_id: of this start of edged.
    """

    def __init__(self, device: Device, modules: Callable[[], list[str]], boot_id: str) -> None:
        self._device = device
        self._modules = modules
        self._boot_id = boot_id
        self.tasks = Tasks()
        self._answered: dict[str, tuple[tuple[str, bytes], asyncio.Future[Answer]]] = {}
        self._of: dict[str, tuple[tuple[str, ...], Handler]] = {
            "ping": ((), self._ping),
            "Deploy": (desired.KEYS, self._deploy),
            "Rollback": (("force",), self._rollback),
            "Undeploy": (("force",), self._undeploy),
            "RestartModule": (("id",), self._restart),
            "RunSelfTest": ((), self._self_test),
            "GetTaskStatus": (("correlationId",), self._task_status),
            "GetModuleLogs": (("items", "encoding", "contentType"), self._logs),
        }

    async def call(self, name: str, payload: bytes) -> Answer:
        """Answers a method; never raises."""
        try:
            return await self._call(name, payload)
        except EdgedError as exc:
            return failure(exc)
        except Exception:
            logger.exception("method %s failed", ascii(name[:40]))
            return failure(RequestError("INTERNAL", "internal error; see the device's log"))

    async def stop(self) -> None:
        """Ends what runs."""
        await self.tasks.stop()

    async def _call(self, name: str, payload: bytes) -> Answer:
        if name not in self._of:
            raise RequestError(
                "NOT_FOUND", f"no method {name[:40]!a} here; there are {', '.join(self._of)}"
            )
        keys, handle = self._of[name]
        where = f"the payload of {name}"
        # A hub hands on null for a method that was called with nothing.
        nothing = payload.strip() in (b"", b"null")
        fields = Fields({} if nothing else parse(payload, where, PAYLOAD_LIMIT), where)
        fields.only((*keys, *ENVELOPE))
        version = fields.text("schemaVersion", "1.0", 16)
        if version.partition(".")[0] != "1":
            raise RequestError(
                "INVALID_ARGUMENT", f"cannot use {fields.where}: schemaVersion {version!r}; use 1.0"
            )
        key = fields.text("idempotencyKey", "", 64)
        if not key:
            return await self._answer(handle, fields)
        return await self._answer_once(key, (name, payload), handle, fields)

    async def _answer_once(
        self, key: str, call: tuple[str, bytes], handle: Handler, fields: Fields
    ) -> Answer:
        """Answers as it was answered before, if it was."""
        if key in self._answered:
            before, answer = self._answered[key]
            if before != call:
                raise RequestError(
                    "ABORTED",
                    f"the idempotencyKey {key!r} was used for something else; use a fresh one",
                )
            return await asyncio.shield(answer)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answered[key] = (call, future)
        for old in list(self._answered)[:-KEYS_KEPT]:
            del self._answered[old]
        try:
            answer_now = await self._answer(handle, fields)
        except BaseException as exc:
            self._answered.pop(key, None)  # it may be tried again
            broken = RequestError("UNAVAILABLE", "the call was broken off; call again")
            future.set_exception(exc if isinstance(exc, EdgedError) else broken)
            future.exception()  # it is no fault that nobody may be waiting for it
            raise
        future.set_result(answer_now)
        return answer_now

    async def _answer(self, handle: Handler, fields: Fields) -> Answer:
        status, value = await handle(fields)
        body = json.dumps(value, separators=(",", ":")).encode()
        if len(body) > ANSWER_LIMIT:
            raise RequestError(
                "RESOURCE_EXHAUSTED", f"the answer has {len(body)} bytes; ask for less"
            )
        return Answer(status, body)

    # -- each of them

    async def _ping(self, _fields: Fields) -> tuple[int, Any]:
        now = self._device.snapshot()
        return codes.OK, {"version": now.version, "boot_id": self._boot_id, "state": now.state}

    async def _deploy(self, fields: Fields) -> tuple[int, Any]:
        document = {key: fields.raw(key) for key in desired.KEYS if key in fields}
        wanted = desired.own(document).target
        if wanted is None or not wanted.reference:
            raise RequestError(
                "INVALID_ARGUMENT",
                "cannot deploy: no image to run in the payload; name one, or call Undeploy",
            )
        reference, options = wanted.reference, wanted.options
        self._check_hold("deploy", options)

        async def work(task: Task) -> None:
            await _follow(task, self._device.deploy(reference, options))

        return self._begun("Deploy", work)

    async def _rollback(self, fields: Fields) -> tuple[int, Any]:
        options = Options(force=fields.flag("force"))
        if self._device.snapshot().previous is None:
            raise RequestError(
                "FAILED_PRECONDITION",
                "cannot roll back: there is no previous model; deploy one",
            )
        self._check_hold("roll back", options)

        async def work(task: Task) -> None:
            await _follow(task, self._device.rollback(options))

        return self._begun("Rollback", work)

    async def _undeploy(self, fields: Fields) -> tuple[int, Any]:
        options = Options(force=fields.flag("force"))
        self._check_hold("undeploy", options)

        async def work(task: Task) -> None:
            digest = await self._device.undeploy(options)
            task.message = "no model is in service"
            task.facts["digest"] = digest

        return self._begun("Undeploy", work)

    async def _restart(self, fields: Fields) -> tuple[int, Any]:
        self._check_serving("restart")
        wanted, known = fields.text("id", "", 128), self._modules()
        if wanted and wanted not in known:
            raise RequestError(
                "NOT_FOUND", f"no module {wanted!a} here; there are {', '.join(known)}"
            )

        async def work(task: Task) -> None:
            slot = await self._device.restart()
            task.message = "the model serves again"
            task.facts["digest"] = slot.digest

        return self._begun("RestartModule", work)

    async def _self_test(self, _fields: Fields) -> tuple[int, Any]:
        self._check_serving("test")

        async def work(task: Task) -> None:
            seconds = await self._device.self_test()
            task.message = "the golden test passed"
            task.facts["ms"] = round(seconds * 1e3, 1)

        return self._begun("RunSelfTest", work)

    async def _task_status(self, fields: Fields) -> tuple[int, Any]:
        correlation = fields.text("correlationId", "", 64)
        if not correlation:
            raise RequestError(
                "INVALID_ARGUMENT", f"cannot use {fields.where}: no correlationId; give one"
            )
        return codes.OK, self.tasks.find(correlation).document()

    async def _logs(self, fields: Fields) -> tuple[int, Any]:
        wanted = module_logs.parse(fields, time.time())
        names = self._modules()
        found: asyncio.Future[list[dict[str, Any]]] = asyncio.get_running_loop().create_future()

        async def work(task: Task) -> None:
            try:
                logs = await module_logs.read(wanted, self._device.logs, names)
            except EdgedError as exc:
                if not found.cancelled():
                    found.set_exception(exc)
                raise
            if found.cancelled():
                task.facts["result"] = logs
            else:
                found.set_result(logs)

        task = self.tasks.start("GetModuleLogs", work)
        await asyncio.wait([found], timeout=AT_ONCE)
        if found.done():
            return codes.OK, found.result()
        found.cancel()
        return codes.ACCEPTED, {"correlationId": task.id}

    # -- what they share

    def _begun(self, name: str, work: Callable[[Task], Awaitable[None]]) -> tuple[int, Any]:
        logger.info("method %s", name, extra={"event": "method"})
        return codes.ACCEPTED, {"correlationId": self.tasks.start(name, work).id}

    def _check_hold(self, what: str, options: Options) -> None:
        hold = self._device.snapshot().hold
        if hold is not None and not options.force:
            raise HeldError(f"cannot {what}: the device is {hold.sentence()}; wait, or use force")

    def _check_serving(self, what: str) -> None:
        if self._device.snapshot().model is None:
            raise RequestError(
                "FAILED_PRECONDITION", f"cannot {what}: no model is in service; deploy one"
            )


class HeldError(RequestError):
    """An operator holds the device."""

    def __init__(self, message: str) -> None:
        super().__init__("FAILED_PRECONDITION", message)


def failure(error: EdgedError) -> Answer:
    """Returns an error as a controller sees it."""
    code = codes.LOCKED if isinstance(error, HeldError) else codes.of_error(error)
    message, fix = codes.split(str(error))
    told = {"code": code, "message": message, "fix": fix or "see the device's log"}
    return Answer(code, encode(fit({"error": told}, 4096)))


async def _follow(task: Task, events: AsyncIterator[Progress]) -> None:
    """Notes in a task how a deployment goes, to its end."""
    last: Progress | None = None
    async for last in events:
        task.facts = {
            "phase": last.state.value,
            "percent": percent(last),
            "digest": last.digest,
        }
    if last is None or last.state is not State.COMMITTED:
        error = last.error if last else "it ended without an outcome"
        _, fix = codes.split(error)
        task.status, task.message = FAILED, error
        if last is not None:
            task.facts |= {
                "code": codes.of_fault(last.fault),
                "fix": fix or codes.fix(last.fault, error),
            }
        return
    task.facts["percent"] = 100
    task.status, task.message = COMPLETED, last.detail or "the model is in service"
