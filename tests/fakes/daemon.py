"""The real daemon with the fake worker; takes the flags of ``edged run``."""

from __future__ import annotations

import sys

from edged import config, daemon, log
from edged.errors import EdgedError


def main() -> int:
    """Runs the daemon."""
    flags = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    settings = config.load({key[2:].replace("-", "_"): value for key, value in flags.items()})
    log.setup(settings.log_level)
    try:
        daemon.run(settings, module="tests.fakes.worker")
    except EdgedError as exc:
        print(f"edged: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
