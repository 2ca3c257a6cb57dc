"""The real daemon with the fake worker; takes the flags of ``edged run``.

``EDGED_TEST_KILL`` has a state of a deployment and who is killed with SIGKILL when a deployment
enters it, once: ``daemon``, the worker that is ``serving``, or the other one (``candidate``).
``EDGED_TEST_DELAY`` has the seconds that the answer to a wrong token is held back.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from edged import config, daemon, log
from edged.access import attempts
from edged.deploy.deployment import Deployment
from edged.deploy.types import Progress
from edged.errors import EdgedError


def main() -> int:
    """Runs the daemon."""
    flags = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    given = {key[2:].replace("-", "_"): value for key, value in flags.items()}

    def read() -> config.Config:
        return config.load(given)

    settings = read()
    log.setup(settings.log_level)
    attempts.DELAY = float(os.environ.get("EDGED_TEST_DELAY", attempts.DELAY))
    if os.environ.get("EDGED_TEST_KILL"):
        kill_at(*os.environ["EDGED_TEST_KILL"].split())
    try:
        daemon.run(settings, "tests.fakes.worker", read)
    except EdgedError as exc:
        print(f"edged: {exc}", file=sys.stderr)
        return 1
    return 0


def kill_at(state: str, who: str) -> None:
    """Has somebody killed when a deployment enters a state for the first time."""
    tell = Deployment.tell
    done: list[str] = []

    def tell_and_kill(deployment: Deployment, progress: Progress) -> None:
        tell(deployment, progress)
        if progress.state.value == state and not done:
            done.append(state)
            kill(who)

    Deployment.tell = tell_and_kill  # type: ignore[method-assign,assignment]


def kill(who: str) -> None:
    """Kills the daemon, its oldest worker (``serving``) or its youngest (``candidate``)."""
    if who == "daemon":
        os.kill(os.getpid(), signal.SIGKILL)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    workers = sorted(map(int, children), key=_started)
    if who == "serving" and workers:
        os.kill(workers[0], signal.SIGKILL)
    elif len(workers) > 1:
        os.kill(workers[-1], signal.SIGKILL)


def _started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


if __name__ == "__main__":
    sys.exit(main())
