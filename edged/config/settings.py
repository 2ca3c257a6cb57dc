"""The daemon's configuration: flag over ``EDGED_*`` variable over TOML file over default.

Invariants:
- A ``Config`` is complete and checked; nobody reads the environment or the file again.
- An unknown key in the file is an error that names the nearest valid one.
- Beyond loopback edged needs TLS and callers' tokens. It has neither yet, so it refuses.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edged.config import folders, mqtt
from edged.config.mqtt import Mqtt
from edged.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOG_LEVELS = ("debug", "info", "warning", "error")
RUNTIMES = ("process", "runc", "runc-root")
ISAS = ("portable", "avx2", "avxvnni", "avx512vnni", "neon")
WHOLE_NUMBERS = {  # from, to
    "threads": (1, 1024),
    "memory_limit": (64, 1 << 24),
    "process_limit": (16, 32768),
}
CPUS = (0.01, 1024)
VERIFY = ("required", "off")
REGISTRY_KEYS = ("username", "password", "password_file", "ca_file", "mirror", "plain_http")
WINDOW_LIMIT = 24 * 3600.0  # seconds
SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), without the terminating zero


@dataclass(frozen=True)
class Config:
    """Everything that can be set about ``edged run``; the TOML file has keys of the same names."""

    state_dir: Path
    run_dir: Path
    listen: str = "127.0.0.1:50051"
    runtime: str = "process"
    threads: int | None = None  # of the NPU's emulator; None: the library's choice
    isa: str | None = None  # None: the best of this machine
    log_level: str = "info"
    strict: bool = False  # TensorFlow Serving's errors also where a request can be understood
    memory_limit: int | None = None  # MiB for a model's process; None: half of the machine's
    cpu_limit: float | None = None  # CPUs for a model's process; None: all
    process_limit: int = 256  # processes and threads of a model's process
    verify: str = "required"  # signatures of images; off is said in status and at the start
    keys_dir: Path = Path("/etc/edged/keys")  # of trusted public keys, *.pub
    sku: str = "bw-cnn-a10"  # which NPU this device has
    window: float = 60.0  # seconds of good behaviour after a commit; 0 for none
    registries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # in the file alone
    mqtt: Mqtt | None = None  # the link to a controller; in the file and EDGED_MQTT_<KEY>

    @property
    def grpc_socket(self) -> Path:
        """Where applications reach the daemon without TCP."""
        return self.run_dir / "grpc.sock"

    @property
    def control_socket(self) -> Path:
        """Where operators reach the daemon."""
        return self.run_dir / "control.sock"


TABLES = ("registries", "mqtt")  # of the file, with keys of their own
KEYS = tuple(each.name for each in fields(Config) if each.name not in TABLES)


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ, file: Path | None = None
) -> Config:
    """Returns the configuration from all its sources.

    Args:
        flags: by key; None where a flag was not given.
        environ: read for ``EDGED_<KEY>``; empty values count as absent.
        file: must exist if given; else ``EDGED_CONFIG``, else the default one if there is one.

    Raises:
        ConfigError: names the source and the key at fault, what is valid and what came.
    """
    default = folders.default(environ)
    values: dict[str, Any] = {
        "state_dir": default.state,
        "run_dir": default.run,
        "keys_dir": default.config / "keys",
    }
    path = _choose_file(file, environ, default.config / "edged.toml")
    values.update(_read_file(path))
    values["mqtt"] = mqtt.load(values.get("mqtt"), path, environ)
    for key in KEYS:
        if environ.get(variable(key)):
            values[key] = _typed(key, environ[variable(key)], variable(key))
    for key, value in flags.items():
        if value is not None:
            values[key] = _typed(key, value, "--" + key.replace("_", "-"))
    config = Config(**values)
    _check(config)
    return config


def variable(key: str) -> str:
    """Returns the name of the environment variable for a key."""
    return f"EDGED_{key.upper()}"


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Returns a sentence for each ``EDGED_*`` variable that looks like a key and is none.

    They are no errors: others may set such variables, as Kubernetes does for a service of our name.
    """
    known = [variable(key) for key in (*KEYS, "config")]
    known += [mqtt.variable(key) for key in mqtt.KEYS]
    return [
        f"{name} is not used; did you mean {near[0]}?"
        for name in environ
        if name.startswith("EDGED_") and name not in known
        if (near := difflib.get_close_matches(name, known, n=1, cutoff=0.85))
    ]


def default_run_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns where callers on this host look for the daemon's sockets if they are not told."""
    return Path(environ.get(variable("run_dir")) or folders.default(environ).run)


