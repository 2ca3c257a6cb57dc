"""Is a model one that the compiler can take apart? Everything that is wrong is named.

Our own checks come first because they name node, operator and reason; ``onnx.checker`` has the
last word on what they do not look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from edged.compiler.source import tensors
from edged.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

OPSET_OLDEST = 9
NODE_LIMIT = 100_000
FUNCTION_DEPTH = 100
SIDE_LIMIT = 1 << 16
"""What a kernel, stride, dilation or pad may be at most."""
RUNTIME_DOMAINS = frozenset({"ai.onnx.ml", "com.microsoft"})
"""Domains whose operators onnxruntime has; they can only run on the CPU."""


def checked(model: ModelProto) -> ModelProto:
    """Returns the model with its local functions inlined, if nothing is wrong with it.

    Raises:
        ModelError: something is wrong; the text names the node, its operator and the reason.
    """
    opset = _check_opset(model)
    model = _inlined(model)
    _check_count(len(model.graph.node))
    for each in _all_nodes(model.graph):
        _check_operator(each, opset)
        _check_attributes(each)
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
    _check_count(_inlined_count(model))
    try:
        return inliner.inline_local_functions(model)
    except (ValueError, RuntimeError) as exc:
        raise ModelError(f"cannot inline the functions of the model: {exc}") from exc


def _inlined_count(model: ModelProto) -> int:
    """Returns how many nodes inlining makes; functions that call others twice double each time."""
    bodies = {(each.domain, each.name): each.node for each in model.functions}
    counts: dict[tuple[str, str], int] = {}
    path: list[tuple[str, str]] = []

    def count(nodes: Iterable[NodeProto]) -> int:
        return sum(call((node.domain, node.op_type)) for node in nodes)

    def call(name: tuple[str, str]) -> int:
        if name not in bodies:
            return 1
        if name in path or len(path) > FUNCTION_DEPTH:
            raise ModelError(
                f"cannot inline function {name[1]!r}: it calls itself, or calls are nested more "
                f"than {FUNCTION_DEPTH} deep"
            )
        if name not in counts:
            path.append(name)
            counts[name] = count(bodies[name])
            path.pop()
        return counts[name]

    return count(model.graph.node)


def _check_count(nodes: int) -> None:
    if nodes > NODE_LIMIT:
        raise ModelError(f"cannot load model: {nodes} nodes, at most {NODE_LIMIT} are allowed")


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yields the nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner)


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


def _check_attributes(node: NodeProto) -> None:
    """What shape inference would divide by, or trust."""
    for attribute in node.attribute:
        values = attribute.ints or [attribute.i]
        if attribute.name in {"kernel_shape", "strides", "dilations", "group"}:
            low = 1
        elif attribute.name == "pads":
            low = -SIDE_LIMIT if node.op_type == "Pad" else 0
        else:
            continue
        if any(not low <= each <= SIDE_LIMIT for each in values):
            raise ModelError(
                f"cannot load node {label(node)!r} ({operator(node)}): {attribute.name} is "
                f"{list(values)}; expected {low} to {SIDE_LIMIT}"
            )


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


def _with_output_shapes(model: ModelProto) -> ModelProto:
    """Returns the model with outputs that announce a shape; runtimes do not ask for one."""
    from onnx import ModelProto, TensorProto

    if all(each.type.tensor_type.HasField("shape") for each in model.graph.output):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for each in copy.graph.output:
        if not each.type.WhichOneof("value"):
            each.type.tensor_type.elem_type = TensorProto.FLOAT
        if each.type.HasField("tensor_type"):
            each.type.tensor_type.shape.SetInParent()
    return copy


def _check_by_onnx(model: ModelProto) -> None:
    from onnx import checker

    try:
        checker.check_model(_with_output_shapes(model))
    except (checker.ValidationError, ValueError, RuntimeError) as exc:
        reason = " ".join(str(exc).split())
        raise ModelError(f"cannot load model: {reason}") from exc
