"""How fast this machine could multiply, measured now: what a time on it can be held against.

The dot product instruction of a set of kernels, alone in a loop (``ext/bfp/peak.h``). The clock may
depend on how many cores work, so it is measured on one thread and on all of them at once.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edged.npu import _native

SECONDS = 0.3


@dataclass(frozen=True)
class Peak:
    """Multiplications and additions of 8-bit numbers a second.

    Attributes:
        isa: of the kernels.
        one: of one thread alone.
        together: of all threads at once, in all.
        threads: how many those are.
    """

    isa: str
    one: float
    together: float
    threads: int


def measure(isa: str, threads: int, seconds: float = SECONDS) -> Peak | None:
    """Measures it; None for kernels without a dot product instruction.

    Args:
        isa: name of the kernels, which this CPU has.
        threads: at once; they use the first processors that we may use.
        seconds: for each of the two measurements.
    """
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    barrier = threading.Barrier(threads)

    def together(_number: int) -> float:
        os.sched_setaffinity(0, cpus)  # of this thread
        barrier.wait()
        return _native.peak(isa, seconds)

    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(_native.peak, isa, seconds).result()
    if not one:
        return None
    with ThreadPoolExecutor(threads) as pool:
        rates = list(pool.map(together, range(threads)))
    return Peak(isa, one, sum(rates), threads)
