"""What operators ask of the daemon: ``edged.rpc.control.Operations``, each act recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edged.access.roles import Caller, Role
from edged.daemon.changes import Changes
from edged.errors import DeviceError, ModelError
from edged.rpc import callers

if TYPE_CHECKING:
    from edged import messages
    from edged.daemon.parts import Parts
    from edged.deploy.history import Record
    from edged.deploy.hold import Hold
    from edged.deploy.quarantine import Entry

logger = logging.getLogger(__name__)


class Operations(Changes):
    """The parts, for operators.

    Args:
        parts: of the daemon.
        status: returns what it is doing.
        changed: told of what no part tells of: a hold, the quarantine.
    """

    def __init__(
        self,
        parts: Parts,
        status: Callable[[], messages.StatusReply],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(parts.reconciler, parts.recorder, _caller)
        self._parts = parts
        self._status = status
        self._changed = changed

    def history(self) -> list[Record]:
        """Returns what was done, oldest first."""
        return self._parts.records.history.records

    def hold(self, owner: str, reason: str, ttl: float, *, force: bool) -> Hold:
        """Refuses deployments for ``ttl`` seconds."""
        subject = f"{ttl:g} s, {owner}: {reason}" + (" (forced)" if force else "")
        with self._recorder.act(_caller(), "hold", subject):
            taken = self._parts.records.holds.take(owner, reason, ttl, force=force)
            self._changed()
            return taken

    def release(self) -> Hold | None:
        """Ends the hold; returns it, None if there was none."""
        with self._recorder.act(_caller(), "release"):
            released = self._parts.records.holds.release()
            self._changed()
            return released

    def quarantine(self, clear: str) -> list[Entry]:
        """Returns the images in quarantine, or those that it takes out, which takes an admin."""
        kept = self._parts.records.quarantine
        if not clear:
            return kept.entries
        with self._recorder.act(_caller(), "quarantine clear", clear):
            callers.require(Role.ADMIN)
            cleared = kept.clear(clear)
            self._changed()
            return cleared

    async def self_test(self) -> messages.SelfTestReply:
        """Runs the golden test of the model in service, between requests.

        Raises:
            RequestError: no model is in service.
        """
        from edged import messages

        slot, began, reason = self._parts.service.serving, time.monotonic(), ""
        try:
            await self._parts.reconciler.upkeep.self_test()
        except (ModelError, DeviceError) as exc:
            reason = str(exc)
            logger.error("self-test: %s", exc, extra={"event": "self_test"})  # noqa: TRY400
        return messages.SelfTestReply(
            passed=not reason,
            reason=reason,
            digest=slot.digest if slot is not None else "",
            elapsed_us=round((time.monotonic() - began) * 1e6),
        )

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""
        return self._status()


def _caller() -> Caller:
    """Returns whose the present call is."""
    return callers.CURRENT.get() or Caller("edged", Role.ADMIN)
