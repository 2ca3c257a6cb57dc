"""The table ``[mqtt]`` of the configuration: which controller the device belongs to, and how.

Secrets are read when they are needed, so that they can be changed without a restart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edged.config import kinds
from edged.config.keys import setting
from edged.errors import ConfigError

DIALECTS = ("off", "plain", "iothub")
SECRET_LIMIT = 16 * 1024  # bytes of a secret's line
SECRETS = ("password", "connection_string", "shared_key", "group_key")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PORT = kinds.whole(1, 65535)


@dataclass(frozen=True)
class Mqtt:
    """The link to a controller."""

    dialect: str = setting(
        kinds.choice(*DIALECTS),
        "off",
        'Which controller: "plain" for any MQTT 3.1.1 broker, "iothub" for Azure IoT Hub and IoT '
        "Edge.",
        example='"plain"',
        shown="off",
    )
    host: str = setting(kinds.TEXT, "", "The broker, or the hub.", example='"broker.plant.example"')
    port: int | None = setting(
        _PORT, None, "Its port.", shown="8883; without TLS 1883", example="8883"
    )
    tls: bool = setting(
        kinds.SWITCH,
        default=True,
        meaning="Whether the connection is made with TLS; only plain may do without.",
    )
    ca_file: Path | None = setting(
        kinds.FILE,
        None,
        "Authorities (PEM) that may vouch for the broker, besides the system's.",
        example='"plant-ca.pem"',
    )
    cert_file: Path | None = setting(
        kinds.FILE, None, "The device's own certificate (PEM).", example='"device.pem"'
    )
    key_file: Path | None = setting(kinds.FILE, None, "Its private key.", example='"device.key"')
    username: str = setting(kinds.TEXT, "", "Who edged is at a plain broker.", example='"press-4"')
    password: str = setting(kinds.TEXT, "", "That user's.", example='"..."', secret=True)
    password_file: Path | None = setting(
        kinds.FILE, None, "A file with it.", example='"credential:broker-password"'
    )
    device: str = setting(
        kinds.TEXT,
        "",
        "The device's name in plain's topics, or at the hub.",
        example='"press-4"',
    )
    module: str = setting(
        kinds.TEXT,
        "",
        'The module that edged is at the hub; "$edgeAgent" takes IoT Edge\'s deployments.',
        example='"$edgeAgent"',
    )
    connection_string: str = setting(
        kinds.TEXT,
        "",
        "Of the device or module at the hub, instead of host, device and shared_key.",
        example='"HostName=...;DeviceId=...;SharedAccessKey=..."',
        secret=True,
    )
    connection_string_file: Path | None = setting(
        kinds.FILE, None, "A file with it.", example='"credential:connection-string"'
    )
    shared_key: str = setting(
        kinds.TEXT, "", "The device's symmetric key, in Base64.", example='"..."', secret=True
    )
    shared_key_file: Path | None = setting(
        kinds.FILE, None, "A file with it.", example='"credential:shared-key"'
    )
    id_scope: str = setting(
        kinds.TEXT,
        "",
        "For provisioning: the hub is asked of the Device Provisioning Service.",
        example='"0ne000A0000"',
    )
    registration: str = setting(
        kinds.TEXT, "", "The device's name for provisioning.", example='"press-4"'
    )
    group_key: str = setting(
        kinds.TEXT, "", "Of an enrolment group, in Base64.", example='"..."', secret=True
    )
    group_key_file: Path | None = setting(
        kinds.FILE, None, "A file with it.", example='"credential:group-key"'
    )
    provisioning_host: str = setting(
        kinds.TEXT, "global.azure-devices-provisioning.net", "The provisioning service."
    )
    provisioning_port: int = setting(_PORT, 8883, "Its port.")
    keepalive: int = setting(
        kinds.whole(5, 1177),
        60,
        "Without a word after which the broker is asked whether it is there.",
        unit="seconds",
    )
    sas_ttl: int = setting(
        kinds.whole(10, 30 * 86400),
        3600,
        "That a signature for the hub is good for.",
        unit="seconds",
    )
    telemetry_interval: float = setting(
        kinds.number(0, 86400, "seconds"),
        60.0,
        "Between two messages with counts and latencies; 0 for none.",
        unit="seconds",
    )
    results: bool = setting(
        kinds.SWITCH, default=False, meaning="Whether results of inference are sent."
    )
    results_rate: float = setting(
        kinds.number(0.001, 100), 1.0, "How many of them at most.", unit="a second"
    )
    report_ttl: int = setting(
        kinds.whole(10, 86400), 300, "That a report is good for.", unit="seconds"
    )
    outbox_limit: int = setting(
        kinds.whole(4, 16384),
        64,
        "On the disk at most, of messages that wait for the link; beyond it the oldest are dropped "
        "and counted.",
        unit="MiB",
    )
    retry_limit: float = setting(
        kinds.number(1, 3600, "seconds"),
        300.0,
        "Between two attempts to connect at most.",
        unit="seconds",
    )

    @property
    def is_on(self) -> bool:
        """Whether there is a controller at all."""
        return self.dialect != "off"

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


def unfit(found: Mqtt) -> Iterator[tuple[str, str]]:
    """Yields what does not fit together: the key that has to change, and why."""
    for name in SECRETS:
        if getattr(found, name) and getattr(found, f"{name}_file"):
            yield name, f"{name}_file is given too; leave one out"
    if found.key_file is not None and found.cert_file is None:
        yield "key_file", "it needs cert_file too"
    if found.dialect == "plain":
        yield from _unfit_plain(found)
    elif found.dialect == "iothub":
        yield from _unfit_iothub(found)


def _unfit_plain(found: Mqtt) -> Iterator[tuple[str, str]]:
    if not found.host:
        yield "dialect", "plain needs host, the broker"
    if not found.device:
        yield "dialect", "plain needs device, the device's name in topics"
    elif not _NAME.fullmatch(found.device):
        yield (
            "device",
            f"expected 1 to 128 letters, digits and . _ -, the first no sign, got {found.device!r}",
        )
    if found.ca_file is not None and not found.tls:
        yield "ca_file", "it needs tls = true"


def _unfit_iothub(found: Mqtt) -> Iterator[tuple[str, str]]:
    if not found.tls:
        yield "tls", "a hub is never spoken to without TLS"
    ways = {
        "connection_string": bool(found.connection_string or found.connection_string_file),
        "id_scope and registration": bool(found.id_scope or found.registration),
        "host and device": bool(found.host or found.device),
    }
    given = [way for way, is_given in ways.items() if is_given]
    if len(given) != 1:
        came = f"both {' and '.join(given)}" if given else "none"
        yield (
            "dialect",
            f"iothub has to be told who the device is by one of {'; '.join(ways)}; got {came}",
        )
        return
    for key in given[0].split(" and "):
        if not (getattr(found, key) or getattr(found, f"{key}_file", None)):
            yield "dialect", f"{key} is missing; {given[0]} go together"
    if given[0] != "connection_string":
        yield from _unproven(found)


def _unproven(found: Mqtt) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with what is to prove who we are."""
    proofs = {
        "shared_key": bool(found.shared_key or found.shared_key_file),
        "group_key": bool(found.group_key or found.group_key_file),
        "cert_file": found.cert_file is not None,
    }
    if proofs["group_key"] and not found.id_scope:
        yield "group_key", "it is for provisioning; it needs id_scope"
    if sum(proofs.values()) != 1:
        came = " and ".join(name for name, is_given in proofs.items() if is_given) or "none"
        yield "dialect", f"expected one of {', '.join(proofs)} (keys also as *_file), got {came}"
