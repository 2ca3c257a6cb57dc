"""Why a link does not stand, in words, with what to do about it.

Pure: errors of sockets, of TLS and of MQTT go in, a ``LinkError`` comes out. Whoever is at the
device reads it in ``edged status``, so it names the host, and the key of the configuration to set.
"""

from __future__ import annotations

import datetime as dt
import errno
import re
import socket
import ssl
import time

from edged.errors import LinkError
from edged.mqtt.dialect import Endpoint

# Return codes of CONNACK (MQTT 3.1.1, section 3.2.2.3) as paho gives them, which is as MQTT 5 has
# them; other codes are told by number.
VERSION, IDENTIFIER, UNAVAILABLE, PASSWORD, UNAUTHORIZED = 132, 133, 136, 134, 135

LOGIN, CLOCK, HOST = "login", "clock", "host"  # kinds of a LinkError

# X509_V_ERR_* of OpenSSL.
NOT_YET_VALID, EXPIRED, NAME, ADDRESS = 9, 10, 62, 64
UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)

_TRUST = "if that is the plant's own authority, set ca_file in [mqtt] to its certificate"
_OURS = {  # alerts about our certificate, by what OpenSSL's name of it contains
    "CERTIFICATE_REQUIRED": "it wants a certificate and we show none",
    "CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "CERTIFICATE_REVOKED": "it says that our certificate was revoked",
    "UNKNOWN_CA": "it does not know the authority of our certificate",
    "BAD_CERTIFICATE": "it does not accept our certificate",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "HANDSHAKE_FAILURE": "it refuses our certificate, or has no cipher in common with us",
}


def connecting(endpoint: Endpoint, exc: OSError) -> LinkError:
    """Why no connection was made."""
    where = _where(endpoint)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _unverified(where, endpoint.host, exc)
    if isinstance(exc, ssl.SSLError):
        return _alerted(where, exc)
    if isinstance(exc, ConnectionResetError | BrokenPipeError):
        return _broke_off(where, endpoint)
    return _unreachable(where, endpoint.host, exc)


def connack(endpoint: Endpoint, code: int) -> LinkError:
    """Why the broker does not let us in, by the code of its CONNACK."""
    where = _where(endpoint)
    if code in (PASSWORD, UNAUTHORIZED):
        return LinkError(
            f"cannot log in to {where}: {endpoint.proof or _user(endpoint, code)} is not accepted",
            endpoint.hint
            or "check username and password_file in [mqtt], and the broker's list of users",
            kind=LOGIN,
        )
    if code == IDENTIFIER:
        return LinkError(
            f"cannot log in to {where}: client id {endpoint.client_id!r} is not accepted",
            "check device in [mqtt], and the broker's rules for client ids",
        )
    if code == UNAVAILABLE:
        return LinkError(f"cannot log in to {where}: the broker is not available", "wait for it")
    if code == VERSION:
        return LinkError(f"cannot log in to {where}: {_NO_311}", "use a broker that speaks it")
    return LinkError(f"cannot log in to {where}: code {code}", "look into the broker's log")


_NO_311 = "the broker does not speak MQTT 3.1.1"


def _user(endpoint: Endpoint, code: int) -> str:
    user = f"user {endpoint.username!r}" if endpoint.username else "a user without name"
    return f"{user} or the password" if code == PASSWORD else user


def subscription(endpoint: Endpoint, topic: str) -> LinkError:
    """The broker confirmed all but a subscription."""
    return LinkError(
        f"cannot subscribe to {topic!r} at {_where(endpoint)}: the broker does not allow it",
        "check the broker's access rules for this device",
    )


def silent(endpoint: Endpoint, what: str, seconds: float) -> LinkError:
    """The connection stands, and nothing comes."""
    return LinkError(
        f"cannot stay connected to {_where(endpoint)}: no {what} within {seconds:g} s",
        "check that the broker is well, and the network",
    )


def oversized(endpoint: Endpoint, size: int, limit: int) -> LinkError:
    """The broker sends more than we take."""
    return LinkError(
        f"cannot stay connected to {_where(endpoint)}: it sends a packet of {size} bytes, expected "
        f"at most {limit}",
        "look for who publishes that to this device's topics",
    )


def unintelligible(endpoint: Endpoint, cause: str) -> LinkError:
    """The broker sends what is no MQTT."""
    return LinkError(
        f"cannot understand {_where(endpoint)}: {cause}",
        "check that host and port in [mqtt] are those of an MQTT 3.1.1 broker",
    )


def ended(endpoint: Endpoint, fault: OSError | None, *, up: bool, asked: bool) -> LinkError:
    """A connection ended that we did not end.

    Args:
        endpoint: whose.
        fault: what its socket raised last, if that is known.
        up: whether the broker had let us in.
        asked: whether we had asked it if it is there, and it did not answer.
    """
    where = _where(endpoint)
    if isinstance(fault, ssl.SSLError) and not (up and isinstance(fault, ssl.SSLEOFError)):
        return _alerted(where, fault)
    if asked:
        return silent(endpoint, "answer to a ping", endpoint.keepalive)
    if not up:
        return _broke_off(where, endpoint)
    return LinkError(
        f"cannot stay connected to {where}: the connection was ended",
        "if that goes on, look for a second client with client id "
        f"{endpoint.client_id!r} and into the broker's log",
    )


def moment(unix: float | None = None) -> str:
    """A time of day for people; this device's now if none is given."""
    try:
        at = dt.datetime.fromtimestamp(time.time() if unix is None else unix, dt.timezone.utc)
    except (OverflowError, OSError, ValueError):
        return "an impossible date"
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _where(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def _unreachable(where: str, host: str, exc: OSError) -> LinkError:
    if isinstance(exc, socket.gaierror):
        return LinkError(
            f"cannot find {host}: {exc.strerror}",
            "check the name, and the device's name server and network",
            # The others may mean that no name server is reached.
            kind=HOST if exc.errno == socket.EAI_NONAME else "",
        )
    if isinstance(exc, TimeoutError):
        text = str(exc) if "TLS" in str(exc) else "no answer"
        return LinkError(
            f"cannot reach {where}: {text}",
            "check that the broker runs and that no firewall is in between",
        )
    if isinstance(exc, ConnectionRefusedError):
        return LinkError(
            f"cannot reach {where}: nobody listens on that port",
            "check the port, and that the broker runs",
        )
    known = exc.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    fix = "check the device's network" if known else "check the broker and the network"
    return LinkError(f"cannot reach {where}: {exc.strerror or exc}", fix)


def _unverified(where: str, host: str, exc: ssl.SSLCertVerificationError) -> LinkError:
    code = exc.verify_code
    if code == EXPIRED:
        return LinkError(
            f"cannot trust {where}: its certificate has expired, by this device's clock, which "
            f"reads {moment()}",
            "set the clock if it is wrong; otherwise the broker needs a new certificate",
        )
    if code == NOT_YET_VALID:
        return LinkError(
            f"cannot trust {where}: its certificate is not valid yet, by this device's clock, "
            f"which reads {moment()}",
            "set the clock, which is probably behind",
        )
    if code in (NAME, ADDRESS):
        return LinkError(
            f"cannot trust {where}: its certificate is not for {host!r}",
            "set host in [mqtt] to a name that the certificate has",
        )
    if code in UNKNOWN_AUTHORITY:
        return LinkError(
            f"cannot trust {where}: its certificate is from an authority that is unknown here",
            _TRUST,
        )
    return LinkError(f"cannot trust {where}: {exc.verify_message or exc}", _TRUST)


def _alerted(where: str, exc: ssl.SSLError) -> LinkError:
    reason = exc.reason or ""
    for name, cause in _OURS.items():
        if name in reason:
            return LinkError(
                f"cannot log in to {where}: {cause}",
                "check cert_file and key_file in [mqtt], what the broker trusts, and the clock, "
                f"which reads {moment()}",
                kind=LOGIN,
            )
    said = re.sub(r"[^a-z0-9.]+", " ", reason.lower()) or exc.strerror or str(exc)
    return LinkError(
        f"cannot speak TLS with {where}: {said.strip()}",
        "check that the port is one with TLS; set tls = false in [mqtt] only if it is not meant to "
        "be",
    )


def _broke_off(where: str, endpoint: Endpoint) -> LinkError:
    fix = "if that port wants TLS, set tls = true in [mqtt]; otherwise look into the broker's log"
    if endpoint.tls is not None:
        fix = "check that the port is one with TLS, and look into the broker's log"
    return LinkError(f"cannot log in to {where}: it broke off before it answered", fix)
