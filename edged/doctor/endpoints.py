"""Where the configuration names certificates, files with secrets and other machines.

The one place of the doctor that knows the tables: another table is a few lines here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edged.config.mqtt import SECRETS, Mqtt
from edged.config.settings import Config
from edged.doctor.reach import Tls
from edged.errors import ConfigError
from edged.oci.registries import Access, Registries, is_loopback

MQTT_PORT, MQTT_TLS_PORT = 1883, 8883  # IANA


@dataclass(frozen=True)
class Certificate:
    """A file with certificates.

    Attributes:
        what: it is for.
        file: PEM.
        key: of the first certificate; None where the file only vouches for others.
    """

    what: str
    file: Path
    key: Path | None = None


@dataclass(frozen=True)
class Endpoint:
    """Another machine that edged speaks to.

    Attributes:
        what: it is.
        host: name or address, without a port.
        port: TCP.
        tls: None where it is spoken to in plain.
    """

    what: str
    host: str
    port: int
    tls: Tls | None


def certificates(config: Config) -> Iterator[Certificate]:
    """Yields every file with certificates that the configuration names."""
    tls = config.tls
    if tls.cert_file is not None:
        yield Certificate("of the TCP port", tls.cert_file, tls.key_file)
    if tls.client_ca_file is not None:
        yield Certificate("of callers' authorities", tls.client_ca_file)
    for host, table in config.registries.items():
        if table.get("ca_file"):
            yield Certificate(f"of registry {host}", Path(table["ca_file"]))
    mqtt = config.mqtt
    if mqtt.is_on and mqtt.ca_file is not None:
        yield Certificate("of the broker's authority", mqtt.ca_file)
    if mqtt.is_on and mqtt.cert_file is not None:
        yield Certificate("of edged at the broker", mqtt.cert_file, mqtt.key_file)


def secret_files(config: Config) -> Iterator[tuple[str, Path]]:
    """Yields what each file with a secret is for, and the file."""
    if config.tls.key_file is not None:
        yield "private key of the TCP port", config.tls.key_file
    for host, table in config.registries.items():
        if table.get("password_file"):
            yield f"password of registry {host}", Path(table["password_file"])
    for name in (*SECRETS, "key"):
        path = getattr(config.mqtt, f"{name}_file")
        if path is not None:
            yield f"{name.replace('_', ' ')} of [mqtt]", path


def mqtt_secrets(config: Config) -> Iterator[str]:
    """Yields the secrets of ``[mqtt]``; of a connection string also the key in it."""
    for name in SECRETS:
        try:
            text = config.mqtt.secret(name)
        except ConfigError:
            continue  # what cannot be read here does not get out either
        yield text
        yield from (part.partition("=")[2] for part in text.split(";") if "Key=" in part)


def registries(config: Config) -> Iterator[tuple[str, Registries]]:
    """Yields every registry and mirror that the configuration names, and how it is spoken to."""
    known = Registries.from_tables(config.registries)
    for host, access in known.hosts.items():
        yield host, known
        mirror = access.mirror.partition("/")[0].lower()
        if mirror and mirror not in known.hosts:
            yield mirror, known


def of_registry(host: str, known: Registries) -> Endpoint:
    """How a registry's ``HOST[:PORT]`` is reached."""
    access, plain = known.hosts.get(host, Access()), known.plain(host)
    # Docker's name for its registry is not where that is.
    server = "registry-1.docker.io" if host == "docker.io" else host
    name, port = split(server, 80 if plain else 443)
    tls = None if plain else Tls(access.ca_file)
    return Endpoint(f"registry {host}", name, port, tls)


def broker(config: Config) -> Endpoint | None:
    """Where the broker, the hub or its provisioning service is; None if there is none.

    Raises:
        ConfigError: the file with the connection string cannot be read.
    """
    mqtt = config.mqtt
    if not mqtt.is_on:
        return None
    tls = Tls(mqtt.ca_file, mqtt.cert_file, mqtt.key_file) if mqtt.tls else None
    if mqtt.id_scope:
        host = mqtt.provisioning_host
        return Endpoint("provisioning service", host, mqtt.provisioning_port, tls)
    host = _host(mqtt)
    port = mqtt.port or (MQTT_TLS_PORT if mqtt.tls else MQTT_PORT)
    return Endpoint("broker", host, port, tls) if host else None


def split(server: str, port: int) -> tuple[str, int]:
    """Returns host and port of ``HOST[:PORT]``; brackets of an IPv6 address are taken off."""
    host, colon, number = server.rpartition(":")
    if not colon or not number.isdigit() or (":" in host and not host.endswith("]")):
        host, number = server, str(port)
    return host.removeprefix("[").removesuffix("]"), int(number)


def _host(mqtt: Mqtt) -> str:
    """The host by its own key, or the one in the connection string."""
    for part in mqtt.secret("connection_string").split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "hostname":
            return value.strip()
    return mqtt.host


def is_here(host: str) -> bool:
    """Whether that is this machine by its very name."""
    return is_loopback(f"[{host}]" if ":" in host else host)
