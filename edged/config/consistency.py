"""Whether settings that are right by themselves fit together."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping

from edged.config import mqtt
from edged.config.problem import Problem
from edged.config.setting import Setting
from edged.config.settings import Config

SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), without the terminating zero

BEYOND = (
    "cannot listen on '{}': other machines could reach it, which needs TLS and callers' tokens or "
    "certificates: set tls.cert_file and tls.key_file; or use 127.0.0.1"
)


def problems(config: Config, settings: Mapping[str, Setting]) -> list[Problem]:
    """Returns what does not fit, each at the setting that has to change."""
    return [_at(settings, key, message) for key, message in _unfit(config)]


def _unfit(config: Config) -> Iterator[tuple[str, str]]:
    for path in (config.grpc_socket, config.control_socket):
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            yield (
                "run_dir",
                f"a socket's path has at most {SOCKET_PATH_LIMIT} bytes, {path} is longer",
            )
            break
    tls = config.tls
    if (tls.cert_file is None) != (tls.key_file is None):
        there, missing = ("cert_file", "key_file") if tls.cert_file else ("key_file", "cert_file")
        yield f"tls.{there}", f"it needs tls.{missing} too"
    if tls.client_cert == "required" and not (tls.cert_file and tls.client_ca_file):
        yield "tls.client_cert", "it needs tls.cert_file, tls.key_file and tls.client_ca_file"
    host, _ = split_address(config.listen)
    if config.auth.remote_control and not is_gated(config):
        yield (
            "auth.remote_control",
            "callers on loopback need no credentials, and it takes them; set auth.on_loopback too",
        )
    if tls.cert_file is None and not is_loopback(host):
        yield "listen", BEYOND.format(config.listen)
    yield from ((f"mqtt.{key}", message) for key, message in mqtt.unfit(config.mqtt))


def _at(settings: Mapping[str, Setting], key: str, message: str) -> Problem:
    found = settings[key]
    source = found.origin
    if found.line is not None:
        source = source.removesuffix(f":{found.line}")
    return Problem(source, message, found.line, key)


def split_address(listen: str) -> tuple[str, int]:
    """Returns host and port of an address such as ``127.0.0.1:50051`` or ``[::1]:0``."""
    host, _, port = listen.rpartition(":")
    return (host[1:-1] if host.startswith("[") and host.endswith("]") else host), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host; no for a name other than localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_gated(config: Config) -> bool:
    """Whether callers over TCP have to show who they are."""
    host, _ = split_address(config.listen)
    return not is_loopback(host) or config.auth.on_loopback or config.tls.client_cert == "required"
