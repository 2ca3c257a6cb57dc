"""``edged run``: the daemon, in the foreground."""

from __future__ import annotations

import argparse
import gc
import logging
from pathlib import Path

HELP = "run the daemon in the foreground, until SIGTERM or ctrl-C"

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; each is a key of the configuration file and an EDGED_* variable too."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    parser.add_argument("--state-dir", metavar="DIR", help="where models are kept")
    parser.add_argument("--run-dir", metavar="DIR", help="where sockets and the lock are")
    parser.add_argument("--listen", metavar="HOST:PORT", help="loopback address for applications")
    parser.add_argument(
        "--runtime", metavar="NAME", help="what runs the model: process, runc, runc-root"
    )
    parser.add_argument("--memory-limit", metavar="MIB", help="of the model's process, in runc")
    parser.add_argument("--cpu-limit", metavar="CPUS", help="of the model's process, in runc")
    parser.add_argument("--process-limit", metavar="N", help="processes and threads, in runc")
    parser.add_argument("--threads", metavar="N", help="of the NPU's emulator")
    parser.add_argument("--isa", metavar="NAME", help="instruction set of the NPU's emulator")
    parser.add_argument(
        "--strict",
        action="store_true",
        default=None,
        help="TensorFlow Serving's errors also where a request can be understood",
    )
    parser.add_argument("--verify", metavar="required|off", help="signatures of images")
    parser.add_argument("--keys-dir", metavar="DIR", help="where trusted public keys are")
    parser.add_argument("--sku", metavar="NAME", help="which NPU this device has")
    parser.add_argument(
        "--window", metavar="SECONDS", help="of good behaviour after a commit; 0 for none"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting, also of a table, such as tls.cert_file=FILE; may be repeated",
    )
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")


def run(arguments: argparse.Namespace) -> int:
    """Runs the daemon; returns when it has stopped in an orderly way."""
    gc.disable()  # until the daemon is up: what is made by then is there to stay
    from edged import config, daemon, log

    flags = {key: getattr(arguments, key) for key in config.KEYS}
    flags |= dict(_pair(each) for each in arguments.set)

    def read() -> config.Config:
        return config.load(flags, file=arguments.config)

    settings = read()
    log.setup(settings.log_level)
    for sentence in config.unknown_variables():
        logger.warning("%s", sentence)
    daemon.run(settings, reread=read)
    return 0


def _pair(text: str) -> tuple[str, str]:
    from edged.errors import ConfigError

    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"cannot use --set {text}: expected KEY=VALUE")
    return key.strip(), value
