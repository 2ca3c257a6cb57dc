"""Callers' tokens: in pairs under a name, with a role, kept as hashes.

The daemon reads the file; ``edged tokens`` changes it. A name has a primary and a secondary token,
as the original service had them: callers move to the one while the other is replaced.

A token that edged makes has 256 random bits, and one that is given at least 32 characters. So there
is nothing to guess from its SHA-256, no salt that would help, and no need of a slow hash, which
would have to be computed for every request.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edged.access.roles import Caller, Role
from edged.errors import ConfigError
from edged.osutil import atomic

FILE = "tokens.json"
SCHEMA = 1
SLOTS = ("primary", "secondary")
LEAST, MOST = 32, 4096  # characters of a token that is given
NAMES_LIMIT = 64  # each call is compared with all of them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SIZE_LIMIT = 1 << 20  # bytes of the file


@dataclass(frozen=True)
class Token:
    """One token; itself it is not kept.

    Attributes:
        hash: SHA-256, hexadecimal.
        created_unix: seconds since 1970.
        expires_unix: from when on it is refused; None for never.
    """

    hash: str
    created_unix: int
    expires_unix: int | None = None

    def has_expired(self, now: float) -> bool:
        """Whether it is refused by now."""
        return self.expires_unix is not None and now >= self.expires_unix


@dataclass(frozen=True)
class Pair:
    """The tokens of a name; one may be missing."""

    name: str
    role: Role
    tokens: Mapping[str, Token] = field(default_factory=dict)  # by slot


@dataclass(frozen=True)
class Found:
    """Whose token was presented, and whether it still counts."""

    caller: Caller
    slot: str
    expired: bool


class Tokens:
    """All pairs; a value that does not change."""

    def __init__(self, pairs: Mapping[str, Pair] | None = None) -> None:
        self.pairs = dict(pairs or {})
        self._flat = [
            (bytes.fromhex(token.hash), pair, slot, token)
            for pair in self.pairs.values()
            for slot, token in pair.tokens.items()
        ]

    def find(self, presented: str, now: float) -> Found | None:
        """Returns whose token it is; None if nobody's. Takes the same time for either."""
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, pair, slot, token in self._flat:
            if hmac.compare_digest(known, digest):
                caller = Caller(f"token {pair.name}", pair.role)
                found = Found(caller, slot, token.has_expired(now))
        return found

    def usable(self, now: float) -> bool:
        """Whether there is any that counts."""
        return any(not token.has_expired(now) for *_, token in self._flat)


def path(state: Path) -> Path:
    """Returns where the tokens are in a state folder."""
    return state / FILE


def read(file: Path) -> Tokens:
    """Returns what the file has; nothing if there is no file.

    Raises:
        ConfigError: it cannot be read or makes no sense.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return Tokens()
    except OSError as exc:
        raise ConfigError(f"cannot read tokens {file}: {exc.strerror}") from exc
    try:
        pairs = _parse_all(data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ConfigError(
            f"cannot use tokens {file}: {exc!r}; remove it and make new ones with 'edged tokens'"
        ) from exc
    return Tokens({pair.name: pair for pair in pairs})


def _parse_all(data: bytes) -> list[Pair]:
    if len(data) > SIZE_LIMIT:
        raise ValueError(f"it has more than {SIZE_LIMIT} bytes")
    document = json.loads(data)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"expected an object of schema {SCHEMA}")
    return [_parse(each) for each in document["tokens"]]


def _parse(fields: Mapping[str, Any]) -> Pair:
    tokens = {}
    for slot, each in fields["slots"].items():
        expires = each.get("expires_unix")
        token = Token(str(each["hash"]), int(each["created_unix"]), expires and int(expires))
        if slot not in SLOTS or len(bytes.fromhex(token.hash)) != 32:
            raise ValueError(f"expected SHA-256 of {' and '.join(SLOTS)}, got {slot}")
        tokens[slot] = token
    if not NAME.fullmatch(fields["name"]):
        raise ValueError(f"{fields['name']!r} is no name")
    return Pair(fields["name"], Role.named(fields["role"]), tokens)


def check_usable(state: Path, listen: str) -> None:
    """Checks that there is a token for callers at the address ``listen``, who need one.

    Raises:
        ConfigError: there is none, so that nobody could call.
    """
    if not read(path(state)).usable(time.time()):
        raise ConfigError(
            f"cannot listen on {listen}: nobody could call, since there is no token in "
            f"{path(state)} and no client certificates are asked for; use 'edged tokens create "
            "NAME --role predict', or set tls.client_cert"
        )


@contextlib.contextmanager
def editing(state: Path) -> Iterator[dict[str, Pair]]:
    """The pairs to change; they are written durably when the block ends without an error.

    Raises:
        ConfigError: the folder is not there, or another process changes tokens at the moment.
        StoreError: they cannot be written; the old ones are untouched.
    """
    try:
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise ConfigError(f"cannot open state folder {state}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise ConfigError(
                f"cannot change the tokens in {state}: another process does; try again"
            ) from exc
        pairs = dict(read(path(state)).pairs)
        yield pairs
        if len(pairs) > NAMES_LIMIT:
            raise ConfigError(f"cannot keep tokens of more than {NAMES_LIMIT} names; revoke some")
        _write(state, pairs)
    finally:
        os.close(folder)


def _write(state: Path, pairs: Mapping[str, Pair]) -> None:
    document = {
        "schema": SCHEMA,
        "tokens": [
            {
                "name": pair.name,
                "role": pair.role.label,
                "slots": {slot: vars(token) for slot, token in pair.tokens.items()},
            }
            for pair in pairs.values()
        ],
    }
    # The folder's owner is whom edged runs as; root may be the one who makes tokens.
    status = state.stat()
    data = json.dumps(document, indent=1).encode() + b"\n"
    atomic.write_file(path(state), data, mode=0o600, owner=(status.st_uid, status.st_gid))


# -- making them


def make() -> str:
    """Returns a new token: 32 random bytes in base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def check_given(token: str) -> str:
    """Returns a token that an operator chose, if it may be one; any printable ASCII may.

    Raises:
        ConfigError: it is too short or too long, or cannot be sent.
    """
    if not LEAST <= len(token) <= MOST:
        raise ConfigError(
            f"cannot use the given token: expected {LEAST} to {MOST} characters, got {len(token)}"
        )
    if not token.isascii() or not token.isprintable() or token != token.strip():
        raise ConfigError(
            "cannot use the given token: expected printable ASCII without spaces around it"
        )
    if len(set(token)) < 10:
        raise ConfigError(
            "cannot use the given token: it has fewer than 10 different characters; whoever "
            "chooses one needs chance, as in 'openssl rand -base64 32'"
        )
    return token


def check_name(name: str) -> str:
    """Returns the name, if it may be one.

    Raises:
        ConfigError: it is none.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"cannot use name {name!r}: expected up to 64 letters, digits and . _ @ -"
        )
    return name


def put(pair: Pair, slot: str, token: str, now: float, expires_unix: int | None) -> Pair:
    """Returns the pair with another token in a slot."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    made = Token(digest, int(now), expires_unix)
    return replace(pair, tokens={**pair.tokens, slot: made})


def older(pair: Pair) -> str:
    """Returns the slot to replace next: an empty one, or the one that was made first."""
    for slot in SLOTS:
        if slot not in pair.tokens:
            return slot
    return min(SLOTS, key=lambda slot: pair.tokens[slot].created_unix)
