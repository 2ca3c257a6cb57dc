"""When a call that failed is tried again.

Invariants:
- Only what was refused or never arrived: UNAVAILABLE, and RESOURCE_EXHAUSTED if the server says
  when to come back. Never DEADLINE_EXCEEDED or INTERNAL: the request may be why.
- A server's word counts: ``grpc-retry-pushback-ms``, or ``google.rpc.RetryInfo`` in the status'
  details; one that is negative or makes no sense means not to come back.
- The number of tries is bounded. Pauses are random from nothing up to a bound that doubles, so
  that clients who failed together do not come back together.

The module neither sleeps nor knows deadlines.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from edged.messages import RetryInfo, RpcStatus

PUSHBACK = "grpc-retry-pushback-ms"
DETAILS = "grpc-status-details-bin"
PUSHBACK_LIMIT = 60.0  # seconds; a server that wants more is not worth waiting for


@dataclass(frozen=True)
class Retry:
    """How often a call is tried, and how long the pauses may be.

    Attributes:
        attempts: at most, the first one included; 1 for never again.
        first: seconds that the first pause may take.
        longest: seconds that any pause may take, beside what the server asks for.
    """

    attempts: int = 5
    first: float = 0.1
    longest: float = 2.0

    def pause(
        self,
        code: str,
        said: Mapping[str, str | bytes],
        attempt: int,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> float | None:
        """Returns the seconds to wait before the next try; None if there is to be none.

        Args:
            code: name of the status that the call ended with.
            said: its trailing metadata.
            attempt: how many tries there were.
            uniform: gives a random number between two.
        """
        if attempt >= self.attempts or code not in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
            return None
        asked = _asked(said)
        if asked is None and code != "UNAVAILABLE":
            return None  # what does not fit now never will
        if asked is not None and not 0.0 <= asked <= PUSHBACK_LIMIT:
            return None
        bound = min(self.longest, self.first * 2.0 ** min(attempt - 1, 30))
        return (asked or 0.0) + uniform(0.0, bound)


def _asked(said: Mapping[str, str | bytes]) -> float | None:
    """Returns the seconds a server asks for, negative for no other try; None if it is silent."""
    pushback = said.get(PUSHBACK)
    if pushback is not None:
        text = pushback.decode("latin-1") if isinstance(pushback, bytes) else pushback
        return int(text) / 1e3 if text.isascii() and text.isdigit() and len(text) < 10 else -1.0
    details = said.get(DETAILS)
    return _retry_info(details) if isinstance(details, bytes) else None


def _retry_info(details: bytes) -> float | None:
    try:
        for detail in RpcStatus.FromString(details).details:
            info = RetryInfo()
            if detail.Unpack(info):
                return info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    except DecodeError:
        pass  # details are for those who understand them
    return None
