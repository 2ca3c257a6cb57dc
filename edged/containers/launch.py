"""``python -m edged.containers.launch PARENT MODULE ARGUMENT...``: a module that dies with PARENT.

PARENT is the process id of the daemon. The kernel sends SIGKILL when the daemon is gone, so that a
worker that is busy, or hangs, does not keep the NPU from the next daemon.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Runs the module in this process."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel was asked
        sys.exit(1)
    sys.argv[1:] = sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
