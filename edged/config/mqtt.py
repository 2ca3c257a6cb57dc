"""The table ``[mqtt]`` of the configuration: which controller the device belongs to, and how.

Invariants:
- A ``Mqtt`` is complete and makes sense: who we are is said in one way, and in the right one.
- Secrets are read when they are needed, so that they can be changed without a restart.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edged.errors import ConfigError

DIALECTS = ("plain", "iothub")
SECRET_LIMIT = 16 * 1024  # bytes of a secret's line
SECRETS = ("password", "connection_string", "shared_key", "group_key")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NUMBERS: dict[str, tuple[float, float]] = {  # from, to
    "port": (1, 65535),
    "provisioning_port": (1, 65535),
    "keepalive": (5, 1177),
    "sas_ttl": (60, 30 * 86400),
    "telemetry_interval": (0, 86400),
    "results_rate": (0.001, 100),
    "report_ttl": (10, 86400),
    "outbox_limit": (1, 16384),
    "retry_limit": (1, 3600),
}


@dataclass(frozen=True)
class Mqtt:
    """The link to a controller.

    Attributes:
        dialect: plain or iothub.
        host: of the broker.
        port: of it; None for the dialect's own.
        tls: whether the connection is made with TLS; only plain may do without.
        ca_file: authorities (PEM) that may vouch for the broker, besides the system's.
        cert_file, key_file: our own certificate and its key.
        username, password: at a plain broker.
        device, module: who we are there.
        connection_string: of a device or module at a hub.
        shared_key: the device's symmetric key, in Base64.
        id_scope, registration, group_key: for provisioning.
        provisioning_host, provisioning_port: of the provisioning service.
        keepalive: seconds without a word after which the broker is asked whether it is there.
        sas_ttl: seconds that a signature for the hub is good for.
        telemetry_interval: seconds between two messages with counts; 0 for none.
        results: whether results of inference are sent.
        results_rate: how many of them a second at most.
        report_ttl: seconds that a report is good for.
        outbox_limit: MiB of messages that wait for the link at most.
        retry_limit: seconds between two attempts to connect at most.
    """

    dialect: str
    host: str = ""
    port: int | None = None
    tls: bool = True
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    device: str = ""
    module: str = ""
    connection_string: str = field(default="", repr=False)
    connection_string_file: Path | None = None
    shared_key: str = field(default="", repr=False)
    shared_key_file: Path | None = None
    id_scope: str = ""
    registration: str = ""
    group_key: str = field(default="", repr=False)
    group_key_file: Path | None = None
    provisioning_host: str = "global.azure-devices-provisioning.net"
    provisioning_port: int = 8883
    keepalive: int = 60
    sas_ttl: int = 3600
    telemetry_interval: float = 60.0
    results: bool = False
    results_rate: float = 1.0
    report_ttl: int = 300
    outbox_limit: int = 64
    retry_limit: float = 300.0

    def secret(self, name: str) -> str:
        """Returns one of ``SECRETS``, from the file or the table; empty if it is not given.

        Raises:
            ConfigError: its file cannot be read.
        """
        given: str = getattr(self, name)
        path: Path | None = getattr(self, f"{name}_file")
        if path is None:
            return given
        try:
            with path.open("rb") as file:
                return file.readline(SECRET_LIMIT).rstrip(b"\r\n").decode()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read {name} {path}: {exc}") from exc


KEYS = tuple(each.name for each in fields(Mqtt))


def from_table(table: object, path: Path) -> Mqtt | None:
    """Returns the table ``[mqtt]`` of a configuration file, checked; None if there is none.

    Args:
        table: as TOML has it.
        path: of the file; other files are looked for beside it.

    Raises:
        ConfigError: names the key at fault, what is valid and what came.
    """
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise ConfigError(f"cannot use {path}: expected a table [mqtt]")
    source = f"{path}: [mqtt]"
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)[0]
            raise ConfigError(f"cannot use {source}: unknown key {key!r}; the nearest is {near!r}")
        values[key] = _typed(key, value, f"{source}: {key}", path.absolute().parent)
    if values.get("dialect") not in DIALECTS:
        expected = " or ".join(DIALECTS)
        raise ConfigError(
            f"cannot use {source}: dialect: expected {expected}, got {values.get('dialect')!r}"
        )
    found = Mqtt(**values)
    _check(found, source)
    return found


def _typed(key: str, value: Any, source: str, folder: Path) -> Any:
    """Returns the value in its field's type."""
    if key in _NUMBERS:
        least, most = _NUMBERS[key]
        whole = key not in ("telemetry_interval", "results_rate", "retry_limit")
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not right or not least <= value <= most:
            raise ConfigError(
                f"cannot use {source}: expected a number from {least:g} to {most:g}, got {value!r}"
            )
        return value
    if key in ("tls", "results"):
        if not isinstance(value, bool):
            raise ConfigError(f"cannot use {source}: expected true or false, got {value!r}")
        return value
    if not isinstance(value, str) or not value:
        shown = "something else" if key in SECRETS else repr(value)
        raise ConfigError(f"cannot use {source}: expected a text, got {shown}")
    return folder / Path(value).expanduser() if key.endswith("_file") else value


def _check(found: Mqtt, source: str) -> None:
    for name in SECRETS:
        if getattr(found, name) and getattr(found, f"{name}_file"):
            raise ConfigError(f"cannot use {source}: {name} and {name}_file; leave one out")
    if found.key_file is not None and found.cert_file is None:
        raise ConfigError(f"cannot use {source}: key_file without cert_file; name both")
    if found.dialect == "plain":
        _check_plain(found, source)
    else:
        _check_iothub(found, source)


def _check_plain(found: Mqtt, source: str) -> None:
    if not found.host:
        raise ConfigError(f"cannot use {source}: host: name the broker")
    if not _NAME.fullmatch(found.device):
        raise ConfigError(
            f"cannot use {source}: device: expected 1 to 128 letters, digits and . _ - that begin "
            f"with a letter or a digit, got {found.device!r}"
        )
    if found.ca_file is not None and not found.tls:
        raise ConfigError(f"cannot use {source}: ca_file needs tls = true")


def _check_iothub(found: Mqtt, source: str) -> None:
    if not found.tls:
        raise ConfigError(f"cannot use {source}: tls: a hub is never spoken to without TLS")
    ways = {
        "connection_string": bool(found.connection_string or found.connection_string_file),
        "host and device": bool(found.host),
        "id_scope and registration": bool(found.id_scope),
    }
    given = [way for way, is_given in ways.items() if is_given and way != "host and device"]
    if len(given) != 1 and not (not given and found.host and found.device):
        raise ConfigError(f"cannot use {source}: say who the device is by one of {', '.join(ways)}")
    if found.id_scope and not found.registration:
        raise ConfigError(f"cannot use {source}: id_scope without registration; name both")
