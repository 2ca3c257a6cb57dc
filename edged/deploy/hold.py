"""An operator's lock on deployments, with an owner, a reason and an end.

Invariants:
- It is on the disk before anybody is told that the device is held.
- It always ends: after its time by the clock that only goes forward. After a restart of the device
  that clock begins anew, so the wall clock decides how much is left; where that cannot be (it was
  never set, or went back), the whole time begins again. No hold outlives ``TTL_LIMIT`` of uptime.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from edged.deploy.clock import Clock, Moment
from edged.deploy.document import Document
from edged.errors import RequestError, StoreError

logger = logging.getLogger(__name__)

TTL_LIMIT = 30 * 24 * 3600.0  # seconds
TEXT_LIMIT = 200  # characters


@dataclass(frozen=True)
class Hold:
    """A hold that is in force.

    Attributes:
        owner: who holds the device.
        reason: why.
        ttl: seconds from ``since`` on.
        since: when it began, or was found again after the device restarted.
        left: seconds to go.
    """

    owner: str
    reason: str
    ttl: float
    since: Moment
    left: float = 0.0

    def sentence(self) -> str:
        """Says who, until when, and why."""
        if self.since.is_dated:
            end = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since.unix + self.ttl))
            until = f"until {end}"
        else:
            until = f"for {self.left:.0f} s more"
        return f"held by {self.owner} {until}" + (f" ({self.reason})" if self.reason else "")


class Holds:
    """The one hold of the device whose state folder is ``state``."""

    def __init__(self, state: Path, clock: Clock) -> None:
        self._document = Document(state / "hold.json")
        self._clock = clock
        self._hold = self._read()

    @property
    def current(self) -> Hold | None:
        """The hold, with what is left of it; None if nobody holds the device."""
        hold = self._hold
        if hold is None:
            return None
        left = hold.since.up + hold.ttl - self._clock.now().up
        if left <= 0:
            logger.info("hold of %s has ended", hold.owner, extra={"event": "hold"})
            self._forget()
            return None
        return dataclasses.replace(hold, left=left)

    def take(self, owner: str, reason: str, ttl: float, *, force: bool = False) -> Hold:
        """Holds the device; the owner of a hold may renew it.

        Raises:
            RequestError: the words make no sense, or somebody else holds it.
            StoreError: the disk failed, and the device is not held.
        """
        for what, text in (("owner", owner), ("reason", reason)):
            if len(text) > TEXT_LIMIT or not (text.isprintable() or text == ""):
                raise RequestError(
                    "INVALID_ARGUMENT",
                    f"cannot hold: expected a {what} of at most {TEXT_LIMIT} printable characters",
                )
        if not owner.strip():
            raise RequestError("INVALID_ARGUMENT", "cannot hold: say who holds, with --owner")
        if not 0 < ttl <= TTL_LIMIT:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"cannot hold for {ttl:g} s: expected more than 0 and at most {TTL_LIMIT:g}",
            )
        present = self.current
        if present is not None and present.owner != owner and not force:
            raise RequestError(
                "FAILED_PRECONDITION",
                f"cannot hold: the device is {present.sentence()}; wait, or use --force",
            )
        hold = Hold(owner, reason, ttl, self._clock.now(), ttl)
        self._write(hold)
        self._hold = hold
        logger.info("device is %s", hold.sentence(), extra={"event": "hold"})
        return hold

    def release(self) -> Hold | None:
        """Ends the hold; returns it, None if there was none.

        Raises:
            StoreError: the disk failed, and the device is still held.
        """
        hold = self.current
        if hold is not None:
            self._document.write()
            self._hold = None
            logger.info("device is released", extra={"event": "release"})
        return hold

    def check(self, what: str, *, force: bool) -> None:
        """Raises if the device is held, unless that is to be passed over.

        Raises:
            RequestError: FAILED_PRECONDITION, with the owner and the end.
        """
        hold = self.current
        if hold is None:
            return
        if force:
            logger.warning("%s although the device is %s", what, hold.sentence())
            return
        raise RequestError(
            "FAILED_PRECONDITION",
            f"cannot {what}: the device is {hold.sentence()}; wait, ask them for 'edged release', "
            "or use --force",
        )

    def _write(self, hold: Hold) -> None:
        since = dataclasses.asdict(hold.since)
        self._document.write(owner=hold.owner, reason=hold.reason, ttl=hold.ttl, since=since)

    def _forget(self) -> None:
        self._hold = None
        try:
            self._document.write()
        except StoreError as exc:
            # It is over all the same, and says so itself when it is read again.
            logger.warning("%s", exc)

    def _read(self) -> Hold | None:
        fields = self._document.read()
        if "owner" not in fields:
            return None
        try:
            then = fields["since"]
            since = Moment(float(then["unix"]), str(then["boot"]), float(then["up"]))
            ttl = min(float(fields["ttl"]), TTL_LIMIT)
            hold = Hold(str(fields["owner"]), str(fields["reason"]), ttl, since)
        except (KeyError, TypeError, ValueError) as exc:
            self._document.put_aside(repr(exc))
            return None
        return self._after_boot(hold)

    def _after_boot(self, hold: Hold) -> Hold:
        """Returns the hold by the clock of this boot."""
        now = self._clock.now()
        if now.boot == hold.since.boot and now.up >= hold.since.up:
            return hold
        passed = now.unix - hold.since.unix
        if not (hold.since.is_dated and now.is_dated and passed >= 0):
            passed = 0.0
        again = dataclasses.replace(
            hold, since=Moment(now.unix - passed, now.boot, now.up - passed)
        )
        try:
            self._write(again)
        except StoreError as exc:
            logger.warning("%s", exc)
        return again
