"""The daemon's configuration: flag over ``EDGED_*`` variable over TOML file over default.

Invariants:
- A ``Config`` is complete and checked; nobody reads the environment or the file again.
- An unknown key in the file is an error that names the nearest valid one.
- Beyond loopback edged needs TLS, and callers show a token or a certificate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from edged.config import folders, keys, kinds
from edged.config.keys import entries, setting, table
from edged.config.mqtt import Mqtt
from edged.config.tables import Auth, Limits, Registry, Sockets, Tls

LOG_LEVELS = ("debug", "info", "warning", "error")
RUNTIMES = ("process", "runc", "runc-root")
ISAS = ("portable", "avx2", "avxvnni", "avx512vnni", "neon")
VERIFY = ("required", "off")
WINDOW_LIMIT = 24 * 3600.0  # seconds


@dataclass(frozen=True)
class Config:
    """Everything that can be set about ``edged run``; the TOML file has keys of the same names."""

    state_dir: Path = setting(
        kinds.FOLDER,
        MISSING,
        "Where models and records are kept.",
        shown='"/var/lib/edged"; for a user "~/.local/state/edged"',
    )
    run_dir: Path = setting(
        kinds.FOLDER,
        MISSING,
        "Where sockets and the lock of the NPU are.",
        shown='"/run/edged"; for a user "$XDG_RUNTIME_DIR/edged"',
    )
    listen: str = setting(
        kinds.ADDRESS_AND_PORT,
        "127.0.0.1:50051",
        "The TCP address for applications; port 0 has one chosen. Beyond loopback it takes [tls] "
        "and tokens or client certificates.",
    )
    runtime: str = setting(
        kinds.choice(*RUNTIMES),
        "process",
        "What runs the model: a child process; runc, rootless if edged is no root; runc-root.",
    )
    threads: int | None = setting(
        kinds.whole(1, 1024),
        None,
        "Threads of the NPU's emulator.",
        shown="one a CPU",
        example="2",
    )
    isa: str | None = setting(
        kinds.choice(*ISAS),
        None,
        "The emulator's instruction set.",
        shown="the machine's best",
        example='"avx2"',
    )
    log_level: str = setting(kinds.choice(*LOG_LEVELS), "info", "From which level on.", live=True)
    strict: bool = setting(
        kinds.SWITCH,
        default=False,
        meaning="TensorFlow Serving's errors also where a request can be understood, such as one "
        "without the model's name.",
    )
    memory_limit: int | None = setting(
        kinds.whole(64, 1 << 24),
        None,
        "Memory of the model's process in runc.",
        unit="MiB",
        shown="half of the machine's",
        example="2048",
    )
    cpu_limit: float | None = setting(
        kinds.number(0.01, 1024),
        None,
        "Processors of the model's process in runc.",
        unit="CPUs",
        shown="all",
        example="1.5",
    )
    process_limit: int = setting(
        kinds.whole(16, 32768), 256, "Processes and threads of the model's process in runc."
    )
    verify: str = setting(
        kinds.choice(*VERIFY),
        "required",
        "Whether images must be signed by a key in keys_dir. \"off\" is said by 'edged status'.",
    )
    keys_dir: Path = setting(
        kinds.FOLDER,
        Path("/etc/edged/keys"),
        "Where trusted public keys are, *.pub.",
        shown='"keys" beside this file\'s default place',
    )
    sku: str = setting(kinds.TEXT, "bw-cnn-a10", "Which NPU this device has.")
    window: float = setting(
        kinds.number(0, WINDOW_LIMIT, "seconds"),
        60.0,
        "Of good behaviour after a commit: three crashes within it bring the previous model back. "
        "0 for none.",
        unit="seconds",
    )
    tls: Tls = table(Tls, "Certificates of the TCP port.")
    auth: Auth = table(Auth, "Who may call over TCP. Tokens are made by 'edged tokens'.")
    sockets: Sockets = table(Sockets, "Who may open the Unix sockets.")
    limits: Limits = table(
        Limits, "Against floods over TCP; they count where callers have to show who they are."
    )
    mqtt: Mqtt = table(Mqtt, "The controller that pushes models and is reported to, over MQTT.")
    registries: Mapping[str, Mapping[str, Any]] = entries(
        Registry,
        "How a registry is spoken to, where it needs more than the network; at once.",
        "HOST",
    )

    @property
    def grpc_socket(self) -> Path:
        """Where applications reach the daemon without TCP."""
        return self.run_dir / "grpc.sock"

    @property
    def control_socket(self) -> Path:
        """Where operators reach the daemon."""
        return self.run_dir / "control.sock"


KEYS = tuple(keys.own(Config))  # those that are in no table; flags of `edged run` have these names
ALL = {key.name: key for key in keys.keys(Config)}


def variable(key: str) -> str:
    """Returns the name of the environment variable for a key, as in ``tls.cert_file``."""
    return f"EDGED_{key.replace('.', '_').upper()}"


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Returns a sentence for each ``EDGED_*`` variable that looks like a key and is none.

    They are no errors: others may set such variables, as Kubernetes does for a service of our name.
    """
    known = [variable(key) for key in (*ALL, "config")]
    return [
        f"{name} is not used; did you mean {near[0]}?"
        for name in environ
        if name.startswith("EDGED_") and name not in known
        if (near := difflib.get_close_matches(name, known, n=1, cutoff=0.85))
    ]


def default_run_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns where callers on this host look for the daemon's sockets if they are not told.

    For an ordinary user who has no daemon of its own that is the system's, if that runs.
    """
    if environ.get(variable("run_dir")):
        return Path(environ[variable("run_dir")])
    own = folders.default(environ).run
    for folder in (own, folders.SYSTEM.run):
        with contextlib.suppress(OSError):  # one of another user's, such as what sudo has left
            if (folder / "control.sock").exists():
                return folder
    return own


def build(values: Mapping[str, Any], kind: type[Any] = Config) -> Any:
    """Returns the dataclass with these values, tables as mappings within them."""
    inner = {name: build(values.get(name, {}), inner) for name, inner in keys.tables(kind).items()}
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known} | inner)
