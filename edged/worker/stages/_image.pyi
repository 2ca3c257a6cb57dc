from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

def from_bytes(
    pixels: bytes | bytearray | memoryview,
    pixel_bytes: int,
    height: int,
    width: int,
    transform: Sequence[float],
    out: npt.NDArray[np.float32],
) -> None: ...
def from_arrow(
    schema: object,
    array: object,
    height: int,
    width: int,
    transform: Sequence[float],
    out: npt.NDArray[np.float32],
) -> None: ...
