"""Operators' commands: who gave them, and a record of each that changes something.

Invariants:
- A record is made when the act has ended, with its outcome; a refused act has one too. One whose
  caller has left goes on without him, and its record says so: 'edged history' has the outcome.
- Nobody waits for the record's way to the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from edged.access import audit
from edged.access.audit import Act, Audit
from edged.access.roles import Caller, Role
from edged.deploy.types import Options, Progress
from edged.errors import EdgedError
from edged.rpc import callers, peers

if TYPE_CHECKING:
    from edged import messages
    from edged.deploy.history import Record
    from edged.deploy.hold import Hold
    from edged.deploy.quarantine import Entry
    from edged.rpc.control import Operations


class Local(grpc.aio.ServerInterceptor):
    """Notes who calls over the control socket: whoever may open it may do everything.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the method; it is run in the same context, where the caller is noted."""
        metadata = dict(handler_call_details.invocation_metadata or ())
        said = metadata.get(peers.PID_KEY)
        callers.CURRENT.set(self._caller(None if said is None else str(said)))
        return await continuation(handler_call_details)

    def _caller(self, said: str | None) -> Caller:
        peer = peers.which(self._path, said)
        name = "an operator" if peer is None else audit.named(peer.uid, peer.pid)
        return Caller(name, Role.ADMIN, self._path.name)


class Recorded:
    """The operations of a daemon, recorded.

    Args:
        operations: that do it.
        records: where it is noted.
    """

    def __init__(self, operations: Operations, records: Audit) -> None:
        self._operations = operations
        self._records = records
        self._writing: set[asyncio.Future[None]] = set()

    async def deploy(self, reference: str, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment and yields its progress to the end."""
        with self._act("deploy", reference + _forced(options)) as outcome:
            async for progress in self._operations.deploy(reference, options):
                outcome[:] = [_told(progress)]
                yield progress

    async def rollback(self, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment of the previous model and yields its progress to the end."""
        with self._act("rollback", _forced(options)) as outcome:
            async for progress in self._operations.rollback(options):
                outcome[:] = [_told(progress)]
                yield progress

    async def undeploy(self, options: Options) -> str:
        """Takes the model out of service; returns its digest, empty if there was none."""
        with self._act("undeploy", _forced(options)) as outcome:
            digest = await self._operations.undeploy(options)
            outcome[:] = [digest or "there was no model"]
            return digest

    def hold(self, owner: str, reason: str, ttl: float, *, force: bool) -> Hold:
        """Refuses deployments for ``ttl`` seconds."""
        with self._act("hold", f"{ttl:g} s, {owner}: {reason}" + (" (forced)" if force else "")):
            return self._operations.hold(owner, reason, ttl, force=force)

    def release(self) -> Hold | None:
        """Ends the hold; returns it, None if there was none."""
        with self._act("release"):
            return self._operations.release()

    def quarantine(self, clear: str) -> list[Entry]:
        """Returns the images in quarantine, or those that it takes out."""
        if not clear:
            return self._operations.quarantine("")
        with self._act("quarantine clear", clear):
            callers.require(Role.ADMIN)
            return self._operations.quarantine(clear)

    # -- what changes nothing

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""
        return self._operations.status()

    def history(self) -> list[Record]:
        """Returns what was done, oldest first."""
        return self._operations.history()

    async def self_test(self) -> messages.SelfTestReply:
        """Runs the golden test of the model in service."""
        return await self._operations.self_test()

    # -- the record

    @contextlib.contextmanager
    def _act(self, what: str, subject: str = "") -> Iterator[list[str]]:
        """Notes what happened in the block; its outcome is what the list holds at the end."""
        outcome = ["done"]
        try:
            yield outcome
        except EdgedError as exc:
            outcome[:] = [f"refused: {exc}"]
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome[:] = [f"{outcome[0]} when its caller left; see 'edged history'"]
            raise
        except Exception as exc:
            outcome[:] = [f"failed: {exc!r}"]
            raise
        finally:
            caller = callers.CURRENT.get() or Caller("edged", Role.ADMIN)
            self.note(Act(caller.name, caller.peer or "edged", what, subject.strip(), outcome[0]))

    def note(self, act: Act) -> None:
        """Makes a record of an act; does not wait for the disk."""
        audit.announce(act)
        writing = asyncio.get_running_loop().run_in_executor(None, self._records.keep, act)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)


def _forced(options: Options) -> str:
    said = [(options.force, "forced"), (options.allow_downgrade, "downgrade allowed")]
    return "".join(f" ({words})" for is_so, words in said if is_so)


def _told(progress: Progress) -> str:
    return progress.state.value + (f": {progress.error}" if progress.error else "")
