"""A private certificate authority, and certificates of it: good ones and bad ones."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOCAL = ("localhost", "127.0.0.1")
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates. It has one for this machine ready, as a server's.

    Args:
        folder: made; has all files.
        name: of the authority.

    Attributes:
        ca: the file that whoever trusts it needs.
        certificate: this machine's.
        key: of that.
        private: the same key.
    """

    def __init__(self, folder: Path, name: str = "edged test authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._root = self._sign(name, self._key, (), (-3650 * DAY, 3650 * DAY), None)
        self.ca.write_bytes(_pem(self._root))
        self.private = ec.generate_private_key(ec.SECP256R1())
        own = self._issue("server", "localhost", self.private, LOCAL, (-DAY, DAY))
        self.certificate, self.key = own.certificate, own.key

    def server(self, *hosts: str) -> Issued:
        """A certificate of a server with these names and addresses; this machine's if none."""
        return self.issue("server-" + "-".join(hosts), hosts or LOCAL)

    def client(self, name: str) -> Issued:
        """A certificate of a client, by its common name."""
        return self.issue(name, ())

    def expired(self, name: str = "expired", hosts: Sequence[str] = LOCAL) -> Issued:
        """One that was good until yesterday."""
        return self.issue(name, hosts, (-30 * DAY, -DAY))

    def not_yet_valid(self, name: str = "early", hosts: Sequence[str] = LOCAL) -> Issued:
        """One that will be good from tomorrow."""
        return self.issue(name, hosts, (DAY, 30 * DAY))

    def wrong_host(self) -> Issued:
        """One of a server that is not this machine."""
        return self.server("elsewhere.example")

    def issue(
        self,
        name: str,
        hosts: Sequence[str],
        valid: tuple[dt.timedelta, dt.timedelta] = (-DAY, DAY),
    ) -> Issued:
        """A certificate with a new key.

        Args:
            name: the common name; names the files too.
            hosts: names and addresses of a server; none for a client.
            valid: from when until when, from now on.
        """
        return self._issue(name, name, ec.generate_private_key(ec.SECP256R1()), hosts, valid)

    def chain(self) -> list[str]:
        """This machine's certificate as a JWT's ``x5c`` has it."""
        own = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return [base64.b64encode(own.public_bytes(serialization.Encoding.DER)).decode()]

    def _issue(
        self,
        file: str,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        hosts: Sequence[str],
        valid: tuple[dt.timedelta, dt.timedelta],
    ) -> Issued:
        issued = Issued(self.folder / f"{file}.pem", self.folder / f"{file}.key")
        issued.certificate.write_bytes(_pem(self._sign(name, key, hosts, valid, self._root)))
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        issued.key.chmod(0o600)
        return issued

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        hosts: Sequence[str],
        valid: tuple[dt.timedelta, dt.timedelta],
        issuer: x509.Certificate | None,
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.timezone.utc)
        authority = x509.BasicConstraints(ca=issuer is None, path_length=None)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid[0])
            .not_valid_after(now + valid[1])
            .add_extension(authority, critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
