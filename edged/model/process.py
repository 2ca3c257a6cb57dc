"""One worker process with one model: started, put on and off the NPU, asked, stopped.

Invariants:
- Each step has a time limit; a worker that breaks one is killed, never waited for.
- ``on_death`` is called once, when the link is gone for whatever reason but ``stop`` and ``kill``.
- What the worker says about itself is checked before anybody else sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal as signals
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from edged.containers.logs import Logs
from edged.containers.runtime import Container, Limits, Runtime, Spec, new_name
from edged.errors import CrashError, DeviceError, ModelError, RequestError
from edged.messages.link import Ask, Frame, Kind
from edged.model.connection import Connection, Outcome
from edged.osutil import priority
from edged.rpc.front import Options, Reply

logger = logging.getLogger(__name__)

START_LIMIT = 20.0  # seconds to load and encode a model
RUN_LIMIT = 60.0  # for one request, whatever its batch; beyond it the worker counts as hung
STOP_LIMIT = 2.0
BEHIND_SHARE = 0.25  # of its time to load, in which a process may wait behind others
UNREAD_LIMIT = 0.2  # to read an answer that has come
EXIT_LIMIT = 1.0  # from a broken link to the end of the process, before it is killed
TEXT_LIMIT = 256


@dataclass(frozen=True)
class Worker:
    """What is to run, and with what.

    Attributes:
        runtime: that runs it.
        module: the worker's program.
        threads: of the NPU's emulator; None for its choice.
        isa: of the NPU's emulator; None for the best of the machine.
        strict: refuse requests that TensorFlow Serving would refuse, such as those without a name.
        limits: what the process may use, where the runtime can hold it to that.
        logs: keeps what it writes; None for the daemon's standard error.
    """

    runtime: Runtime
    module: str = "edged.worker"
    threads: int | None = None
    isa: str | None = None
    strict: bool = False
    limits: Limits = field(default_factory=Limits)
    logs: Logs | None = None


@dataclass(frozen=True)
class Facts:
    """What a worker says of itself and its model in HELLO."""

    name: str = ""
    version: str = ""
    format: str = ""
    sku: str = ""
    isa: str = ""
    memory_bytes: int = 0
    predicted_us: float = 0.0  # that the NPU's part would take on the board; 0 if not said


class ModelProcess:
    """A worker that has loaded a model. It is made by ``start``."""

    def __init__(self, digest: str, container: Container, *, strict: bool) -> None:
        self.digest = digest
        self.facts = Facts()
        self.answered = 0
        self._under_way = 0  # requests
        self._first_since = 0.0  # on time.monotonic
        self._overdue: asyncio.TimerHandle | None = None
        self._on_death: Callable[[ModelProcess, str], None] | None = None
        self._strict = strict
        self._container = container
        self._connection = Connection(self._lost)

    @classmethod
    async def start(
        cls,
        worker: Worker,
        folder: Path,
        digest: str,
        on_death: Callable[[ModelProcess, str], None],
        limit: float = START_LIMIT,
        *,
        behind: bool = False,
    ) -> ModelProcess:
        """Returns a process that has loaded the model in ``folder`` and is off the NPU.

        Args:
            worker: what to run.
            folder: with the model's manifest.json.
            digest: of the model's image.
            on_death: called with the process and why, when it ends unasked after it was ready.
            limit: seconds until it must have loaded, those to start its container among them.
            behind: let it wait behind others for the processor until it has loaded.

        Raises:
            ModelError: the worker says that the model cannot be loaded.
            DeviceError: the worker ended, or was too slow.
        """
        began = time.monotonic()
        ours, theirs = socket.socketpair()
        with theirs:
            spec = _spec(worker, folder, digest, theirs.fileno())
            process = cls(digest, worker.runtime.create(spec), strict=worker.strict)
            try:
                await process._container.start()
            except BaseException:
                ours.close()
                await process.kill()
                raise
        logger.debug("worker started", extra={"pid": process.pid, "digest": digest})
        try:
            await process._connection.open(ours)
            async with process._waiting_behind(limit if behind else 0.0):
                await process._greet(began, limit)
            process._on_death = on_death
        except BaseException:
            await process.kill()
            raise
        return process

    @contextlib.asynccontextmanager
    async def _waiting_behind(self, limit: float) -> AsyncIterator[None]:
        """The process waits behind others for the processor, but not too long; 0 for not at all."""
        if not limit or not await priority.set_behind(self.pid):
            yield
            return
        loop = asyncio.get_running_loop()
        hurry = loop.create_task(self._hurry(limit * BEHIND_SHARE), name="hurry")
        try:
            yield
        finally:
            hurry.cancel()
            if self.lost is None and not await priority.set_usual(self.pid):
                logger.warning("process %d keeps a low priority", self.pid)

    async def _hurry(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await priority.set_usual(self.pid)

    async def _greet(self, began: float, limit: float) -> None:
        """Waits for HELLO until so many seconds after ``began``."""
        left = max(0.0, began + limit - time.monotonic())
        try:
            hello = await asyncio.wait_for(asyncio.shield(self._connection.hello), left)
        except asyncio.TimeoutError as exc:
            raise DeviceError(
                f"cannot load the model: its process was not ready within {limit:g} s"
            ) from exc
        except RequestError as exc:
            raise ModelError(f"cannot load the model: {exc}") from exc
        except DeviceError as exc:
            raise await self._ended(f"cannot load the model: {exc} before it was ready") from exc
        if self.lost is not None:
            raise await self._ended(f"cannot load the model: {self.lost} as soon as it was ready")
        self.facts = _facts(hello)
        fields = {"event": "loaded", "pid": self.pid, "digest": self.digest}
        logger.info("the model's process is ready, kernels %r", self.facts.isa, extra=fields)

    @property
    def lost(self) -> str | None:
        """Why there is nobody to talk to any more; None while there is."""
        return self._connection.lost

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._container.pid

    @property
    def busy(self) -> bool:
        """Whether it owes an answer."""
        return self._connection.busy

    @property
    def heard(self) -> float:
        """When it last said something, on ``time.monotonic``."""
        return self._connection.heard

    @property
    def is_stopped(self) -> bool:
        """Whether the process was stopped by a signal (SIGSTOP), and has not been continued."""
        flags = os.WSTOPPED | os.WNOHANG | os.WNOWAIT  # without taking note: others may look too
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.pid, flags) is not None
        return False

    async def beat(self, limit: float) -> bool:
        """Returns whether it, and the NPU, answer within ``limit`` seconds.

        False also where the link is gone. To be asked while nothing else is: the answer comes
        behind those to questions before it.
        """
        answer = self._connection.ask(Kind.BEAT)
        # Twice, for if this process was itself stopped, the time is over when it goes on, and the
        # answer has come but was not read.
        for seconds in (limit, UNREAD_LIMIT):
            done, _ = await asyncio.wait([answer], timeout=seconds)
            if done:
                return answer.exception() is None
        answer.cancel()  # nobody will look at it
        return False

    def abandon(self) -> None:
        """Gives it up: it counts as dead from now on, and whoever keeps it in service ends it."""
        self._connection.give_up()

    # -- the NPU

    async def activate(self, limit: float) -> None:
        """Takes the NPU.

        Raises:
            DeviceError: it could not, or not within ``limit`` seconds.
        """
        await self._command(Kind.ACTIVATE, "take the NPU", limit)

    async def leave(self, limit: float) -> None:
        """Leaves the NPU.

        Raises:
            DeviceError: it could not, or not within ``limit`` seconds.
        """
        await self._command(Kind.LEAVE, "leave the NPU", limit)

    async def probe(self, limit: float) -> None:
        """Runs the model's golden test.

        Raises:
            ModelError: the answers are not the golden ones.
            DeviceError: the worker ended, or was too slow.
        """
        frame = await self._command(Kind.PROBE, "run the golden test", limit)
        if frame.meta.get("ok") is not True:
            reason = str(frame.meta.get("reason") or "no reason given")[:TEXT_LIMIT]
            raise ModelError(f"cannot use the model: its golden test failed: {reason}")

    async def _command(self, kind: Kind, what: str, limit: float) -> Frame:
        try:
            return await asyncio.wait_for(self._connection.ask(kind), limit)
        except asyncio.TimeoutError as exc:
            raise DeviceError(f"cannot {what}: no answer within {limit:g} s") from exc
        except RequestError as exc:
            raise DeviceError(f"cannot {what}: {exc}") from exc
        except DeviceError as exc:
            raise await self._ended(f"cannot {what}: {exc}") from exc

    async def _ended(self, text: str) -> DeviceError:
        """Returns the error for a link that is gone: with how the process ended, if it did."""
        status = await self.exited()
        if self.exceeded:
            return CrashError(f"{text} ({self.exceeded})")
        if status is None or status == -signals.SIGKILL:
            # Who kills so is the host: it is out of memory itself, or an operator does.
            return DeviceError(text + (" (it was killed)" if status is not None else ""))
        words = (await self._container.last_words())[:TEXT_LIMIT]
        return CrashError(f"{text} ({_exit(status)}{words and f'; its last words: {words}'})")

    @property
    def exceeded(self) -> str:
        """Which of its limits the process was ended for; empty if for none."""
        return self._container.exceeded()

    async def exited(self) -> int | None:
        """Returns how the process ended, negative for a signal; None if it is there still."""
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._container.wait(), EXIT_LIMIT)
        return None

    # -- requests

    def predict(
        self,
        body: bytes,
        deadline: float | None,
        options: Options,
        done: Callable[[Reply | Exception], None],
    ) -> Callable[[], None]:
        """Runs one request; see ``edged.rpc.front.Backend``."""
        ask = Ask(
            0 if deadline is None else max(1, int(deadline * 1e6)),
            options.top,
            options.tensor_content,
            options.original,
            self._strict,
        )
        self._under_way += 1
        if self._under_way == 1:
            self._watch()
        question = self._connection.predict(ask, body, functools.partial(self._answered, done))
        return functools.partial(self._connection.cancel, question)

    def _answered(self, done: Callable[[Reply | Exception], None], outcome: Outcome) -> None:
        self._under_way -= 1
        self._watch()
        if isinstance(outcome, Frame):
            self.answered += 1
            done(Reply(outcome.body, outcome.said.times, outcome.said.top))
        else:
            done(outcome)

    def _watch(self) -> None:
        """Gives the request that is first now its whole time, if there is one."""
        self._first_since = time.monotonic()
        if self._overdue is None and self._under_way:
            # One timer, which looks when it is due: setting one costs more than all else here.
            self._overdue = asyncio.get_running_loop().call_later(RUN_LIMIT, self._look)

    def _look(self) -> None:
        """Ends a worker whose first request has had its time; else looks again when it has."""
        self._overdue = None
        if not self._under_way or self.lost is not None:
            return
        left = self._first_since + RUN_LIMIT - time.monotonic()
        if left > 0:
            self._overdue = asyncio.get_running_loop().call_later(left, self._look)
            return
        logger.error(
            "worker ran one request for %g s: ending it", RUN_LIMIT, extra={"pid": self.pid}
        )
        self._connection.close()

    # -- the end

    def _lost(self, why: str) -> None:
        on_death, self._on_death = self._on_death, None
        if on_death is not None:
            on_death(self, why)

    async def stop(self, limit: float = STOP_LIMIT) -> None:
        """Lets the worker finish what it runs and leave; kills it if that takes too long."""
        self._on_death = None
        self._connection.stop()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._container.wait(), limit)
        await self.kill()

    async def kill(self) -> None:
        """Ends the worker now and returns when it is gone. May be called at any time, again too."""
        self._on_death = None
        self._connection.close()
        if self._overdue is not None:
            self._overdue.cancel()
        try:
            await self._container.delete()
        except DeviceError as exc:
            # Nothing more can be done about it, and the next worker may still get the NPU.
            logger.error("%s", exc, extra={"pid": self.pid})  # noqa: TRY400


def _spec(worker: Worker, folder: Path, digest: str, socket_number: int) -> Spec:
    arguments = ["--threads", str(worker.threads)] if worker.threads is not None else []
    if worker.isa is not None:
        arguments += ["--isa", worker.isa]
    return Spec(
        worker.module,
        name=new_name(digest.partition(":")[2][:12]),
        arguments=arguments,
        socket=socket_number,
        model=folder,
        # onnxruntime may upload telemetry unless this is set before it is imported.
        environ={"ORT_DISABLE_TELEMETRY": "1"},
        limits=worker.limits,
        logs=worker.logs,
    )


def _exit(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signals.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def _facts(hello: Mapping[str, Any]) -> Facts:
    texts = {
        key: value[:TEXT_LIMIT]
        for key in ("name", "version", "format", "sku", "isa")
        if isinstance(value := hello.get(key), str)
    }
    memory = hello.get("memory_bytes", hello.get("memory"))
    predicted = hello.get("predicted_us")
    return Facts(
        **texts,
        memory_bytes=memory if _is_count(memory) else 0,
        predicted_us=float(predicted) if _is_time(predicted) else 0.0,
    )


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
