"""Wrong credentials: each costs its sender time, and the log only so many lines.

Invariants:
- Right credentials are never slowed or refused, wherever they come from: there is nothing to guess
  in a token (``tokens``), and who shares an address with an attacker must go on working.
- Memory is bounded: ``PEERS`` addresses are remembered, the one that failed longest ago is
  forgotten; ``HELD`` answers at most are held back at a time, further ones are given at once.
"""

from __future__ import annotations

import ipaddress
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5  # failures of a peer that are answered at once: somebody who mistypes is told so
REFILL = 60.0  # seconds after which one of them is forgiven
DELAY = 1.0  # seconds that the answer to the next one is held back
DOUBLES = 16  # failures after which that is twice as long
DELAY_LIMIT = 10.0
WORST = 64  # failures beyond those free that are remembered
HELD = 4096
PEERS = 1024
LOG_EVERY = 60.0  # seconds between two records about a peer


@dataclass
class _Peer:
    failures: float
    last: float
    unlogged: int = 0
    logged: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What to do about a failure.

    Attributes:
        delay: seconds to hold the answer back.
        log: how many failures to log now, this one included; 0 for none.
    """

    delay: float
    log: int


class Attempts:
    """The failures of late.

    Args:
        clock: seconds that never go back.

    Attributes:
        total: failures since the start.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._peers: dict[str, _Peer] = {}  # the one that failed last is last
        self._held = 0
        self.total = 0

    def failed(self, address: str) -> Verdict:
        """Notes a failure from an address, as ``address_of`` gives it."""
        now = self._clock()
        self.total += 1
        peer = self._peers.pop(address, None) or _Peer(0.0, now)
        peer.failures = max(0.0, peer.failures - (now - peer.last) / REFILL) + 1
        peer.failures = min(peer.failures, float(FREE + WORST))
        peer.last = now
        peer.unlogged += 1
        self._peers[address] = peer
        if len(self._peers) > PEERS:
            del self._peers[next(iter(self._peers))]
        return Verdict(self._delay(peer), self._log(peer, now))

    def _delay(self, peer: _Peer) -> float:
        beyond = peer.failures - FREE
        if beyond <= 0 or self._held >= HELD:
            return 0.0
        # Not all at once: they came together.
        spread = random.uniform(0.75, 1.25)  # noqa: S311 - nothing is to be guessed
        return spread * min(DELAY_LIMIT, DELAY * math.pow(2.0, (beyond - 1) / DOUBLES))

    def _log(self, peer: _Peer, now: float) -> int:
        if peer.logged is not None and now - peer.logged < LOG_EVERY:
            return 0
        count, peer.unlogged, peer.logged = peer.unlogged, 0, now
        return count

    def hold(self) -> None:
        """Notes that an answer is held back."""
        self._held += 1

    def release(self) -> None:
        """Notes that it is not any more."""
        self._held -= 1


def address_of(peer: str) -> str:
    """Returns whom failures count for: an IPv4 address, or the /64 of an IPv6 one.

    Args:
        peer: as gRPC writes it, ``ipv4:HOST:PORT`` or ``ipv6:[HOST]:PORT``, its signs escaped or
            not.
    """
    text = peer.replace("%5B", "[").replace("%5D", "]")
    host = text.partition(":")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return text.partition(":")[0]
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is not None:
            return str(mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
