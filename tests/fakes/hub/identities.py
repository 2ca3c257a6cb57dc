"""Who may connect to the hub, and what proves it: signatures with a key, or certificates.

Grammar and signatures as Microsoft documents them ("Communicate with an IoT hub using the MQTT
protocol", "Control access with shared access signatures", "Symmetric key attestation").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field

_NAME = r"[A-Za-z0-9\-:.+%_#*?!(),=@$']{1,128}"
_USERNAME = re.compile(
    rf"(?P<host>[A-Za-z0-9.\-]+)/(?P<device>{_NAME})(?:/(?P<module>{_NAME}))?/"
    r"\?(?P<query>api-version=\d{4}-\d\d-\d\d(?:-preview)?(?:&.*)?)"
)
_REGISTRATION = re.compile(
    rf"(?P<scope>[A-Za-z0-9]+)/registrations/(?P<name>{_NAME})/"
    r"api-version=\d{4}-\d\d-\d\d(?:&.*)?"
)


class RefusedError(Exception):
    """Why somebody may not connect, with CONNACK's code for it."""

    def __init__(self, reason: str, code: int = 5) -> None:
        super().__init__(reason)
        self.code = code


def new_key() -> str:
    """A symmetric key as the hub makes them."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def derived_key(group_key: str, registration: str) -> str:
    """The key of one device out of that of its enrolment group."""
    return _hmac(group_key, registration)


def signature(uri: str, key: str, expires: int, policy: str = "") -> str:
    """A SharedAccessSignature of a resource."""
    quoted = urllib.parse.quote(uri, safe="")
    proof = urllib.parse.quote(_hmac(key, f"{quoted}\n{expires}"), safe="")
    return f"SharedAccessSignature sr={quoted}&sig={proof}&se={expires}" + (
        f"&skn={policy}" if policy else ""
    )


def _hmac(key: str, text: str) -> str:
    digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def check_signature(token: str, uri: str, key: str, now: float, policies: Sequence[str]) -> float:
    """Returns when the signature expires, in seconds since 1970.

    Args:
        token: the password.
        uri: what it must be of.
        key: what it must be made with.
        now: after which it must expire.
        policies: what may be said as ``skn``; "" for nothing.

    Raises:
        RefusedError: it is not this resource's, not of this key, or has expired.
    """
    kind, _, rest = token.partition(" ")
    if kind != "SharedAccessSignature":
        raise RefusedError("the password is no SharedAccessSignature")
    given = dict(part.split("=", 1) for part in rest.split("&") if "=" in part)
    if urllib.parse.unquote(given.get("sr", "")).lower() != uri.lower():
        raise RefusedError(f"the signature is of {given.get('sr')}, not of {uri}")
    if given.get("skn", "") not in policies:
        raise RefusedError(f"skn is {given.get('skn')!r}, not one of {policies}")
    if not re.fullmatch(r"\d{1,11}", given.get("se", "")):
        raise RefusedError(f"se is {given.get('se')!r}, not seconds since 1970")
    wanted = _hmac(key, f"{given['sr']}\n{given['se']}")
    if not hmac.compare_digest(wanted, urllib.parse.unquote(given.get("sig", ""))):
        raise RefusedError("the signature does not fit the key")
    expires = float(given["se"])
    if expires < now:
        raise RefusedError(f"the signature expired {now - expires:.0f} s ago")
    return expires


@dataclass
class Identity:
    """A device or a module of one, as the hub's registry has it.

    Attributes:
        hub: the hub's host name.
        device: name of the device.
        module: name of the module; "" for the device itself.
        key: a symmetric key; with "" a certificate is asked for, whose common name is the device.
    """

    hub: str
    device: str
    module: str = ""
    key: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The client identifier: ``device`` or ``device/module``."""
        return f"{self.device}/{self.module}" if self.module else self.device

    @property
    def uri(self) -> str:
        """What a signature is of."""
        tail = f"/modules/{self.module}" if self.module else ""
        return f"{self.hub}/devices/{self.device}{tail}"

    @property
    def place(self) -> str:
        """Where its topics are on the broker inside."""
        return f"{self.device}/{self.module or '-'}"

    @property
    def connection_string(self) -> str:
        """What an operator copies from the portal."""
        tail = f";ModuleId={self.module}" if self.module else ""
        proof = f"SharedAccessKey={self.key}" if self.key else "x509=true"
        return f"HostName={self.hub};DeviceId={self.device}{tail};{proof}"

    def events(self) -> str:
        """The topic of its telemetry, before the properties."""
        tail = f"modules/{self.module}/" if self.module else ""
        return f"devices/{self.device}/{tail}messages/events/"

    def filters(self) -> set[str]:
        """All that it may subscribe to."""
        inside = f"devices/{self.device}/modules/{self.module}"
        return {
            "$iothub/twin/res/#",
            "$iothub/twin/PATCH/properties/desired/#",
            "$iothub/methods/POST/#",
            f"{inside}/inputs/#"
            if self.module
            else f"devices/{self.device}/messages/devicebound/#",
        }

    def may_publish(self, topic: str) -> bool:
        """Whether the hub knows such a topic."""
        return topic.startswith(self.events()[:-1]) or bool(_OPERATION.fullmatch(topic))


_OPERATION = re.compile(
    r"\$iothub/twin/GET/\?\$rid=[^/#+]+"
    r"|\$iothub/twin/PATCH/properties/reported/\?\$rid=[^/#+]+"
    r"|\$iothub/methods/res/-?\d+/\?\$rid=[^/#+]+"
)


@dataclass
class Registration:
    """An enrolment at the provisioning service.

    Attributes:
        scope: of the service.
        name: the registration's.
        key: the device's own; with "" a certificate with this common name is asked for.
    """

    scope: str
    name: str
    key: str = field(default="", repr=False)

    @property
    def uri(self) -> str:
        """What a signature is of."""
        return f"{self.scope}/registrations/{self.name}"

    @property
    def place(self) -> str:
        """Where its topics are on the broker inside."""
        return f"$dps/{self.name}"

    def filters(self) -> set[str]:
        """All that it may subscribe to."""
        return {"$dps/registrations/res/#"}

    def may_publish(self, topic: str) -> bool:
        """Whether the service knows such a topic."""
        return bool(_REGISTER.fullmatch(topic))


_REGISTER = re.compile(
    r"\$dps/registrations/PUT/iotdps-register/\?\$rid=[^/#+&]+"
    r"|\$dps/registrations/GET/iotdps-get-operationstatus/\?\$rid=[^/#+&]+&operationId=[^/#+&]+"
)


def parse_username(username: str) -> tuple[str, str, str] | tuple[str, str]:
    """Returns host, device and module (or ""), or scope and registration.

    Raises:
        RefusedError: it is neither's.
    """
    if found := _USERNAME.fullmatch(username):
        return found["host"], found["device"], found["module"] or ""
    if found := _REGISTRATION.fullmatch(username):
        return found["scope"], found["name"]
    raise RefusedError(f"no such user name: {username!r}")
