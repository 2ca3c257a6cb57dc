"""The golden test: known inputs must give known answers before a model goes into service.

Invariants:
- The NPU's answers must be the golden ones to the bit, which is what the manifest's digests say.
- The pipeline's may differ by the manifest's tolerance, because CPU stages differ between CPUs.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edged.errors import ModelError, RequestError
from edged.manifest import Golden
from edged.worker.pipeline import Pipeline

Array: TypeAlias = npt.NDArray[Any]

SIZE_LIMIT = 256 * 1024 * 1024  # bytes of all arrays of one file


def digest(array: Array) -> str:
    """Returns the SHA-256 of an array's values as little-endian float32, row-major, in hex."""
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()


def read(path: Path) -> dict[str, Array]:
    """Returns the arrays of an .npz file.

    Raises:
        ModelError: the file is missing, damaged or too large.
    """
    try:
        return _arrays(path)
    except Exception as exc:  # damaged bytes reach zipfile, its decoders and NumPy's parser
        cause = str(exc) or type(exc).__name__
        raise ModelError(f"cannot read {path.name} of the model: {cause}") from exc


def _arrays(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > SIZE_LIMIT:
            raise ValueError(f"it holds {size} bytes of arrays, expected at most {SIZE_LIMIT}")
        return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array


def check(pipeline: Pipeline, folder: Path) -> None:
    """Runs the golden test of the model in a folder.

    Raises:
        ModelError: the model has none, or does not pass; the text says by what.
    """
    golden = pipeline.manifest.golden
    if golden is None:
        raise ModelError("the manifest names no golden test: build the model again")
    _check_npu(pipeline, folder, golden)
    _check_pipeline(pipeline, folder, golden)


def _check_npu(pipeline: Pipeline, folder: Path, golden: Golden) -> None:
    expected = read(folder / golden.npu_outputs)
    got = pipeline.npu.run(_needed(read(folder / golden.npu_inputs), pipeline.manifest.npu.inputs))
    for name, sha256 in golden.npu_sha256:
        if name not in expected or digest(expected[name]) != sha256:
            raise ModelError(f"NPU output {name!r} in {golden.npu_outputs} has not its digest")
        if digest(got[name]) != sha256:
            raise ModelError(f"NPU output {name!r}: {_difference(got[name], expected[name])}")


def _check_pipeline(pipeline: Pipeline, folder: Path, golden: Golden) -> None:
    expected = read(folder / golden.pipeline_outputs)
    arrays = read(folder / golden.pipeline_inputs)
    inputs: dict[str, Any] = {}
    for spec in pipeline.manifest.signature.inputs:
        if spec.type == "string":
            inputs[spec.name] = _pictures(spec.name, arrays)
        else:
            inputs |= _needed(arrays, [spec.name])
    try:
        got = pipeline.run(inputs).outputs
    except RequestError as exc:
        raise ModelError(f"the model refuses its golden inputs: {exc}") from exc
    for name, array in _needed(expected, got).items():
        if got[name].shape != array.shape:
            raise ModelError(f"output {name!r}: {_difference(got[name], array)}")
        allowed = golden.tolerance * max(1.0, float(np.abs(array).max(initial=0)))
        # Written so that a NaN is no pass.
        if not np.abs(got[name].astype(np.float64) - array).max(initial=0) <= allowed:
            cause = _difference(got[name], array)
            raise ModelError(f"output {name!r}: {cause}, allowed {allowed:g}")


def _needed(arrays: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
    missing = sorted(set(names) - set(arrays))
    if missing:
        raise ModelError(f"the golden files have no arrays {missing}")
    return {name: arrays[name] for name in names}


def _pictures(name: str, arrays: Mapping[str, Array]) -> list[bytes]:
    count = 0
    while f"{name}/{count}" in arrays:
        count += 1
    if not count:
        raise ModelError(f"the golden files have no picture {name}/0")
    return [arrays[f"{name}/{index}"].tobytes() for index in range(count)]


def _difference(got: Array, expected: Array) -> str:
    if got.shape != expected.shape:
        return f"shape {list(got.shape)}, expected {list(expected.shape)}"
    apart = np.abs(got.astype(np.float64) - expected)
    return (
        f"{np.count_nonzero(got != expected)} of {got.size} values differ, by up to {apart.max():g}"
    )
