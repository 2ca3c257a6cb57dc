"""Whether edged can be told what to do: its file, the secrets in it, its folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edged import config as configuration
from edged.doctor import endpoints
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.world import World
from edged.errors import ConfigError

CREDENTIALS = Path("/run/credentials")  # of services, while they run (systemd.exec(5))
VOLATILE = ("tmpfs", "ramfs", "squashfs")
_OTHERS_WRITE, _OTHERS = stat.S_IWOTH, stat.S_IRWXO


def settings(world: World) -> list[Finding]:
    """All sources together make a configuration."""
    try:
        world.load()
        file = world.config_file
        found = [ok(f"{file} is read" if file else "no file, so the defaults count")]
    except ConfigError as exc:
        found = [error(str(exc), "'edged check-config' shows all that is wrong, line by line")]
    found += [
        warning(sentence, "correct the variable's name, or unset it")
        for sentence in configuration.unknown_variables(world.environ)
    ]
    return found


def secrets(world: World) -> list[Finding]:
    """Who else could read what nobody else should."""
    found = [_unread(what, path) for what, path in endpoints.secret_files(world.config)]
    file = world.config_file
    if file is not None:
        found.append(_config_rights(world, file))
    bad = [each for each in found if each is not None]
    if bad:
        return bad
    if not found:
        raise SkipError("no file, and no secrets")
    return [ok("secrets can be read by those who should alone")]


def _unread(what: str, path: Path) -> Finding | None:
    try:
        mode = path.stat().st_mode
        readable = os.access(path, os.R_OK)
    except OSError as exc:
        # So well kept that we cannot even look; or systemd took it away with the service.
        if isinstance(exc, PermissionError) or CREDENTIALS in path.parents:
            return None
        return error(f"the {what} cannot be read: {path}: {exc.strerror}", "put the file there")
    if not stat.S_ISREG(mode):
        return error(f"the {what}, {path}, is no regular file", "put a file there")
    if mode & _OTHERS:
        return warning(f"everybody may read the {what}, {path}", f"chmod o= {path}")
    if readable and not path.stat().st_size:
        return error(f"the {what}, {path}, is empty", "put the secret in it")
    return None


def _config_rights(world: World, file: Path) -> Finding | None:
    mode = file.stat().st_mode
    if mode & _OTHERS_WRITE:
        return error(f"everybody may write {file}, and so change edged", f"chmod o-w {file}")
    shown = configuration.examine(world.flags, world.environ, file).settings.values()
    if mode & _OTHERS and any(each.key.secret and each.value and each.line for each in shown):
        return warning(f"everybody may read {file}, and secrets are in it", f"chmod o= {file}")
    return None


def folders(world: World) -> list[Finding]:
    """The state folder and the run folder are there, and nobody else writes to them."""
    config = world.config
    return [
        _folder("state", config.state_dir, world),
        _folder("run", config.run_dir, world),
    ]


def _folder(what: str, path: Path, world: World) -> Finding:
    if not path.exists():
        parent = next(p for p in path.parents if p.exists())
        if world.euid() == 0 or os.access(parent, os.W_OK):
            return ok(f"the {what} folder {path} is made at the first start")
        fix = f"make it, owned by edged's user; or choose another {what}_dir"
        return warning(f"the {what} folder {path} is not there and you may not make it", fix)
    if not path.is_dir():
        return error(f"the {what} folder {path} is no folder", "move away what is there")
    status = path.stat()
    if status.st_mode & _OTHERS_WRITE:
        return error(f"everybody may write to the {what} folder {path}", f"chmod o-w {path}")
    if world.euid() not in (0, status.st_uid):
        fix = "run edged doctor as edged's user, or as root, to see all"
        return warning(f"the {what} folder {path} belongs to user {status.st_uid}, not you", fix)
    return ok(f"the {what} folder is {path}")


def persistence(world: World) -> Finding:
    """What edged keeps outlasts a restart of the device."""
    folder = world.config.state_dir
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    mount = world.mount(existing)
    if mount is None:
        raise SkipError("the host does not say which file system that is")
    if mount.read_only:
        fix = "look into the kernel's log for what is wrong with the disk; mount it rw"
        return error(f"{folder} is on {mount.at}, which is mounted read-only", fix)
    if mount.kind in VOLATILE:
        fix = "choose a state_dir on a disk"
        return warning(f"{folder} is on {mount.kind}, and gone after a restart of the device", fix)
    return ok(f"{folder} is on {mount.kind} at {mount.at}")


GROUP = Group(
    "configuration",
    (
        Check("settings", settings),
        Check("secrets", secrets),
        Check("folders", folders),
        Check("persistence", persistence),
    ),
)
