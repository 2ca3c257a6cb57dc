"""Whatever a model holds, it compiles or it is refused with a ModelError; nothing else happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from edged import compiler
from edged.errors import ModelError
from tests.unit.compiler.graphs import MODELS

SOURCES = {path.stem: path.read_bytes() for path in sorted(MODELS.glob("*.onnx"))}
NUMBERS = st.sampled_from([-(1 << 63), -(1 << 31), -3, -1, 0, 1, 2, 3, 7, 65537, (1 << 63) - 1])
Draw = Any


def survives(data: bytes) -> None:
    """Returns if the model compiles or is refused by name of a reason."""
    for classifier in ("cpu", "npu"):
        try:
            compiler.partition(data, classifier=classifier)
        except ModelError as exc:
            reason = str(exc)
        else:
            reason = "compiled"
        assert reason


@given(st.data(), st.sampled_from(sorted(SOURCES)))
def test_damaged_files(data: st.DataObject, name: str) -> None:
    damaged = bytearray(SOURCES[name])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]

    survives(bytes(damaged))


def change_attribute(draw: Draw, graph: onnx.GraphProto) -> None:
    node = draw(st.sampled_from([each for each in graph.node if each.attribute]))
    attribute = draw(st.sampled_from(list(node.attribute)))
    if attribute.ints:
        attribute.ints[draw(st.integers(0, len(attribute.ints) - 1))] = draw(NUMBERS)
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = draw(st.sampled_from([b"", b"SAME_UPPER", b"reflect", b"\xff\xfe"]))
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = draw(st.floats(width=32))
    else:
        attribute.i = draw(NUMBERS)


def drop_attribute(draw: Draw, graph: onnx.GraphProto) -> None:
    node = draw(st.sampled_from([each for each in graph.node if each.attribute]))
    del node.attribute[draw(st.integers(0, len(node.attribute) - 1))]


def lengthen_attribute(draw: Draw, graph: onnx.GraphProto) -> None:
    node = draw(st.sampled_from([each for each in graph.node if each.attribute]))
    node.attribute[draw(st.integers(0, len(node.attribute) - 1))].ints.append(draw(NUMBERS))


def rewire(draw: Draw, graph: onnx.GraphProto) -> None:
    names = ["", *(name for each in graph.node for name in (*each.input, *each.output))]
    node = draw(st.sampled_from([each for each in graph.node if each.input]))
    node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(names))


def drop_input(draw: Draw, graph: onnx.GraphProto) -> None:
    node = draw(st.sampled_from([each for each in graph.node if each.input]))
    del node.input[draw(st.integers(0, len(node.input) - 1)) :]


def change_operator(draw: Draw, graph: onnx.GraphProto) -> None:
    node = draw(st.sampled_from(list(graph.node)))
    node.op_type = draw(
        st.sampled_from(["Relu", "Conv", "Add", "Pad", "Gemm", "If", "", "NonZero"])
    )


def change_integers(draw: Draw, graph: onnx.GraphProto) -> None:
    tensors = [each for each in graph.initializer if each.data_type == onnx.TensorProto.INT64]
    tensors += [
        a.t
        for each in graph.node
        for a in each.attribute
        if a.HasField("t") and a.t.data_type == onnx.TensorProto.INT64
    ]
    if tensors:
        tensor = draw(st.sampled_from(tensors))
        # Not to_array(): an earlier change may have left it a shape that its values do not fill.
        stored = np.frombuffer(tensor.raw_data, np.int64) if tensor.raw_data else tensor.int64_data
        values = np.array(stored, np.int64)
        if values.size:
            values[draw(st.integers(0, values.size - 1))] = draw(NUMBERS)
            tensor.raw_data = values.tobytes()


def change_shape(draw: Draw, graph: onnx.GraphProto) -> None:
    tensor = draw(st.sampled_from(list(graph.initializer)))
    if tensor.dims:
        tensor.dims[draw(st.integers(0, len(tensor.dims) - 1))] = draw(NUMBERS)


def change_input(draw: Draw, graph: onnx.GraphProto) -> None:
    dims = graph.input[0].type.tensor_type.shape.dim
    dims[draw(st.integers(0, len(dims) - 1))].dim_value = draw(NUMBERS)


def drop_node(draw: Draw, graph: onnx.GraphProto) -> None:
    del graph.node[draw(st.integers(0, len(graph.node) - 1))]


def change_opset(draw: Draw, graph: onnx.GraphProto, model: onnx.ModelProto) -> None:
    model.opset_import[0].version = draw(st.integers(8, 30))


CHANGES = [
    change_attribute,
    change_attribute,
    drop_attribute,
    lengthen_attribute,
    rewire,
    drop_input,
    change_operator,
    change_integers,
    change_integers,
    change_shape,
    change_input,
    drop_node,
]


@given(st.data(), st.sampled_from(sorted(SOURCES)))
def test_models_with_something_else_in_them(data: st.DataObject, name: str) -> None:
    made = onnx.load_model_from_string(SOURCES[name])
    if data.draw(st.integers(0, 5)) == 0:
        change_opset(data.draw, made.graph, made)
    for _ in range(data.draw(st.integers(1, 3))):
        data.draw(st.sampled_from(CHANGES))(data.draw, made.graph)

    survives(made.SerializeToString())
