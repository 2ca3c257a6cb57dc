"""Runs its argument, for tests of what starts a module in a process."""

from __future__ import annotations

# What the code may use.
import os  # noqa: F401
import signal  # noqa: F401
import subprocess  # noqa: F401
import sys

if __name__ == "__main__":
    exec(sys.argv[1])
