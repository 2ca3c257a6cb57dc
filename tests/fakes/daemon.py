"""The real daemon with the fake worker; takes the flags of ``edged run``.

``EDGED_TEST_KILL`` has a state of a deployment and who is killed with SIGKILL when a deployment
enters it, once: ``daemon``, the worker that is ``serving``, or the other one (``candidate``).

``EDGED_TEST_POINTS`` has a folder: each failpoint of ``edged.osutil.atomic`` that the daemon passes
is a line of ``passed`` there. While there is a file ``kill`` with ``POINT WHO``, they are counted,
from 0 on; at that one (a number, or a name) the file is removed, and WHO killed.

``EDGED_TEST_DELAY`` has the seconds that the answer to a wrong token is held back.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from edged import config, daemon, log
from edged.access import attempts
from edged.deploy.deployment import Deployment
from edged.deploy.types import Progress
from edged.errors import EdgedError
from edged.osutil import atomic


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
    if os.environ.get("EDGED_TEST_POINTS"):
        atomic.failpoint_hook = Points(Path(os.environ["EDGED_TEST_POINTS"]))
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


class Points:
    """Notes failpoints, and kills at one of them; called from several threads."""

    def __init__(self, folder: Path) -> None:
        self._passed, self._kill = folder / "passed", folder / "kill"
        self._counted = 0
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            with self._passed.open("a") as passed:
                passed.write(f"{name}\n")
            if not self._kill.exists():
                self._counted = 0
                return
            point, who = self._kill.read_text().split()
            if point in (str(self._counted), name):
                self._kill.unlink()
                kill(who)
            self._counted += 1


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
