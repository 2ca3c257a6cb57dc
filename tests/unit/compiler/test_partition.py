"""What runs where, how the parts connect, and what the report says about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edged import compiler
from edged.errors import ModelError
from tests.unit.compiler.graphs import (
    Array,
    feeds_for,
    kinds,
    model,
    node,
    relative_error,
    run_onnx,
    run_partition,
    weights,
)

W = {"w": weights(4, 3, 3, 3), "v": weights(4, 4, 3, 3, seed=1)}
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def where(parts: compiler.Partition) -> dict[str, str]:
    return {row.node: row.where for row in parts.report}


def rules(parts: compiler.Partition) -> dict[str, str]:
    return {row.node: row.rule for row in parts.report}


def check(made: onnx.ModelProto, feeds: dict[str, Array] | None = None) -> compiler.Partition:
    """Partitions, and holds all parts together to onnxruntime."""
    parts = compiler.partition(made)
    given = feeds or feeds_for(parts.inputs)
    expected, found = run_onnx(made, given), run_partition(parts, given, "float32")
    for name, each in expected.items():
        assert relative_error(found[name], each) < 2e-3, name
    return parts


# The cut


def test_everything_up_to_the_classifier_is_the_npus() -> None:
    made = model(
        [
            node("Conv", "x w", "c"),
            node("Relu", "c", "r"),
            node("GlobalAveragePool", "r", "p"),
            node("Flatten", "p", "f"),
            node("Gemm", "f m", "g"),
            node("Softmax", "g", "y"),
        ],
        constants={**W, "m": weights(4, 5)},
    )

    parts = check(made)

    assert where(parts) == {"c": "npu", "r": "npu", "p": "npu", "f": "npu", "g": "cpu", "y": "cpu"}
    assert rules(parts)["g"] == "the classifier stays on the CPU (classifier='npu' takes it in)"
    assert rules(parts)["y"] == "follows node 'g' (Gemm), which runs on the CPU"
    assert [port.name for port in parts.program.outputs] == ["f"]
    assert parts.pre is None
    assert parts.post is not None
    assert [each.name for each in parts.post.graph.input] == ["f"]


def test_the_classifier_can_be_the_npus() -> None:
    made = model(
        [node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("Gemm", "f m", "y")],
        constants={**W, "m": weights(144, 5)},
    )

    parts = compiler.partition(made, classifier="npu")

    assert parts.post is None
    assert kinds(parts.program) == ["Convolution", "Convolution"]


def test_branches_beside_the_cut_go_on_to_their_own_ends() -> None:
    made = model(
        [
            node("Conv", "x w", "c"),
            node("Softmax", "c", "s"),
            node("Conv", "c v", "d"),
            node("Sigmoid", "d", "t"),
            node("Conv", "d v", "e"),
        ],
        constants=W,
        outputs=["s", "t", "e"],
    )

    parts = check(made)

    assert where(parts) == {"c": "npu", "s": "cpu", "d": "npu", "t": "cpu", "e": "npu"}
    assert [port.name for port in parts.program.outputs] == ["c", "d", "e"]


def test_a_node_after_the_cpu_is_the_cpus_however_well_it_would_run() -> None:
    made = model(
        [node("Conv", "x w", "c"), node("LRN", "c", "n", size=3), node("Conv", "n v", "y")],
        constants=W,
    )

    parts = check(made)

    assert where(parts) == {"c": "npu", "n": "cpu", "y": "cpu"}
    assert rules(parts)["n"] == "not an operator of the NPU"


def test_a_grouped_convolution_ends_the_npus_part_by_name() -> None:
    made = model(
        [node("Conv", "x w", "c"), node("Conv", "c g", "y", group=4)],
        constants={**W, "g": weights(4, 1, 3, 3)},
    )

    assert rules(check(made))["y"] == "group is 4, the NPU runs group 1"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (
            [node("Conv", "x g", "first", group=3), node("Relu", "first", "y")],
            r"node 'first' \(Conv\): group is 3",
        ),
        ([node("Softmax", "x", "y")], r"node 'y' \(Softmax\): not an operator"),
        ([node("Relu", "x", "y")], "it has no convolution"),
        (
            [node("Flatten", "x", "f"), node("Gemm", "f m", "y")],
            r"node 'y' \(Gemm\): the classifier stays",
        ),
    ],
)
def test_a_model_with_nothing_for_the_npu_is_refused(
    nodes: list[onnx.NodeProto], reason: str
) -> None:
    made = model(nodes, constants={"g": weights(3, 1, 3, 3), "m": weights(192, 5)})

    with pytest.raises(ModelError, match=reason):
        compiler.partition(made)


def test_a_grouped_convolution_is_no_preprocessing() -> None:
    made = model(
        [node("Conv", "x g", "first", group=3), node("Conv", "first w", "y")],
        constants={**W, "g": weights(3, 1, 3, 3)},
    )

    with pytest.raises(ModelError, match=r"node 'first' \(Conv\): group is 3"):
        compiler.partition(made)


# Preprocessing


def test_what_the_npu_cannot_run_before_the_first_convolution_is_preprocessing() -> None:
    made = model(
        [
            node("Cast", "x", "f", to=TensorProto.FLOAT),
            node("Mul", "f scale", "m"),
            node("Sub", "m mean", "s"),
            node("Div", "s deviation", "d"),
            node("Conv", "d w", "y"),
        ],
        inputs={"x": ["n", 3, 8, 8]},
        constants={
            **W,
            "scale": np.array(1 / 255, np.float32),
            "mean": weights(3, 1, 1),
            "deviation": np.array([0.2, 0.3, 0.4], np.float32).reshape(3, 1, 1),
        },
        element=TensorProto.UINT8,
    )
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), np.uint8)

    parts = check(made, {"x": picture})

    assert where(parts) == {"f": "cpu", "m": "cpu", "s": "cpu", "d": "cpu", "y": "npu"}
    assert rules(parts)["m"] == "preprocessing: a node of the CPU needs it"
    assert rules(parts)["s"] == "preprocessing: not an operator of the NPU"
    assert rules(parts)["f"] == "preprocessing: not an operator of the NPU"
    assert parts.pre is not None
    assert [each.name for each in parts.pre.graph.input] == ["x"]
    assert [port.name for port in parts.program.inputs] == ["d"]


def test_per_channel_nodes_on_the_input_are_the_npus() -> None:
    made = model(
        [node("Mul", "x k", "m"), node("Add", "m k", "a"), node("Conv", "a w", "y")],
        constants={**W, "k": weights(3, 1, 1)},
    )

    parts = check(made)

    assert parts.pre is None
    assert kinds(parts.program) == ["Scale", "Convolution"]


def test_what_follows_preprocessing_is_the_npus_again() -> None:
    made = model(
        [node("Div", "x k", "d"), node("Mul", "d k", "m"), node("Conv", "m w", "y")],
        constants={**W, "k": np.array(2, np.float32)},
    )

    assert where(check(made)) == {"d": "cpu", "m": "npu", "y": "npu"}


def test_nodes_of_the_npus_kind_in_front_of_an_obstacle_go_with_it() -> None:
    made = model(
        [node("Relu", "x", "r"), node("Sqrt", "r", "s"), node("Conv", "s w", "y")], constants=W
    )

    assert where(check(made)) == {"r": "cpu", "s": "cpu", "y": "npu"}


def test_what_preprocessing_makes_can_reach_all_parts() -> None:
    made = model(
        [
            node("Abs", "x", "a"),
            node("Conv", "a w", "c"),
            node("ReduceMax", "a", "top", keepdims=0),
            node("Div", "c top", "y"),
        ],
        constants=W,
        outputs=["y", "a"],
    )

    parts = check(made)

    assert where(parts) == {"a": "cpu", "c": "npu", "top": "cpu", "y": "cpu"}
    assert parts.pre is not None
    assert [each.name for each in parts.pre.graph.output] == ["a"]
    assert parts.post is not None
    assert {each.name for each in parts.post.graph.input} == {"a", "c"}


def test_an_input_that_only_the_cpu_reads_goes_there_alone() -> None:
    made = model(
        [node("Conv", "x w", "c"), node("Softmax", "z", "s"), node("Div", "c s", "y")],
        inputs={"x": [1, 3, 8, 8], "z": [1, 4, 6, 6]},
        constants=W,
    )

    parts = check(made)

    assert [port.name for port in parts.program.inputs] == ["x"]
    assert [port.name for port in parts.inputs] == ["x", "z"]


# Layout at the cut


def test_a_view_that_no_port_has_is_made_on_the_cpu() -> None:
    made = model(
        [node("Conv", "x w", "c"), node("Reshape", "c s", "r"), node("Gemm", "r m", "y")],
        constants={**W, "s": np.array([1, -1], np.int64), "m": weights(144, 5)},
    )

    parts = check(made)

    assert where(parts) == {"c": "npu", "r": "cpu", "y": "cpu"}
    assert rules(parts)["r"] == "layout that only the CPU needs"
    assert [port.name for port in parts.program.outputs] == ["c"]


def test_a_view_of_the_input_is_made_on_the_cpu_so_that_it_stays_float32() -> None:
    made = model(
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t w", "c"),
            node("Sigmoid", "t", "s"),
        ],
        inputs={"x": [1, 8, 8, 3]},
        constants=W,
        outputs=["c", "s"],
    )
    feeds: dict[str, Array] = {"x": np.full((1, 8, 8, 3), 1 / 3, np.float32)}

    parts = check(made, feeds)

    assert np.array_equal(run_partition(parts, feeds, "bfp")["s"], run_onnx(made, feeds)["s"])
    assert where(parts)["t"] == "npu"
    assert parts.program.inputs[0].layout == "NHWC"


def test_preprocessing_in_tensorflows_layout_enters_as_it_is() -> None:
    made = model(
        [
            node("Sub", "x k", "s"),
            node("Pad", "s p", "a"),
            node("Transpose", "a", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t w", "y"),
        ],
        inputs={"x": ["n", 8, 8, 3]},
        constants={
            **W,
            "k": np.array(1, np.float32),
            "p": np.array([0, 1, 1, 0, 0, 0, 0, 0], np.int64),
        },
    )

    parts = check(made)

    assert [(port.name, port.layout) for port in parts.program.inputs] == [("s", "NHWC")]
    assert kinds(parts.program) == ["Convolution"]


# Parts as models


def test_parts_need_nothing_but_themselves() -> None:
    made = model(
        [
            node("Div", "x k", "d"),
            node("Conv", "d w", "c"),
            node("Softmax", "c", "s"),
            node("Div", "s k", "y"),
        ],
        constants={**W, "k": np.array(2, np.float32)},
    )

    parts = compiler.partition(made)

    for part in (parts.pre, parts.post):
        assert part is not None
        onnx.checker.check_model(part, full_check=True)
        assert [each.name for each in part.graph.initializer] == ["k"]


def test_the_same_model_makes_the_same_parts() -> None:
    made = model([node("Conv", "x w", "c"), node("Softmax", "c", "y")], constants=W)

    one, other = (compiler.partition(made) for _ in range(2))

    assert one.program.to_bytes() == other.program.to_bytes()
    assert one.post == other.post
    assert one.report == other.report


def test_the_report_names_each_node_of_the_model_in_order() -> None:
    made = model(
        [
            node("Constant", "", "k", value_float=2.0),
            node("Identity", "x", "i"),
            node("Conv", "i w", "c"),
            node("Dropout", "c", "d"),
            node("Sigmoid", "d", "unused"),
            node("Mul", "d k", "m"),
            node("Softmax", "m", "y"),
        ],
        constants=W,
    )

    rows = [(row.node, row.op, row.where) for row in compiler.partition(made).report]

    assert rows == [
        ("k", "Constant", "folded"),
        ("i", "Identity", "folded"),
        ("c", "Conv", "npu"),
        ("d", "Dropout", "folded"),
        ("unused", "Sigmoid", "folded"),
        ("m", "Mul", "npu"),
        ("y", "Softmax", "cpu"),
    ]


# Real models


@pytest.mark.parametrize(
    ("name", "convolutions"),
    [
        ("resnet50", 53),
        ("densenet121", 121),
        ("squeezenet", 26),
        ("vgg19", 16),
        ("inception_v2", 69),
    ],
)
def test_all_convolutions_of_onnxs_light_models_are_the_npus(name: str, convolutions: int) -> None:
    parts = compiler.partition(LIGHT / f"light_{name}.onnx")

    on = [row.where for row in parts.report if row.op == "Conv"]
    assert on == ["npu"] * convolutions
    after = {row.op for row in parts.report if row.where == "cpu"}
    assert after <= {"Gemm", "Softmax", "Relu", "Reshape"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bvlc_alexnet", r"\(LRN\): not an operator"),
        ("inception_v1", r"\(LRN\): not an operator"),
        ("zfnet512", r"\(LRN\): not an operator"),
        ("shufflenet", r"\(Conv\): group is 4"),
    ],
)
def test_the_other_light_models_fail_by_name_of_the_operator(name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        compiler.compile(LIGHT / f"light_{name}.onnx")


@pytest.mark.parametrize("name", ["resnet20", "resnet56-bn"])
def test_trained_cifar_networks_build_as_they_are(shared_data: Path, name: str) -> None:
    path = shared_data / "cifar10" / f"{name}.onnx"
    parts = compiler.partition(path)
    feeds = feeds_for(parts.inputs)
    expected = run_onnx(path, feeds)["probabilities"]

    mapped = run_partition(parts, feeds, "float32")["probabilities"]

    assert {row.node for row in parts.report if row.where == "cpu"} == {"/linear/Gemm", "/Softmax"}
    assert parts.pre is None
    assert relative_error(mapped, expected) < 5e-3


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["resnet50", "densenet121", "squeezenet", "vgg19", "inception_v2", "shufflenet"]
)
def test_light_models_with_random_weights_answer_as_onnxruntime(name: str, tmp_path: Path) -> None:
    from onnx import numpy_helper

    from edged import npu

    made = onnx.load(LIGHT / f"light_{name}.onnx")
    shapes = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    rng = np.random.default_rng(5)
    kept = []
    for each in made.graph.node:
        if each.op_type != "ConstantOfShape":
            kept.append(each)
            continue
        shape = shapes[each.input[0]]
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 1.0
        value = rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else rng.normal(0, scale, shape)
        made.graph.initializer.append(
            numpy_helper.from_array(value.astype(np.float32), each.output[0])
        )
    del made.graph.node[:]
    made.graph.node.extend(kept)
    made.ir_version = 8
    path = tmp_path / "model.onnx"
    onnx.save(made, path)

    parts = compiler.partition(path)
    feeds = feeds_for(parts.inputs)
    wanted = [port.name for port in parts.program.outputs]
    made.graph.output.extend(onnx.ValueInfoProto(name=output) for output in wanted)
    expected = run_onnx(made, feeds)
    device = npu.open(numerics="float32")
    device.load(parts.program)
    found = device.run(feeds[parts.program.inputs[0].name])
    device.close()

    for output in wanted:
        assert relative_error(found[output], expected[output]) < 5e-3
