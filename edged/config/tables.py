"""The tables of the configuration file: who may call, how it is reached, what it bears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edged.config import kinds
from edged.config.keys import setting

ROLES = ("predict", "status", "admin")
CLIENT_CERTIFICATES = ("off", "required")


@dataclass(frozen=True)
class Tls:
    """``[tls]``: certificates of the TCP port."""

    cert_file: Path | None = setting(
        kinds.FILE,
        None,
        "The daemon's certificate, followed by those between it and the authority (PEM). With it "
        "the TCP port speaks TLS alone. A new file is used for the next connection.",
        example='"tls/edged.pem"',
        live=True,
    )
    key_file: Path | None = setting(
        kinds.FILE,
        None,
        "Its private key (PEM, without a passphrase). Readable by edged's user alone.",
        example='"tls/edged.key"',
        live=True,
    )
    client_ca_file: Path | None = setting(
        kinds.FILE,
        None,
        "Authorities that vouch for callers' certificates (PEM).",
        example='"tls/clients-ca.pem"',
        live=True,
    )
    client_cert: str = setting(
        kinds.choice(*CLIENT_CERTIFICATES),
        "off",
        "Whether callers over TCP must show a certificate of client_ca_file (mutual TLS). It takes "
        "the place of a token.",
    )
    client_role: str = setting(
        kinds.choice(*ROLES), "predict", "What a caller with a certificate may do.", live=True
    )
    client_roles: Mapping[str, str] = setting(
        kinds.named(kinds.choice(*ROLES), "certificates' common names"),
        {},
        "What single callers may do instead, by their certificates' common names.",
        example='{ "line4-laptop" = "admin" }',
        live=True,
    )
    deny_file: Path | None = setting(
        kinds.FILE,
        None,
        "SHA-256 fingerprints of certificates that are refused, one a line, # begins a comment. A "
        "new file counts from the next call on.",
        example='"tls/denied"',
        live=True,
    )


@dataclass(frozen=True)
class Auth:
    """``[auth]``: tokens, and what they are for."""

    on_loopback: bool = setting(
        kinds.SWITCH,
        default=False,
        meaning="Whether callers on loopback addresses need a token or a certificate too. Beyond "
        "loopback they always do. Unix sockets have their modes instead.",
    )
    remote_control: bool = setting(
        kinds.SWITCH,
        default=False,
        meaning="Whether the TCP port also takes operators' commands: status from role status on, "
        "changes from role admin on. Callers without credentials never may.",
    )


@dataclass(frozen=True)
class Sockets:
    """``[sockets]``: who may open the Unix sockets."""

    grpc_mode: int = setting(kinds.MODE, 0o666, "Mode of RUN/grpc.sock.", shown='"0666"')
    grpc_group: str | None = setting(
        kinds.TEXT, None, "Its group, by name.", shown="the daemon's", example='"vision"'
    )
    control_mode: int = setting(
        kinds.MODE,
        0o660,
        "Mode of RUN/control.sock: whoever may open it is an operator.",
        shown='"0660"',
    )
    control_group: str | None = setting(
        kinds.TEXT, None, "Its group, by name.", shown="the daemon's", example='"edged"'
    )


@dataclass(frozen=True)
class Limits:
    """``[limits]``: against floods over TCP, where callers have to show who they are."""

    connections: int = setting(
        kinds.whole(1, 65536), 256, "Open connections; further ones are closed at once."
    )
    handshake: float = setting(
        kinds.number(0.1, 600, "seconds"),
        10.0,
        "From a connection to the end of its TLS handshake and greeting.",
        unit="seconds",
    )
    idle: float = setting(
        kinds.number(1, 86400, "seconds"),
        300.0,
        "After which a connection without a call is closed; clients open another when they need "
        "it.",
        unit="seconds",
    )
    body: float = setting(
        kinds.number(0.1, 3600, "seconds"),
        30.0,
        "For a request to arrive whole.",
        unit="seconds",
    )


@dataclass(frozen=True)
class Registry:
    """``[registries."HOST"]``: how one registry is spoken to."""

    username: str = setting(kinds.TEXT, "", "Who edged is there.", example='"line4"')
    password: str = setting(kinds.TEXT, "", "That user's password.", example='"..."', secret=True)
    password_file: Path | None = setting(
        kinds.FILE,
        None,
        "A file with the password, read when it is needed.",
        example='"registry-password"',
    )
    ca_file: Path | None = setting(
        kinds.FILE,
        None,
        "Authorities to trust there, beside the system's (PEM).",
        example='"plant-ca.pem"',
    )
    mirror: str = setting(
        kinds.TEXT,
        "",
        "HOST[:PORT][/PREFIX] that is asked first.",
        example='"cache.plant.example/images"',
    )
    plain_http: bool | None = setting(
        kinds.SWITCH, None, "true: without TLS.", shown="on loopback alone", example="true"
    )
