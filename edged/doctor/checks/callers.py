"""Whether those who should can call over the network, and nobody else."""

from __future__ import annotations

import stat

from edged import config as configuration
from edged.access import tokens
from edged.access.tokens import Pair, Token
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.world import World

SOON = 14 * 86400.0  # seconds


def network(world: World) -> Finding:
    """Beyond this host there is TLS, and somebody who has what it takes to call."""
    config = world.config
    host, _ = configuration.split_address(config.listen)
    if configuration.is_loopback(host):
        if config.auth.on_loopback:
            return ok(f"{config.listen} is for this host alone, and asks who calls")
        return ok(f"{config.listen} is for this host alone")
    if config.tls.client_cert == "required":
        return ok(f"{config.listen} speaks TLS, for callers with certificates")
    now = world.now()
    if not tokens.read(tokens.path(world.state_dir)).usable(now.unix):
        fix = "edged tokens create NAME --role predict"
        return error(f"nobody could call at {config.listen}: there is no token that counts", fix)
    return ok(f"{config.listen} speaks TLS, for callers with tokens")


def held(world: World) -> list[Finding]:
    """Tokens do not expire unseen, and their file is nobody else's."""
    path = tokens.path(world.state)
    if not path.exists():
        raise SkipError("there are no tokens")
    found = []
    if path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        found.append(error(f"others may read or write {path}", f"chmod 600 {path}"))
    pairs = tokens.read(path).pairs
    now = world.now().unix
    for pair in pairs.values():
        found += [
            finding
            for slot, token in pair.tokens.items()
            if (finding := _expiry(pair, slot, token, now)) is not None
        ]
    count = sum(len(pair.tokens) for pair in pairs.values())
    return found or [ok(f"{count} tokens of {len(pairs)} callers")]


def _expiry(pair: Pair, slot: str, token: Token, now: float) -> Finding | None:
    if token.expires_unix is None or token.expires_unix - now > SOON:
        return None
    fix = f"edged tokens rotate {pair.name}"
    whose = f"the {slot} token of {pair.name}"
    if token.has_expired(now):
        return warning(f"{whose} has expired", fix)
    return warning(f"{whose} expires in {(token.expires_unix - now) / 86400:.0f} days", fix)


GROUP = Group(
    "callers",
    (
        Check("network", network),
        Check("tokens", held),
    ),
)
