"""``edged support-bundle``: one file for whoever is to find a fault from afar."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from edged.errors import ConfigError

HELP = "collect what helps to find a fault in one file, without secrets; works offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        help="a new file, a folder, or - for standard output "
        "(default: edged-support-TIME.tar.gz here)",
    )
    parser.add_argument("--state-dir", metavar="DIR", help="the daemon's")
    parser.add_argument("--run-dir", metavar="DIR", help="the daemon's")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the daemon's")


def run(arguments: argparse.Namespace) -> int:
    """Collects; returns 0 when the file is there, whatever is wrong with the device.

    Raises:
        ConfigError: the file exists, or has no folder.
        StoreError: it cannot be written; of a full disk it says how much is needed.
    """
    from edged.doctor import bundle
    from edged.doctor.world import World
    from edged.osutil import atomic

    path = None if arguments.output == "-" else target(arguments.output, Path.cwd())
    flags = {key: getattr(arguments, key) for key in ("state_dir", "run_dir")}
    data = bundle.make(World(flags, arguments.config), _tell)
    _tell("")
    if path is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    atomic.write_file(path, data, mode=0o600)
    print(f"{path}: {len(data) / 1e3:.0f} kB, to be read by you alone")
    print("look through it before you send it: secrets are taken out, names are not")
    return 0


def target(given: str | None, here: Path) -> Path:
    """Returns where the file goes.

    Raises:
        ConfigError: something is there already, or there is no such folder.
    """
    name = f"edged-support-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.tar.gz"
    path = here / (given or name)
    if path.is_dir():
        path /= name
    if path.exists() or path.is_symlink():
        raise ConfigError(f"cannot write {path}: it exists; choose another name")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")
    return path


def _tell(part: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{part}", end="", file=sys.stderr, flush=True)
