"""A token that a file has, so that it stands in no list of processes; TLS files on a command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edged.errors import ConfigError

if TYPE_CHECKING:
    from edged.client import Client

TOKEN_LIMIT = 4096  # bytes; a server takes 8 KiB of metadata in all


def add_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds the flags that say who we are to a server, and whom we believe there."""
    parser.add_argument(
        "--tls",
        action="append",
        type=Path,
        metavar="FILE",
        help="PEM file with the certificates to trust; given three times: that one, the "
        "certificate of one's own, its key",
    )
    parser.add_argument(
        "--token",
        type=Path,
        metavar="FILE",
        help="with the token to send; needs --tls over a network",
    )


def client(target: str, arguments: argparse.Namespace) -> Client:
    """Returns a client of the server at ``target``, with what the flags say.

    Raises:
        ConfigError: a file cannot be used.
    """
    from edged.client import Client

    token = read_token(arguments.token) if arguments.token else None
    return Client(target, token=token, tls=arguments.tls)


def read_token(file: Path) -> str:
    """Returns the token in a file.

    Raises:
        ConfigError: it cannot be read, or has none.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(TOKEN_LIMIT + 1)
        token = data.decode().strip()
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"cannot use the token in {file}: it is not text") from exc
    if not token or len(data) > TOKEN_LIMIT:
        raise ConfigError(
            f"cannot use the token in {file}: expected 1 to {TOKEN_LIMIT} bytes, got "
            f"{'more' if token else 'none'}"
        )
    return token
