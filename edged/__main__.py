"""The ``edged`` command: what went wrong becomes one line and an exit status, here alone.

0: done. 1: failed. 2: wrong usage, or a configuration that cannot be used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from edged import cli
from edged.errors import ConfigError, EdgedError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    try:
        return cli.main(sys.argv[1:] if arguments is None else arguments)
    except ConfigError as exc:
        return _fail(exc, USAGE)
    except EdgedError as exc:
        return _fail(exc, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; closing it at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _fail(error: EdgedError, status: int) -> int:
    print(f"edged: {' '.join(str(error).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
