"""The secrets that the configuration knows, for ``redact``: values, and what is in its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edged import config as configuration
from edged.doctor import endpoints, redact
from edged.doctor.world import World
from edged.errors import ConfigError

LIMIT = 64 * 1024  # bytes of a file


def known(world: World) -> Iterator[str]:
    """Yields every secret that can be read; never fails, as that would let the others out."""
    try:
        examined = configuration.examine(world.flags, world.environ, world.config_file)
    except ConfigError:
        return
    for name, setting in examined.settings.items():
        if setting.key.secret and isinstance(setting.value, str):
            yield setting.value
        elif name.endswith("_file") and isinstance(setting.value, Path) and _is_secret(name):
            yield _content(setting.value)
    if examined.config is None:
        return
    for _, path in endpoints.secret_files(examined.config):
        yield _content(path)
    yield from endpoints.mqtt_secrets(examined.config)
    for table in examined.config.registries.values():
        password = str(table.get("password") or "")
        if not password and table.get("password_file"):
            password = _content(Path(table["password_file"])).partition("\n")[0].rstrip("\r")
        if table.get("username") and password:
            yield redact.basic(str(table["username"]), password)


def _is_secret(name: str) -> bool:
    words = ("password", "secret", "token", "connection_string", "key_file", "credential")
    return any(word in name for word in words)


def _content(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""
