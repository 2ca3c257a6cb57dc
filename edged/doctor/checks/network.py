"""Whether those whom the configuration names can be reached: only they are asked, nobody else."""

from __future__ import annotations

from edged.doctor import endpoints, login
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.endpoints import Endpoint
from edged.doctor.skip import SkipError
from edged.doctor.world import World

LIMIT = 60.0  # seconds for all registries; each step has its own


def registries(world: World) -> list[Finding]:
    """Every registry and mirror answers as one, and knows us."""
    found = []
    for host, known in endpoints.registries(world.config):
        missed = _missed(world, endpoints.of_registry(host, known))
        found.append(missed or login.registry(host, known))
    if not found:
        raise SkipError("no registries are configured")
    return found


def broker(world: World) -> Finding:
    """The broker, or the hub, can be reached."""
    there = endpoints.broker(world.config)
    if there is None:
        raise SkipError("no broker is configured")
    return _missed(world, there) or ok(f"{there.what} {there.host}:{there.port} answers")


def link(world: World) -> Finding:
    """The daemon's link to its broker is up."""
    if endpoints.broker(world.config) is None:
        raise SkipError("no broker is configured")
    status = world.status
    found = getattr(status, "link", None)
    if found is None or not status.HasField("link"):
        raise SkipError("edged says nothing of a link")
    if not found.up:
        return error(f"edged is not connected: {found.reason}", found.fix or "see edged's log")
    if found.outbox_fault:
        return warning(f"edged is connected; {found.outbox_fault}", "see the store's checks")
    if found.clock_doubt:
        return warning(f"edged is connected; {found.clock_doubt}", "see the clock's checks")
    if found.dropped:
        fix = "give outbox_limit more room, or send less"
        return warning(f"edged is connected; {found.dropped} messages were lost", fix)
    return ok("edged is connected")


def _missed(world: World, there: Endpoint) -> Finding | None:
    """Says where the way to it ends; None if it does not."""
    reached = world.reach(there.host, there.port, there.tls)
    if reached.step == "ok":
        if there.tls is None and not endpoints.is_here(there.host):
            fix = "use TLS: what is sent can be read and changed on the way"
            return warning(f"{there.what}: {reached.reason}, without TLS", fix)
        return None
    return error(f"{there.what}: {reached.reason} ({reached.step})", reached.fix)


GROUP = Group(
    "network",
    (
        Check("registries", registries, LIMIT),
        Check("broker", broker, 20.0),
        Check("link", link),
    ),
)
