"""What an operator copies: ``HostName=H;DeviceId=D[;ModuleId=M];SharedAccessKey=K``.

Instead of the key ``x509=true``; with a gateway in between ``GatewayHostName=G`` besides.
"""

from __future__ import annotations

import difflib
import re

from edged.errors import ConfigError
from edged.mqtt.iothub import sas
from edged.mqtt.iothub.account import Account

_KEYS = ("HostName", "DeviceId", "ModuleId", "SharedAccessKey", "GatewayHostName", "x509")
_SERVICE = ("SharedAccessKeyName", "SharedAccessSignature")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
# As the hub's registry has it ("Identity registry").
NAME = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@$']{1,128}")


def parse(text: str) -> Account:
    """Returns who a connection string says that we are.

    Raises:
        ConfigError: names the part that is missing or wrong, and never the key.
    """
    parts: dict[str, str] = {}
    for part in text.strip().rstrip(";").split(";"):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise _wrong(f"expected KEY=VALUE with semicolons between, {_shown(key)} has no value")
        if key not in _KEYS:
            raise _unknown(key)
        if key in parts:
            raise _wrong(f"{key} is there twice")
        parts[key] = value
    for key in ("HostName", "DeviceId"):
        if key not in parts:
            raise _wrong(f"{key} is missing")
    return _account(parts)


def check_host(host: str, name: str) -> str:
    """Returns a host's name if it is one.

    Raises:
        ConfigError: it is not.
    """
    if not _HOST.fullmatch(host):
        raise ConfigError(f"cannot use {name}: expected a host name, got {host[:80]!r}")
    return host


def check_name(name: str, what: str) -> str:
    """Returns a device's or module's name if it is one.

    Raises:
        ConfigError: it is not.
    """
    if not NAME.fullmatch(name) or set(name) & set("+#"):
        raise ConfigError(f"cannot use {what}: expected a name as the hub has them, got {name!r}")
    return name


def _account(parts: dict[str, str]) -> Account:
    x509 = parts.get("x509", "false").lower()
    if x509 not in ("true", "false"):
        raise _wrong(f"x509: expected true or false, got {x509!r}")
    if ("SharedAccessKey" in parts) == (x509 == "true"):
        raise _wrong("expected either SharedAccessKey or x509=true")
    key = parts.get("SharedAccessKey", "")
    return Account(
        hub=check_host(parts["HostName"], "HostName of the connection string"),
        device=check_name(parts["DeviceId"], "DeviceId of the connection string"),
        module=check_name(parts["ModuleId"], "ModuleId of the connection string")
        if "ModuleId" in parts
        else "",
        key=key and sas.check_key(key, "SharedAccessKey of the connection string"),
        gateway=check_host(parts["GatewayHostName"], "GatewayHostName of the connection string")
        if "GatewayHostName" in parts
        else "",
    )


def _unknown(key: str) -> ConfigError:
    if key in _SERVICE:
        return _wrong(f"{key} is of one for services; take the device's own from the portal")
    near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.0)
    nearest = f"; the nearest is {near[0]!r}" if near else ""
    return _wrong(f"unknown key {_shown(key)}{nearest}")


def _shown(key: str) -> str:
    return repr(key) if key.isalnum() and len(key) <= 24 else "a part"  # it may be a secret


def _wrong(cause: str) -> ConfigError:
    return ConfigError(f"cannot use the connection string: {cause}")
