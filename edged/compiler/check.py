"""Is a model one that the compiler can take apart? Everything that is wrong is named.

Our own checks come first because they name node, operator and reason; ``onnx.checker`` has the
last word on what they do not look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edged.compiler.source import tensors
from edged.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

OPSET_OLDEST = 9
NODE_LIMIT = 100_000
RUNTIME_DOMAINS = frozenset({"ai.onnx.ml", "com.microsoft"})
"""Domains whose operators onnxruntime has; they can only run on the CPU."""


def checked(model: ModelProto) -> ModelProto:
    """Returns the model with its local functions inlined, if nothing is wrong with it.

    Raises:
        ModelError: something is wrong; the text names the node, its operator and the reason.
    """
    opset = _check_opset(model)
    model = _inlined(model)
    if len(model.graph.node) > NODE_LIMIT:
        raise ModelError(
            f"cannot load model: {len(model.graph.node)} nodes, at most {NODE_LIMIT} are allowed"
        )
    for each in model.graph.node:
        _check_operator(each, opset)
    _check_names(model.graph)
    for tensor in tensors(model):
        _check_tensor(tensor)
    _check_by_onnx(model)
    return model


def label(node: NodeProto) -> str:
    """Returns the name of a node, or its first output where it has none."""
    return node.name or next((name for name in node.output if name), "?")


def operator(node: NodeProto) -> str:
    """Returns the operator with its domain in front, where that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if _domain(node.domain) else node.op_type


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _check_opset(model: ModelProto) -> int:
    from onnx import defs

    newest = defs.onnx_opset_version()
    found = [each.version for each in model.opset_import if not _domain(each.domain)]
    if len(found) != 1 or not OPSET_OLDEST <= found[0] <= newest:
        names = ", ".join(map(str, found)) or "none"
        raise ModelError(
            f"cannot load model: opset {names}; expected one from {OPSET_OLDEST} to {newest}, "
            "export the model again with such an opset"
        )
    return int(found[0])


def _inlined(model: ModelProto) -> ModelProto:
    from onnx import inliner

    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model)
    except (ValueError, RuntimeError) as exc:
        raise ModelError(f"cannot inline the functions of the model: {exc}") from exc


def _check_operator(node: NodeProto, opset: int) -> None:
    from onnx import defs

    domain = _domain(node.domain)
    if domain in RUNTIME_DOMAINS:
        return
    where = f"node {label(node)!r} ({operator(node)})"
    if domain:
        raise ModelError(f"cannot load {where}: domain {domain!r} is not known")
    if not defs.has(node.op_type, opset, ""):
        raise ModelError(f"cannot load {where}: ONNX opset {opset} has no such operator")


def _check_names(graph: GraphProto) -> None:
    """Every value is defined once, before its first use; so there are no cycles either."""
    known = {each.name for each in graph.input} | {each.name for each in graph.initializer}
    made = {name for node in graph.node for name in node.output}
    for node in graph.node:
        where = f"node {label(node)!r} ({operator(node)})"
        for name in node.input:
            if name and name not in known:
                reason = (
                    "which is made by a later node or by the node itself: the graph has a cycle "
                    "or is out of order"
                    if name in made
                    else "which nothing makes"
                )
                raise ModelError(f"cannot load {where}: it reads {name!r}, {reason}")
        for name in filter(None, node.output):
            if name in known:
                raise ModelError(f"cannot load {where}: {name!r} is made a second time")
            known.add(name)
    for output in graph.output:
        if output.name not in known:
            raise ModelError(f"cannot load model: nothing makes its output {output.name!r}")
    if not graph.output:
        raise ModelError("cannot load model: it has no output")


def _check_tensor(tensor: TensorProto) -> None:
    from onnx import TensorProto, helper, numpy_helper

    name = tensor.name or "without a name"
    if any(each < 0 for each in tensor.dims):
        raise ModelError(f"cannot load tensor {name!r}: a dimension of {list(tensor.dims)} is < 0")
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as exc:
        raise ModelError(f"cannot load tensor {name!r} of {list(tensor.dims)}: {exc}") from exc
    if tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
        bad = int(np.isnan(array).sum())
        if bad:
            kind = helper.tensor_dtype_to_string(tensor.data_type).rpartition(".")[2].lower()
            raise ModelError(f"cannot load tensor {name!r} ({kind}): {bad} of its values are NaN")


def _check_by_onnx(model: ModelProto) -> None:
    from onnx import checker

    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError, RuntimeError) as exc:
        reason = " ".join(str(exc).split())
        raise ModelError(f"cannot load model: {reason}") from exc
