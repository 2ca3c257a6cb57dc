"""Keys that sign images: made, read, and the folder of those a device trusts.

ECDSA on P-256, as cosign makes them; private keys are PKCS #8, public ones SubjectPublicKeyInfo,
both as PEM (RFC 5208, RFC 5280, RFC 7468).

Invariants:
- A key is known by its id: the SHA-256 of its SubjectPublicKeyInfo. File names are for people.
- A folder of trusted keys is taken whole or not at all: one file that cannot be read as a key is an
  error that names it, so that nobody believes a key to be trusted, or gone, that is not.
- A private key is written readable by its owner only, and never over another file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edged.errors import ConfigError
from edged.osutil import atomic

if TYPE_CHECKING:
    # Imported where it is used: reading a key costs 30 ms of imports, and few commands need one.
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

PRIVATE, PUBLIC = ".key", ".pub"
KEY_LIMIT = 16 * 1024  # bytes of a file; a P-256 key takes 200
KEYS_LIMIT = 64  # files in a folder of trusted keys


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures.

    Attributes:
        id: SHA-256 of its SubjectPublicKeyInfo, 64 hexadecimal digits.
        name: of the file it came from, without ``.pub``; for people.
        key: to check with.
    """

    id: str
    name: str
    key: EllipticCurvePublicKey = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:12]})"


@dataclass(frozen=True)
class TrustedKeys:
    """The keys whose signatures a device accepts."""

    folder: Path
    keys: tuple[PublicKey, ...]

    @classmethod
    def load(cls, folder: Path) -> TrustedKeys:
        """Reads every ``*.pub`` of a folder; a folder that does not exist trusts nobody.

        Raises:
            ConfigError: a file is not a public key on P-256, or there are too many.
        """
        try:
            paths = sorted(path for path in folder.iterdir() if path.suffix == PUBLIC)
        except FileNotFoundError:
            paths = []
        except OSError as exc:
            raise ConfigError(f"cannot read the trusted keys in {folder}: {exc.strerror}") from exc
        if len(paths) > KEYS_LIMIT:
            raise ConfigError(
                f"cannot use the trusted keys in {folder}: expected at most {KEYS_LIMIT}, "
                f"got {len(paths)}"
            )
        return cls(folder, _distinct(read_public(path) for path in paths))


def generate(path: Path, passphrase: bytes | None = None) -> PublicKey:
    """Makes a new pair of keys: ``path`` with ``.key``, and with ``.pub`` for the devices.

    Args:
        path: without suffix, in an existing folder.
        passphrase: encrypts the private key; None leaves it to the file's permissions.

    Raises:
        ConfigError: one of the two files exists.
        StoreError: they cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        locked = serialization.BestAvailableEncryption(passphrase)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
    )
    public = private.public_key()
    targets = _beside(path, PRIVATE), _beside(path, PUBLIC)
    for target in targets:
        if target.exists():
            raise ConfigError(f"cannot make keys: {target} exists; choose another name")
    atomic.write_file(targets[0], pem, mode=0o600)
    atomic.write_file(targets[1], public_pem(public))
    return PublicKey(key_id(public), path.name, public)


def read_private(path: Path, passphrase: bytes | None = None) -> EllipticCurvePrivateKey:
    """Reads the key that signs.

    Raises:
        ConfigError: no PKCS #8 key on P-256, or the passphrase is wrong or missing.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    data = _read(path)
    if b"SIGSTORE PRIVATE KEY" in data:
        raise ConfigError(
            f"cannot use key {path}: it is encrypted in cosign's own way; make one with "
            "'edged keys generate', or import a PKCS #8 one into both"
        )
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except TypeError as exc:  # what the library raises for a passphrase too many or too few
        wants = "it has no passphrase" if passphrase else "it is encrypted: give its passphrase"
        raise ConfigError(f"cannot use key {path}: {wants}") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(
            f"cannot use key {path}: no private key in PEM, or locked: {exc}"
        ) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"cannot use key {path}: expected ECDSA on P-256")
    return key


def read_public(path: Path) -> PublicKey:
    """Reads a key that checks signatures.

    Raises:
        ConfigError: no public key on P-256 in PEM.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise ConfigError(
            f"cannot use key {path}: it is a private key, which no device needs; give the "
            f"{PUBLIC} file, and make new keys if others could read this one"
        )
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"cannot use key {path}: no public key in PEM: {exc}") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"cannot use key {path}: expected ECDSA on P-256")
    return PublicKey(key_id(key), path.name.removesuffix(PUBLIC), key)


def trust(path: Path, folder: Path) -> PublicKey:
    """Puts a public key into a folder of trusted keys, which is made if need be.

    Raises:
        ConfigError: no such key, or another one has its name there.
        StoreError: the folder cannot be written.
    """
    key = read_public(path)
    target = _beside(folder / key.name, PUBLIC)
    if target.exists() and read_public(target).id != key.id:
        raise ConfigError(f"cannot trust {path}: another key has the name {target}; rename one")
    atomic.make_folder(folder)
    atomic.write_file(target, public_pem(key.key))
    return key


def key_id(key: EllipticCurvePublicKey) -> str:
    """The key's id; see ``PublicKey``."""
    from cryptography.hazmat.primitives import serialization

    info = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(info).hexdigest()


def public_pem(key: EllipticCurvePublicKey) -> bytes:
    """The public key as PEM."""
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _distinct(keys: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    return tuple({key.id: key for key in keys}.values())


def _read(path: Path) -> bytes:
    """The bytes of a key's file: a regular one, and small."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise ConfigError(f"cannot read key {path}: {exc.strerror}") from exc
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"cannot read key {path}: it is not a regular file")
        data = file.read(KEY_LIMIT + 1)
    if len(data) > KEY_LIMIT:
        raise ConfigError(f"cannot use key {path}: expected at most {KEY_LIMIT} bytes")
    return data
