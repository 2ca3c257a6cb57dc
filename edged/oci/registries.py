"""How registries may be spoken to: who we are there, whom we believe, how long we wait.

Pure values, made from the configuration; nothing is opened here, except a password's file when the
password is asked for, so that it can be changed without a restart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edged.errors import ConfigError
from edged.oci.reference import check_host

PASSWORD_LIMIT = 16 * 1024  # characters; some registries' passwords are signed tokens


@dataclass(frozen=True)
class Access:
    """How one registry is spoken to.

    Attributes:
        username: empty for none.
        password: of that user.
        password_file: has the password in its first line, if ``password`` is empty.
        ca_file: certificates (PEM) that may vouch for the registry, besides the system's.
        mirror: ``HOST[:PORT]`` or ``HOST[:PORT]/PREFIX`` that is asked first. What it has under a
            digest is checked as ever; what a tag means is for the mirror to say.
        plain_http: whether to speak without TLS. If that is not said, only on loopback, and only
            if no ``ca_file`` is given.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    ca_file: Path | None = None
    mirror: str = ""
    plain_http: bool | None = None

    def secret(self) -> str:
        """The password.

        Raises:
            ConfigError: its file cannot be read.
        """
        if self.password or self.password_file is None:
            return self.password
        try:
            with self.password_file.open(encoding="utf-8") as file:
                return file.readline(PASSWORD_LIMIT).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read password {self.password_file}: {exc}") from exc


@dataclass(frozen=True)
class Credentials:
    """Who we are at a registry, for a while."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Registries:
    """How registries are spoken to.

    Attributes:
        hosts: by ``HOST[:PORT]`` as references have it, in lower case.
        connect_timeout: seconds until a connection stands.
        read_timeout: seconds without a byte after which a connection counts as broken.
        patience: seconds to go on trying without any progress before a document, such as a
            manifest, is given up. ``BlobStore`` has its own for blobs.
    """

    hosts: Mapping[str, Access] = field(default_factory=dict)
    connect_timeout: float = 10.0
    read_timeout: float = 20.0
    patience: float = 15.0

    @classmethod
    def from_tables(cls, tables: Mapping[str, Mapping[str, Any]]) -> Registries:
        """How the configuration has hosts spoken to.

        Args:
            tables: by host; the keys are the fields of ``Access``, their types checked.

        Raises:
            ConfigError: a host is none.
        """
        return cls({check_host(host, host): Access(**table) for host, table in tables.items()})

    def signed_in(self, credentials: Mapping[str, Credentials]) -> Registries:
        """The same, with others' names and passwords for some hosts."""
        if not credentials:
            return self
        hosts = {
            host: replace(
                self.of(host), username=who.username, password=who.password, password_file=None
            )
            for host, who in credentials.items()
        }
        return replace(self, hosts={**self.hosts, **hosts})

    def adopt(self, other: Registries) -> None:
        """Takes over how the other has hosts spoken to, for fetches that begin from now on."""
        object.__setattr__(self, "hosts", other.hosts)  # whoever has us is to see it

    def of(self, host: str) -> Access:
        """How that host is spoken to."""
        return self.hosts.get(host, Access())

    def plain(self, host: str) -> bool:
        """Whether that host is spoken to without TLS; see ``Access``."""
        access = self.of(host)
        if access.plain_http is not None:
            return access.plain_http
        return is_loopback(host) and access.ca_file is None


def is_loopback(host: str) -> bool:
    """Whether ``HOST[:PORT]`` is this machine by its very name, whatever a name server says."""
    bare = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False
