"""Small ONNX models for the compiler's tests, and running what the compiler made of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edged import compiler
from edged.npu import Program, reference
from edged.npu.reference import Numerics

MODELS = Path(__file__).parent / "models"
Array = npt.NDArray[Any]
Shape = Sequence["int | str"]

ort.set_default_logger_severity(4)


def node(op: str, inputs: str, outputs: str, /, **attributes: Any) -> NodeProto:
    """A node; names are separated by spaces, ``-`` is an absent one. Named after its output."""
    reads, makes = (["" if n == "-" else n for n in each.split()] for each in (inputs, outputs))
    attributes.setdefault("name", makes[0])
    return helper.make_node(op, reads, makes, **attributes)


def model(
    nodes: Sequence[NodeProto],
    *,
    inputs: Mapping[str, Shape] | None = None,
    outputs: Sequence[str] = ("y",),
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model; outputs announce no shape."""
    entries = {"x": [1, 3, 8, 8]} if inputs is None else inputs
    tensors = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in (constants or {}).items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, element, shape) for name, shape in entries.items()],
        [helper.make_tensor_value_info(name, element, None) for name in outputs],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def weights(*shape: int, seed: int = 0, scale: float = 0.3) -> Array:
    """Random float32 weights that are float16 values, so that only folding rounds them."""
    found = np.random.default_rng([seed, *shape]).standard_normal(shape) * scale
    return found.astype(np.float16).astype(np.float32)


def norm_constants(channels: int, *, seed: int = 0, prefix: str = "") -> dict[str, Array]:
    """Random gamma, beta, mean and variance of a batch norm."""
    rng = np.random.default_rng([seed, channels])
    return {
        f"{prefix}gamma": rng.uniform(0.5, 1.5, channels).astype(np.float32),
        f"{prefix}beta": rng.normal(0, 0.3, channels).astype(np.float32),
        f"{prefix}mean": rng.normal(0, 0.3, channels).astype(np.float32),
        f"{prefix}variance": rng.uniform(0.5, 2, channels).astype(np.float32),
    }


def feeds_for(inputs: Sequence[Any], seed: int = 0) -> dict[str, Array]:
    """Random inputs of a batch of 1, float16 values."""
    rng = np.random.default_rng(seed)
    return {
        each.name: rng.standard_normal([max(size, 1) for size in each.shape])
        .astype(np.float16)
        .astype(np.float32)
        for each in inputs
    }


def run_onnx(source: onnx.ModelProto | Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What onnxruntime answers, float32; only the inputs it has are given."""
    data = source.read_bytes() if isinstance(source, Path) else source.SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # As the graph stands: its optimiser (1.31) pads the input of a MaxPool with minus infinity
    # where the graph's Pad says zero.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    given = {each.name: feeds[each.name] for each in session.get_inputs()}
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def run_partition(
    parts: compiler.Partition, feeds: Mapping[str, Array], numerics: Numerics
) -> dict[str, Array]:
    """What the parts answer one after the other, the NPU's by the reference."""
    values = dict(feeds)
    if parts.pre is not None:
        onnx.checker.check_model(parts.pre, full_check=True)
        values.update(run_onnx(parts.pre, values))
    given = {port.name: values[port.name] for port in parts.program.inputs}
    values.update(reference.run(parts.program, given, numerics=numerics))
    for part in (parts.post, parts.boxes):
        if part is not None:
            onnx.checker.check_model(part, full_check=True)
            values.update(run_onnx(part, values))
    return values


def relative_error(found: Array, expected: Array, *, floor: float = 1e-6) -> float:
    """The largest difference, relative to the largest value expected, or to the floor if larger."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), floor))


def check_program(source: onnx.ModelProto, *, within: float = 1e-3, **options: Any) -> Program:
    """Compiles all of a model and holds the program, without block rounding, to onnxruntime."""
    program = compiler.compile(source, **options)
    feeds = feeds_for(program.inputs)
    expected = run_onnx(source, feeds)
    found = reference.run(program, feeds, numerics="float32")
    assert list(found) == [port.name for port in program.outputs]
    for name, each in expected.items():
        assert relative_error(found[name], each) < within, name
    return program


def kinds(program: Program) -> list[str]:
    """The kinds of a program's chains, in order."""
    return [type(chain).__name__ for chain in program.chains]
