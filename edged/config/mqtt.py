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
    "sas_ttl": (10, 30 * 86400),
    "telemetry_interval": (0, 86400),
    "results_rate": (0.001, 100),
    "report_ttl": (10, 86400),
    "outbox_limit": (4, 16384),
    "retry_limit": (1, 3600),
}
_BOOLEANS = ("tls", "results")
_WHOLE = tuple(set(_NUMBERS) - {"telemetry_interval", "results_rate", "retry_limit"})


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
        outbox_limit: MiB on the disk at most, of messages that wait for the link.
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


def variable(key: str) -> str:
    """Returns the name of the environment variable for a key."""
    return f"EDGED_MQTT_{key.upper()}"


def load(table: object, path: Path | None, environ: Mapping[str, str]) -> Mqtt | None:
    """Returns what the table ``[mqtt]`` and the environment say; None if neither says anything.

    Args:
        table: as TOML has it; None if there is none.
        path: of the file with it; other files are looked for beside it.
        environ: read for ``EDGED_MQTT_<KEY>``, which goes over the table; empty values count as
            absent. Other files are looked for in the current folder.

    Raises:
        ConfigError: names the key or the variable at fault, what is valid and what came.
    """
    source = f"{path}: [mqtt]" if table is not None else "EDGED_MQTT_*"
    if table is not None and not isinstance(table, Mapping):
        raise ConfigError(f"cannot use {path}: expected a table [mqtt]")
    values: dict[str, Any] = {}
    for key, value in (table or {}).items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)[0]
            raise ConfigError(f"cannot use {source}: unknown key {key!r}; the nearest is {near!r}")
        folder = (path or Path()).absolute().parent
        values[key] = _typed(key, value, f"{source}: {key}", folder)
    for key in KEYS:
        if text := environ.get(variable(key)):
            values[key] = _typed(key, _read(key, text), variable(key), Path().absolute())
            _make_way(key, values)
    if not values and table is None:
        return None
    if values.get("dialect") not in DIALECTS:
        expected = " or ".join(DIALECTS)
        raise ConfigError(
            f"cannot use {source}: dialect: expected {expected}, got {values.get('dialect')!r}"
        )
    found = Mqtt(**values)
    _check(found, source)
    return found


def _make_way(key: str, values: dict[str, Any]) -> None:
    """A secret from the environment takes the place of the table's, by whichever of its keys."""
    name = key.removesuffix("_file")
    if name in SECRETS:
        values.pop(name if key.endswith("_file") else f"{name}_file", None)


def _read(key: str, text: str) -> Any:
    """Returns what a text means for a key; as it is if it means nothing."""
    if key in _BOOLEANS:
        return {"true": True, "false": False}.get(text, text)
    if key in _NUMBERS:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _typed(key: str, value: Any, source: str, folder: Path) -> Any:
    """Returns the value in its field's type."""
    if key in _NUMBERS:
        least, most = _NUMBERS[key]
        kind = int if key in _WHOLE else int | float
        right = isinstance(value, kind) and not isinstance(value, bool)
        if not right or not least <= value <= most:
            what = "whole number" if key in _WHOLE else "number"
            raise ConfigError(
                f"cannot use {source}: expected a {what} from {least:g} to {most:g}, got {value!r}"
            )
        return value
    if key in _BOOLEANS:
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
        "id_scope and registration": bool(found.id_scope or found.registration),
        "host and device": bool(found.host or found.device),
    }
    given = [way for way, is_given in ways.items() if is_given]
    if len(given) != 1:
        came = f"both {' and '.join(given)}" if given else "none"
        raise ConfigError(
            f"cannot use {source}: expected to be told who the device is by one of "
            f"{'; '.join(ways)}; got {came}"
        )
    for key in given[0].split(" and "):
        if not (getattr(found, key) or getattr(found, f"{key}_file", None)):
            raise ConfigError(f"cannot use {source}: {key} is missing; {given[0]} go together")
    if given[0] != "connection_string":
        _check_proof(found, source)


def _check_proof(found: Mqtt, source: str) -> None:
    """Checks that there is something to prove who we are."""
    proofs = {
        "shared_key": bool(found.shared_key or found.shared_key_file),
        "group_key": bool(found.group_key or found.group_key_file),
        "cert_file": found.cert_file is not None,
    }
    if proofs["group_key"] and not found.id_scope:
        raise ConfigError(f"cannot use {source}: group_key is for provisioning; it needs id_scope")
    if sum(proofs.values()) != 1:
        raise ConfigError(
            f"cannot use {source}: expected one of {', '.join(proofs)} (keys also as *_file), got "
            f"{' and '.join(name for name, is_given in proofs.items() if is_given) or 'none'}"
        )
