"""Golden tests: what a device must answer before it takes a model into service.

The NPU's part is exact: seeded inputs, and the bits that the definition (``edged.npu.reference``)
gives for them. The pipeline's part has a tolerance, because CPU stages differ from CPU to CPU; its
answers are rounded to a fraction of that tolerance, so that a build on another CPU gives the same
file and the image the same digest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edged import npu
from edged.build import draw
from edged.build.arrays import write_npz
from edged.errors import ModelError
from edged.manifest import Golden, ImageStage, Manifest

Arrays = dict[str, npt.NDArray[Any]]

NPU_INPUTS, NPU_OUTPUTS = "golden/npu-inputs.npz", "golden/npu-outputs.npz"
INPUTS, OUTPUTS = "golden/inputs.npz", "golden/outputs.npz"
TOLERANCE = 0.02
_SEED = 20240229
_ROUNDING = 16  # answers are rounded to at most this part of the tolerance


def npu_files(manifest: Manifest, program: npu.Program) -> tuple[dict[str, bytes], Arrays]:
    """Returns the files of the NPU's part, and its outputs.

    Raises:
        ModelError: the program gives no finite answer.
    """
    inputs = _npu_inputs(manifest, program)
    outputs: Arrays = dict(npu.reference.run(program, inputs))
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise ModelError(f"cannot make golden answers: NPU output {name!r} is not finite")
    return {NPU_INPUTS: write_npz(inputs), NPU_OUTPUTS: write_npz(outputs)}, outputs


def _npu_inputs(manifest: Manifest, program: npu.Program) -> Arrays:
    """A picture's values where an image stage feeds the NPU, else normal ones."""
    drawing = draw.Drawing(_SEED)
    images = {s.output: s.preprocess for s in manifest.stages if isinstance(s, ImageStage)}
    found: Arrays = {}
    for port in program.inputs:
        preprocess = images.get(port.name)
        if preprocess is None:
            found[port.name] = drawing.array(port.shape)
        else:
            found[port.name] = draw.normalised(drawing.picture(*preprocess.size), preprocess)
    return found


def pipeline_inputs(manifest: Manifest) -> tuple[bytes, dict[str, Any]]:
    """Returns the file of the pipeline's inputs, and them as ``Pipeline.run`` takes them."""
    sent = draw.inputs(manifest, _SEED + 1)
    stored: Arrays = {}
    for name, value in sent.items():
        if isinstance(value, list):  # of one picture
            stored[f"{name}/0"] = np.frombuffer(value[0], np.uint8)
        else:
            stored[name] = value
    return write_npz(stored), sent


def pipeline_outputs(folder: Path, sent: Mapping[str, Any]) -> bytes:
    """Runs the model in ``folder`` and returns the file of its answers.

    Raises:
        ModelError: it cannot be run, or gives an answer that is not finite.
    """
    from edged.worker.pipeline import Pipeline

    pipeline = Pipeline.open(folder)
    try:
        outputs = pipeline.run(sent).outputs
    finally:
        pipeline.close()
    return write_npz({name: rounded(name, array) for name, array in outputs.items()})


def rounded(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns floats rounded to a power of two well below the tolerance, others as they are.

    Raises:
        ModelError: a value is not finite.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return array
    if not np.isfinite(array).all():
        raise ModelError(f"cannot make golden answers: output {name!r} is not finite")
    scale = max(1.0, float(np.abs(array).max()))
    step = 2.0 ** math.floor(math.log2(TOLERANCE * scale / _ROUNDING))
    return np.asarray(np.round(array.astype(np.float64) / step) * step + 0.0, array.dtype)


def golden(npu_outputs: Arrays) -> Golden:
    """Returns the manifest's entry for these files."""
    return Golden(
        npu_inputs=NPU_INPUTS,
        npu_outputs=NPU_OUTPUTS,
        npu_sha256=tuple((name, _sha256(npu_outputs[name])) for name in sorted(npu_outputs)),
        pipeline_inputs=INPUTS,
        pipeline_outputs=OUTPUTS,
        tolerance=TOLERANCE,
    )


def _sha256(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()
