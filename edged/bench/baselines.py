"""onnxruntime on the same graph, float32 and int8, as what the NPU's speed is held against.

The graph is cut where the NPU's part ends. The int8 one is what onnxruntime's users get: batch
norms folded by its own optimiser, then static quantisation, QDQ form, weights per channel.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edged.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto

Feed = Mapping[str, npt.NDArray[np.float32]]


def cut(
    model: ModelProto,
    outputs: Sequence[str],
    inputs: Mapping[str, Sequence[int]] | None = None,
) -> ModelProto:
    """Returns the graph that computes these values and nothing else.

    Args:
        model: not changed.
        outputs: names of values in it.
        inputs: shapes of the values that it begins with; None for its own inputs.

    Raises:
        ModelError: no node makes one of them.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    given = dict(inputs or {})
    wanted, kept = set(outputs), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output) - given.keys():
            kept.append(node)
            wanted.update(node.input)
    made = {name for node in kept for name in node.output}
    missing = sorted(set(outputs) - made)
    if missing:
        raise ModelError(f"cannot cut graph: no node makes {missing}")
    result = type(model)()
    result.CopyFrom(model)
    replaced: list[tuple[str, list[Any]]] = [
        ("node", kept[::-1]),
        ("initializer", [t for t in graph.initializer if t.name in wanted]),
        ("output", [helper.make_empty_tensor_value_info(name) for name in outputs]),
    ]
    if inputs is not None:
        infos = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in given.items()
        ]
        # What was inferred for other shapes would contradict these.
        replaced += [("input", infos), ("value_info", [])]
    for field, items in replaced:
        result.graph.ClearField(field)
        getattr(result.graph, field).extend(items)
    return result


def session(model: bytes, threads: int) -> Any:
    """Returns an onnxruntime session at its best: all optimisations, its threads spinning.

    Whoever is measured next has to wait until they sleep.
    """
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def quantise(model: ModelProto, feeds: Sequence[Feed], *, but: Sequence[str] = ()) -> bytes:
    """Returns the graph in int8.

    Args:
        model: float32.
        feeds: inputs that the ranges of activations are taken from.
        but: operators that stay float32.
    """
    _onnxruntime()
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Hands the feeds over one by one."""

        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory(prefix="edged-bench-") as name, _quiet():
        folder = Path(name)
        (folder / "float32.onnx").write_bytes(model.SerializeToString())
        shape_inference.quant_pre_process(
            folder / "float32.onnx", folder / "folded.onnx", skip_symbolic_shape=True
        )
        quantization.quantize_static(
            folder / "folded.onnx",
            folder / "int8.onnx",
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=_kinds(but),
        )
        return (folder / "int8.onnx").read_bytes()


def _kinds(but: Sequence[str]) -> list[str]:
    """Returns the operators that onnxruntime quantises, all but some."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry} - set(but))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantiser's advice to the root logger away from whoever reads our output."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _onnxruntime() -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime
