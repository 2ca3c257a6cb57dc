"""What lets us in: a signature if there is a key, or else a certificate; and the clock's part.

Invariants:
- While the clock cannot be believed nothing is signed, and that is said: a signature would have
  expired, or be good for decades.
- A certificate goes on then. The broker's is verified all the same but for its dates, which nobody
  can tell without a clock; once the clock is right the connection is made anew, dates and all.
- A signature is renewed before it expires, at a moment that differs from device to device.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from edged.errors import LinkError
from edged.mqtt import tls
from edged.mqtt.dialect import Endpoint, Will
from edged.mqtt.iothub import sas
from edged.mqtt.refusal import CLOCK, moment
from edged.mqtt.wallclock import Wallclock

RENEW = (0.75, 0.9)  # of a signature's time
PORT = 8883


@dataclass(frozen=True)
class Login:
    """Whom to be where.

    Attributes:
        host: where to connect.
        port: of TCP.
        client_id: as whom.
        username: for CONNECT.
        resource: what a signature is of.
        key: symmetric, in Base64; empty for a certificate.
        policy: of the key; empty for none.
        hint: what to do if that is not accepted.
    """

    host: str
    port: int
    client_id: str
    username: str
    resource: str
    key: str = ""
    policy: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Files:
    """Authorities that may vouch for the other side, and our own certificate and key."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


def endpoint(
    login: Login,
    files: Files,
    clock: Wallclock,
    *,
    ttl: float,
    keepalive: int = 60,
    will: Will | None = None,
) -> Endpoint:
    """Where and how to connect now. It reads files: not to be called in the event loop.

    Args:
        login: whom to be.
        files: certificates.
        clock: says when a signature expires.
        ttl: seconds that a signature is good for.
        keepalive: see ``Endpoint``.
        will: see ``Endpoint``.

    Raises:
        LinkError: signatures are held back.
        ConfigError: a file is at fault, or there is neither a key nor a certificate.
    """
    password, renew_in = None, None
    if login.key:
        if doubt := clock.doubt:
            raise LinkError(
                f"cannot sign in to {login.host}: this device's clock cannot be believed: {doubt}",
                clock.fix,
                kind=CLOCK,
            )
        expires = int(clock.now() + ttl)
        password = sas.sign(login.resource, login.key, expires, login.policy)
        renew_in = ttl * random.uniform(*RENEW)  # noqa: S311 - only to part devices from each other
    elif files.cert_file is None:
        raise LinkError(
            f"cannot sign in to {login.host}: there is neither a key nor a certificate",
            "set connection_string_file, shared_key_file or cert_file in [mqtt]",
        )
    context = tls.context(
        files.ca_file, files.cert_file, files.key_file, check_dates=bool(login.key) or clock.sane
    )
    return Endpoint(
        host=login.host,
        port=login.port,
        client_id=login.client_id,
        username=login.username,
        password=password,
        tls=context,
        keepalive=keepalive,
        will=will,
        renew_in=renew_in,
        proof=f"the {'signature' if login.key else 'certificate'} of {login.client_id!r}",
        hint=f"{login.hint}, and this device's clock, which reads {moment(clock.now())}",
    )
