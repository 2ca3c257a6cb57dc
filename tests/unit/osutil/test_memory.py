"""Threads share heaps, so that what one of them once needed is not kept once for each of them."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Threads that are all there at once, each with something from the heap; then how many heaps.
CODE = """
import ctypes, sys, threading
from edged.osutil import memory
if sys.argv[1] == "shared":
    memory.share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(6)
def work():
    libc.malloc(ctypes.c_size_t(1000))
    together.wait()
threads = [threading.Thread(target=work) for _ in range(5)]
for thread in threads:
    thread.start()
together.wait()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="this is not glibc")
def test_all_threads_but_the_first_share_one_heap() -> None:
    def heaps(how: str) -> int:
        command = [sys.executable, "-c", CODE, how]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
        return ran.stdout.count(b"<heap nr=")

    assert heaps("shared") == 2
    assert heaps("as usual") > 2
