r"""Shared access signatures, as "Control access to IoT Hub with shared access signatures" has them.

``SharedAccessSignature sr={URI}&sig={signature}&se={expiry}[&skn={policy}]``, all percent-encoded;
the signature is HMAC-SHA256 of ``{encoded URI}\n{expiry}`` with the Base64-decoded key, in Base64.
The expiry is in seconds since 1970.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import urllib.parse

from edged.errors import ConfigError


def check_key(key: str, name: str) -> str:
    """Returns a symmetric key if it is one.

    Args:
        key: in Base64.
        name: what the error calls it.

    Raises:
        ConfigError: it is no Base64, or empty. The key itself is not shown.
    """
    try:
        if base64.b64decode(key, validate=True):
            return key
    except (binascii.Error, ValueError):
        pass
    raise ConfigError(
        f"cannot use {name}: expected a key in Base64 as the portal shows it, got "
        f"{len(key)} characters that are none"
    )


def sign(uri: str, key: str, expires: int, policy: str = "") -> str:
    """Returns a signature of a resource, to be used as password.

    Args:
        uri: of the resource, such as ``HUB/devices/NAME``, not encoded.
        key: in Base64.
        expires: seconds since 1970.
        policy: its name, if the key is one's.
    """
    resource = urllib.parse.quote(uri, safe="")
    proof = urllib.parse.quote(_hmac(key, f"{resource}\n{expires}"), safe="")
    token = f"SharedAccessSignature sr={resource}&sig={proof}&se={expires}"
    return f"{token}&skn={policy}" if policy else token


def derive(group_key: str, registration: str) -> str:
    """Returns a device's own key out of its enrolment group's ("Symmetric key attestation")."""
    return _hmac(group_key, registration)


def _hmac(key: str, text: str) -> str:
    digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
