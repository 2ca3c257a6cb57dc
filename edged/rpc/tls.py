"""TLS of the TCP port: certificates that change while connections stand.

gRPC asks for the certificates before each handshake, so a new file counts from the next connection
on, and nobody who is connected notices. A new one that cannot be used is said in the log, once,
and the one before stays.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import grpc

from edged.access.certificates import SOON, Server, load_server
from edged.access.watched import Watched
from edged.config.tables import Tls
from edged.errors import ConfigError

logger = logging.getLogger(__name__)


class Certificates:
    """What the server shows and trusts, as the settings name the files.

    Args:
        tls: with ``cert_file`` and ``key_file``.

    Raises:
        ConfigError: the files cannot be used.
    """

    def __init__(self, tls: Tls) -> None:
        self._required = tls.client_cert == "required"
        self._watched = self._watch(tls)
        self._used = self._watched.content
        _warn(self._used)

    def _watch(self, tls: Tls) -> Watched[Server]:
        if tls.cert_file is None or tls.key_file is None:
            raise ConfigError("cannot speak TLS: expected tls.cert_file and tls.key_file")
        certificate, key = tls.cert_file, tls.key_file
        ca = tls.client_ca_file if self._required else None
        return Watched(
            [path for path in (certificate, key, ca) if path],
            lambda: load_server(certificate, key, ca),
            "certificates",
        )

    @property
    def problem(self) -> str:
        """Why the files' present content is not in use; empty if it is."""
        return self._watched.problem

    def change(self, tls: Tls) -> None:
        """Goes over to other files.

        Raises:
            ConfigError: they cannot be used; those of before stay.
        """
        self._watched = self._watch(tls)

    def credentials(self) -> grpc.ServerCredentials:
        """Returns what a port is opened with."""
        fetch: Any = self._fetch  # the stubs do not know that None stands for no change
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._used), fetch, self._required
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns the certificates if they are others than those in use. Called by gRPC's threads.

        What it raised, gRPC would take for a failure of each connection.
        """
        try:
            content = self._watched.content
            if content == self._used:
                return None
            _warn(content)
            configuration = _configuration(content)
        except Exception:
            logger.exception("cannot change the certificates; those of before stay in use")
            return None
        self._used = content
        return configuration


def _configuration(server: Server) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(server.key, server.chain)], server.client_ca)


def _warn(server: Server) -> None:
    now = dt.datetime.now(dt.timezone.utc)
    known = server.certificate
    trouble = known.trouble(now)
    if not trouble and now > known.not_after - SOON:
        trouble = f"it expires at {known.not_after:%Y-%m-%d %H:%M:%S} UTC"
    if trouble:
        logger.warning(
            "the daemon's certificate %s: %s; callers may refuse it", known.name, trouble
        )
