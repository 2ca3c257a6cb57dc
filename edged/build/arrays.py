"""Named arrays as .npz files whose bytes depend on the arrays alone.

``numpy.savez`` promises no bytes, and an image's digest covers them. Members are stored
uncompressed, in order of names, with the oldest time that a zip can state.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_TIME = (1980, 1, 1, 0, 0, 0)


def write_npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Returns a file that ``numpy.load`` reads without pickles."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", _TIME)
            member.create_system = 3  # Unix, wherever this runs
            archive.writestr(member, _npy(arrays[name]))
    return out.getvalue()


def _npy(array: npt.NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
    return out.getvalue()
