"""Whether the daemon runs, is watched, and answers where callers look for it."""

from __future__ import annotations

import stat

from edged import config as configuration
from edged.config import version
from edged.doctor import endpoints
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.unit import UNIT
from edged.doctor.world import World
from edged.errors import RequestError


def daemon(world: World) -> Finding:
    """The daemon answers, and serves."""
    try:
        status = world.ask_status()
    except RequestError as exc:
        fix = "start it ('systemctl start edged'); give --run-dir if it uses another one"
        return warning(f"edged does not answer: {exc}", fix)
    said = f"process {status.pid} is {status.state}"
    if status.state == "serving":
        return ok(said)
    if not status.HasField("model"):
        return warning(f"{said}: no model is deployed", "edged deploy REF")
    fix = "wait if it starts; else see 'edged status' and 'edged logs'"
    return error(f"{said}: {status.reason or 'no reason given'}", fix)


def same_version(world: World) -> Finding:
    """What runs is what is installed."""
    running, installed = world.status.version, version.VERSION
    if running == installed:
        return ok(f"edged {installed}")
    fix = "restart edged, so that what is installed runs"
    return warning(f"edged {running} runs, and {installed} is installed", fix)


def ports(world: World) -> list[Finding]:
    """Every address the daemon listens on answers; with no daemon, nobody else is there."""
    if world.running:
        return [_answer(world, address) for address in world.status.listen]
    host, port = configuration.split_address(world.config.listen)
    if port == 0 or world.can_bind(host, port):
        return [ok(f"{world.config.listen} is free for edged")]
    fix = "'ss -ltnp' shows who it is; stop it, or choose another listen"
    return [error(f"somebody else listens on {world.config.listen}, and edged cannot start", fix)]


def _answer(world: World, address: str) -> Finding:
    fix = "see edged's log; restart it if nothing there helps"
    tls = world.config.tls.cert_file is not None
    if tls and not address.startswith("unix:"):
        world.peer_certificate(*endpoints.split(address, 0))  # it can shake hands
        return ok(f"{address} answers (TLS)")
    try:
        said = world.health(address)
    except RequestError as exc:
        if exc.code == "UNAUTHENTICATED":
            return ok(f"{address} answers, and asks who calls")
        return error(f"{address} does not answer as it should: {exc}", fix)
    if said == "SERVING" or world.status.state != "serving":
        return ok(f"{address} answers {said}")
    return error(f"{address} answers {said}, though edged serves", fix)


def sockets(world: World) -> Finding:
    """The Unix sockets are there, and the operators' one is not everybody's."""
    if not world.running:
        raise SkipError("edged does not run, or does not answer")
    config = world.config
    for path in (config.grpc_socket, config.control_socket):
        if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
            fix = "restart edged; nobody else may remove files from its run folder"
            return error(f"{path} is not there, though edged runs", fix)
    mode = stat.S_IMODE(config.control_socket.stat().st_mode)
    if mode & stat.S_IRWXO:
        fix = "set [sockets] control_mode without rights for others"
        return error(f"everybody on this host is an operator: {config.control_socket}", fix)
    return ok(f"{config.grpc_socket} and {config.control_socket} ({mode:04o})")


def unit(world: World) -> list[Finding]:
    """The unit brings edged back after a fault and after a restart of the device."""
    found = world.unit()
    bad = []
    if found.get("UnitFileState") not in (
        "enabled",
        "enabled-runtime",
        "static",
        "linked",
        "alias",
    ):
        said = f"{UNIT} is {found.get('UnitFileState') or 'in no known state'}"
        fix = "systemctl enable edged"
        bad.append(warning(f"{said}, so edged is not there after a restart of the device", fix))
    if found.get("Restart") in ("no", "", None):
        bad.append(warning(f"{UNIT} does not start edged again", "set Restart=on-failure in it"))
    if found.get("ActiveState") == "inactive":
        bad.append(error(f"{UNIT} is not started", "systemctl start edged"))
    if found.get("ActiveState") == "failed":
        fix = f"'journalctl -u {UNIT}' says why; then 'systemctl reset-failed {UNIT}'"
        bad.append(error(f"{UNIT} has failed: {found.get('Result')}", fix))
    if found.get("NeedDaemonReload") == "yes":
        bad.append(warning(f"{UNIT} was changed on the disk", "systemctl daemon-reload"))
    return bad or [ok(f"{UNIT} is {found.get('ActiveState')}, {found.get('UnitFileState')}")]


def watchdog(world: World) -> Finding:
    """Systemd starts an edged that hangs again."""
    found = world.unit()
    if not (found.get("Type") or "").startswith("notify"):
        fix = "set Type=notify in it, as the shipped one has"
        return warning(f"{UNIT} is of type {found.get('Type')}, which hears nothing of edged", fix)
    if found.get("WatchdogUSec") in ("0", "infinity", "", None):
        fix = "set WatchdogSec=10 in it, as the shipped one has"
        return warning(f"{UNIT} has no watchdog: an edged that hangs stays so", fix)
    again = found.get("NRestarts") or "0"
    said = f"every {found['WatchdogUSec']}, {again} restarts since it was started"
    if again.isdigit() and int(again) > 2:
        return warning(said, f"'journalctl -u {UNIT}' says why")
    return ok(said)


GROUP = Group(
    "service",
    (
        Check("daemon", daemon),
        Check("version", same_version),
        Check("ports", ports, 30.0),
        Check("sockets", sockets),
        Check("unit", unit),
        Check("watchdog", watchdog),
    ),
)
