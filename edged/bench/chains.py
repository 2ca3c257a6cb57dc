"""The time of each chain of a program on this machine, beside what a board would take for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edged import npu
from edged.bench.rounds import median
from edged.npu import timing

RUNS, WARM_UP = 7, 2


def measured(
    program: npu.Program, *, threads: int | None = None, isa: str | None = None
) -> tuple[list[float], str]:
    """Returns the median microseconds of entry, each chain and exit, and what measured them.

    The input is zeros: no chain's time depends on values.

    Args:
        program: runs on a device that is opened for this.
        threads: of the device; None for one a usable CPU.
        isa: its kernels; None for the best here.

    Raises:
        DeviceError: there is no such device.
    """
    device = npu.open(threads=threads, isa=isa)
    device.load(program)
    zeros = {port.name: np.zeros(port.shape, np.float32) for port in program.inputs}
    rows = []
    for number in range(WARM_UP + RUNS):
        device.run(zeros)
        if number >= WARM_UP:
            rows.append(device.times_us())
    spent = [median(column) for column in zip(*rows, strict=True)]
    return spent, f"{device.isa}, {device.threads} threads"


def rows(program: npu.Program, spent: list[float]) -> list[dict[str, Any]]:
    """Returns a row for each chain: work, measured and predicted microseconds.

    Args:
        program: that was measured.
        spent: as ``measured`` returns it.
    """
    predicted = timing.predicted_us(program)
    made = []
    for index, chain in enumerate(program.chains):
        target, window = program.tensors[chain.target], getattr(chain, "window", None)
        made.append(
            {
                "chain": index,
                "kind": type(chain).__name__,
                "output": [target.height, target.width, target.channels],
                "kernel": None if window is None else list(window.kernel),
                "gmac": round(timing.macs(program, chain) / 1e9, 5),
                "measured_us": round(spent[index + 1], 2),
                "predicted_us": round(predicted[index], 2),
            }
        )
    return made
