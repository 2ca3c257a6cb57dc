"""Random small graphs: the parts answer as onnxruntime, and the two ways of running agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import assume, given
from hypothesis import strategies as st

from edged import compiler
from edged.errors import ModelError
from edged.npu import reference
from tests.unit.compiler.graphs import (
    Array,
    feeds_for,
    model,
    node,
    norm_constants,
    relative_error,
    run_onnx,
    run_partition,
    weights,
)

Draw = Any


@dataclass
class Sketch:
    """A graph in the making.

    Attributes:
        values: feature maps made so far, with channels, height and width.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    values: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, op: str, inputs: str, shape: tuple[int, int, int], **attributes: Any) -> str:
        """Adds a node and returns its value."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(op, inputs, name, **attributes))
        self.values[name] = shape
        return name

    def constant(self, value: Array) -> str:
        """Adds a constant and returns its name."""
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name


def convolve(draw: Draw, sketch: Sketch, x: str) -> None:
    channels, height, width = sketch.values[x]
    rows = draw(st.sampled_from([1, 3, 5, 17]))
    kernel = [draw(st.integers(1, min(3, side))) for side in (height, width)]
    strides = draw(st.lists(st.integers(1, 2), min_size=2, max_size=2))
    pads = draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))
    size = [
        (side + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1
        for i, side in enumerate((height, width))
    ]
    w = sketch.constant(weights(rows, channels, *kernel, seed=len(sketch.nodes)))
    b = sketch.constant(weights(rows, seed=len(sketch.nodes))) if draw(st.booleans()) else ""
    sketch.add("Conv", f"{x} {w} {b}", (rows, size[0], size[1]), strides=strides, pads=pads)


def batch_norm(draw: Draw, sketch: Sketch, x: str) -> None:
    found = norm_constants(sketch.values[x][0], seed=draw(st.integers(0, 99)))
    names = [sketch.constant(value) for value in found.values()]
    sketch.add("BatchNormalization", f"{x} {' '.join(names)}", sketch.values[x])


def per_channel(draw: Draw, sketch: Sketch, x: str) -> None:
    k = sketch.constant(weights(sketch.values[x][0], 1, 1, seed=draw(st.integers(0, 99))) + 1)
    sketch.add(draw(st.sampled_from(["Mul", "Add"])), f"{x} {k}", sketch.values[x])


def activate(draw: Draw, sketch: Sketch, x: str) -> None:
    if draw(st.booleans()):
        sketch.add("Relu", x, sketch.values[x])
        return
    low, high = (sketch.constant(np.array(each, np.float32)) for each in (0, 6))
    sketch.add("Clip", f"{x} {low} {high}", sketch.values[x])


def add(draw: Draw, sketch: Sketch, x: str) -> None:
    alike = [name for name, shape in sketch.values.items() if shape == sketch.values[x]]
    other = draw(st.sampled_from(alike))
    sketch.add(draw(st.sampled_from(["Add", "Sum"])), f"{x} {other}", sketch.values[x])


def pool(draw: Draw, sketch: Sketch, x: str) -> None:
    channels, height, width = sketch.values[x]
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    kernel = draw(st.integers(1, min(3, height, width)))
    stride, pad = draw(st.integers(1, 2)), draw(st.integers(0, kernel - 1))
    size = [(side + 2 * pad - kernel) // stride + 1 for side in (height, width)]
    options = {"count_include_pad": 1} if op == "AveragePool" and draw(st.booleans()) else {}
    sketch.add(
        op,
        x,
        (channels, size[0], size[1]),
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[pad] * 4,
        **options,
    )


def concat(draw: Draw, sketch: Sketch, x: str) -> None:
    pixels = sketch.values[x][1:]
    alike = [name for name, shape in sketch.values.items() if shape[1:] == pixels]
    parts = [x, *draw(st.lists(st.sampled_from(alike), min_size=1, max_size=2))]
    channels = sum(sketch.values[name][0] for name in parts)
    sketch.add("Concat", " ".join(parts), (channels, *pixels), axis=1)


def pad(draw: Draw, sketch: Sketch, x: str) -> None:
    amounts = draw(st.lists(st.integers(0, 2), min_size=6, max_size=6))
    p = sketch.constant(np.array([0, *amounts[:3], 0, *amounts[3:]], np.int64))
    c, h, w = (sketch.values[x][i] + amounts[i] + amounts[i + 3] for i in range(3))
    sketch.add("Pad", f"{x} {p}", (c, h, w))


def cut(draw: Draw, sketch: Sketch, x: str) -> None:
    axis = draw(st.integers(0, 2))
    side = sketch.values[x][axis]
    start, step = draw(st.integers(0, side - 1)), draw(st.integers(1, 3))
    s, e, a, t = (
        sketch.constant(np.array([each], np.int64)) for each in (start, side, axis + 1, step)
    )
    shape = list(sketch.values[x])
    shape[axis] = len(range(start, side, step))
    sketch.add("Slice", f"{x} {s} {e} {a} {t}", (shape[0], shape[1], shape[2]))


def on_the_cpu(draw: Draw, sketch: Sketch, x: str) -> None:
    op = draw(st.sampled_from(["Sigmoid", "Neg", "Abs", "Tanh"]))
    sketch.add(op, x, sketch.values[x])


NPU = [convolve, convolve, batch_norm, per_channel, activate, add, pool, concat, pad, cut]


@st.composite
def models(draw: Draw, *, cpu: bool) -> onnx.ModelProto:
    """A model of up to a dozen nodes; every value that nothing reads is an output."""
    sketch = Sketch(
        values={"x": (draw(st.integers(1, 4)), *draw(st.sampled_from([(5, 6), (8, 8)])))}
    )
    shape = [1, *sketch.values["x"]]
    convolve(draw, sketch, "x")
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 9)) == 0:
            twice = list(sketch.values)[-1]
            sketch.add(draw(st.sampled_from(["Identity", "Dropout"])), twice, sketch.values[twice])
        kinds = [*NPU, *([on_the_cpu] if cpu else [])]
        grow = draw(st.sampled_from(kinds))
        # Mostly in a row, so that there is much to absorb.
        recent = list(sketch.values)[-3:]
        x = draw(st.sampled_from([*recent, *recent[-1:] * 4]))
        if min(sketch.values[x]) < 1 or max(sketch.values[x]) > 40:
            break
        grow(draw, sketch, x)
    read = {name for each in sketch.nodes for name in each.input}
    outputs = [name for name in sketch.values if name not in read]
    inner = sorted(set(sketch.values) - {"x"} - set(outputs))
    if inner and draw(st.booleans()):
        outputs.append(draw(st.sampled_from(inner)))
    return model(sketch.nodes, inputs={"x": shape}, outputs=outputs, constants=sketch.constants)


Seeds = st.integers(0, 99)


@given(made=models(cpu=False), seed=Seeds)
def test_programs_of_random_graphs_answer_as_onnxruntime(made: onnx.ModelProto, seed: int) -> None:
    graph = compiler.load(made)
    # Two outputs of one value are a copy, which is the CPU's.
    assume(all(each.operator != "Identity" for each in graph.nodes))
    feeds = feeds_for([graph.ports["x"]], seed)
    expected = run_onnx(made, feeds)

    found = reference.run(compiler.compile(made), feeds["x"], numerics="float32")

    for name, answer in expected.items():
        assert relative_error(found[name], answer, floor=1.0) < 3e-3


@given(made=models(cpu=True), seed=Seeds)
def test_parts_of_random_graphs_answer_as_onnxruntime(made: onnx.ModelProto, seed: int) -> None:
    try:
        parts = compiler.partition(made)
    except ModelError as exc:
        reason = str(exc)
    else:
        reason = ""
    if reason:
        assert "convolution" in reason
        return
    feeds = feeds_for(parts.inputs, seed)
    expected = run_onnx(made, feeds)

    found = run_partition(parts, feeds, "float32")

    for name, answer in expected.items():
        assert relative_error(found[name], answer, floor=1.0) < 3e-3
    assert len(parts.report) == len(made.graph.node)
