"""Where a command gets the passphrase of a private key: a file, never the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from edged.errors import ConfigError

LIMIT = 1024  # bytes


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """Declares ``--passphrase-file``."""
    parser.add_argument(
        "--passphrase-file", metavar="FILE", type=Path, help="its first line unlocks the key"
    )


def passphrase(args: argparse.Namespace) -> bytes | None:
    """Returns the passphrase; None if no file was given.

    Raises:
        ConfigError: the file cannot be read, or its first line is empty or too long.
    """
    path: Path | None = args.passphrase_file
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            line = file.readline(LIMIT + 1).rstrip(b"\r\n")
    except OSError as exc:
        raise ConfigError(f"cannot read passphrase {path}: {exc.strerror}") from exc
    if not 0 < len(line) <= LIMIT:
        raise ConfigError(f"cannot use passphrase {path}: expected 1 to {LIMIT} bytes in line 1")
    return line
