"""Types of the C extension, ``ext/_native.pyx``; a test compares the names."""

from typing import Any

import numpy as np
import numpy.typing as npt

def available() -> tuple[str, ...]: ...
def quantise(
    halves: npt.NDArray[np.uint16], mantissa: int, zero: int, isa: str
) -> tuple[npt.NDArray[np.uint8], float]: ...
def peak(isa: str, seconds: float) -> float: ...

class Loaded:
    def __init__(
        self,
        maps: list[tuple[int, int, int, int]],
        chains: list[dict[str, Any]],
        inputs: list[tuple[int, int]],
        outputs: list[tuple[int, int]],
        mantissa: int,
        numerics: int,
        threads: int,
        isa: str | None,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    def run(
        self, inputs: list[npt.NDArray[np.float32]], outputs: list[npt.NDArray[np.float32]]
    ) -> int: ...
    def times(self) -> npt.NDArray[np.uint64]: ...
    def counters(self) -> dict[str, int]: ...