def _choose_file(given: Path | None, environ: Mapping[str, str], default: Path) -> Path | None:
    if given is not None:
        return given
    if environ.get("EDGED_CONFIG"):
        return Path(environ["EDGED_CONFIG"])
    return default if default.exists() else None


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:  # not TOML, or not UTF-8
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    for key in document:
        _known(key, (*KEYS, *TABLES), str(path))
    values = {
        key: _typed(key, value, f"{path}: {key}")
        for key, value in document.items()
        if key not in TABLES
    }
    return {
        **values,
        "registries": _registries(document.get("registries", {}), path),
        "mqtt": document.get("mqtt"),  # not looked at yet
    }


def _known(key: str, known: Sequence[str], source: str) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        raise ConfigError(f"cannot use {source}: unknown key {key!r}; the nearest is {near!r}")


def _registries(tables: Any, path: Path) -> dict[str, dict[str, Any]]:
    """Returns the tables ``[registries."HOST"]``, their types checked."""
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise ConfigError(f'cannot use {path}: expected tables [registries."HOST"]')
    checked: dict[str, dict[str, Any]] = {}
    for host, table in tables.items():
        source = f'{path}: [registries."{host}"]'
        for key, value in table.items():
            _known(key, REGISTRY_KEYS, source)
            wanted = bool if key == "plain_http" else str
            if not isinstance(value, wanted):
                raise ConfigError(
                    f"cannot use {source}: {key}: expected "
                    f"{'true or false' if wanted is bool else 'a text'}, got {value!r}"
                )
        checked[host] = {
            # Beside the file that names them, wherever edged is started.
            key: path.absolute().parent / value if key.endswith("_file") else value
            for key, value in table.items()
        }
    return checked


def _typed(key: str, value: Any, source: str) -> Any:
    """Returns the value in its field's type; strings come from flags and the environment."""
    if key in WHOLE_NUMBERS:
        return _whole_number(value, source, *WHOLE_NUMBERS[key])
    if key == "cpu_limit":
        return _cpus(value, source)
    if key == "window":
        return _seconds(value, source)
    if key == "strict":
        value = (
            {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
        )
        if not isinstance(value, bool):
            raise ConfigError(f"cannot use {source}: expected true or false, got {value!r}")
        return value
    if not isinstance(value, str | Path) or str(value) == "":
        raise ConfigError(f"cannot use {source}: expected a text, got {value!r}")
    return Path(value).expanduser().absolute() if key.endswith("_dir") else str(value)


def _whole_number(value: Any, source: str, least: int, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(
            f"cannot use {source}: expected a number from {least} to {most}, got {value!r}"
        )
    return value


def _cpus(value: Any, source: str) -> float:
    try:
        cpus = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        cpus = math.nan
    if not CPUS[0] <= cpus <= CPUS[1]:
        raise ConfigError(
            f"cannot use {source}: expected a number from {CPUS[0]} to {CPUS[1]}, got {value!r}"
        )
    return cpus


def _seconds(value: Any, source: str) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, bool) or not 0 <= seconds <= WINDOW_LIMIT:
        raise ConfigError(
            f"cannot use {source}: expected seconds from 0 to {WINDOW_LIMIT:g}, got {value!r}"
        )
    return seconds


def _check(config: Config) -> None:
    _choice("runtime", config.runtime, RUNTIMES)
    _choice("log_level", config.log_level, LOG_LEVELS)
    _choice("verify", config.verify, VERIFY)
    if config.isa is not None:
        _choice("isa", config.isa, ISAS)
    for path in (config.grpc_socket, config.control_socket):
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            raise ConfigError(
                f"cannot use run_dir {config.run_dir}: a socket's path has at most "
                f"{SOCKET_PATH_LIMIT} bytes, {path} is longer; choose a shorter folder"
            )
    split_address(config.listen)


def _choice(key: str, value: str, valid: tuple[str, ...]) -> None:
    if value in valid:
        return
    raise ConfigError(f"cannot use {key} {value!r}: expected one of {', '.join(valid)}")


def split_address(listen: str) -> tuple[str, int]:
    """Returns host and port of a loopback address such as ``127.0.0.1:50051`` or ``[::1]:0``.

    Raises:
        ConfigError: not an address, or one that other machines can reach.
    """
    host, colon, port = listen.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"cannot listen on {listen!r}: expected HOST:PORT")
    if not _is_loopback(host):
        raise ConfigError(
            f"cannot listen on {listen!r}: other machines could reach it, which needs TLS and "
            "callers' tokens, and this version has neither; use 127.0.0.1"
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
