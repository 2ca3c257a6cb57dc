"""The onnx stage: faults are told apart, nothing outside the graph is read or told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edged.errors import ModelError, RequestError
from edged.worker.stages import OnnxStage


def graph(path: Path, *, external: bool = False, to: list[int] | None = None) -> Path:
    weights = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    shape = numpy_helper.from_array(np.array(to or [-1, 2], np.int64), "to")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Reshape", ["y", "to"], ["z"]),
    ]
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
            [
                helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]),
                helper.make_tensor_value_info("z", TensorProto.FLOAT, None),
            ],
            [weights, shape],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(made, path, save_as_external_data=external, size_threshold=0)
    return path


def test_only_wanted_outputs_are_given(tmp_path: Path) -> None:
    stage = OnnxStage(graph(tmp_path / "g.onnx"), ["x"], ["y", "z"], threads=1)
    x = np.ones((3, 4), np.float32)
    assert list(stage.run({"x": x, "more": x}, ["z"])) == ["z"]
    np.testing.assert_array_equal(stage.run({"x": x}, ["y"])["y"], np.full((3, 2), 4))


def test_an_input_the_graph_does_not_take_is_the_callers_fault(tmp_path: Path) -> None:
    stage = OnnxStage(graph(tmp_path / "g.onnx"), ["x"], ["y"], threads=1)
    with pytest.raises(RequestError, match=r"cannot run graph g\.onnx") as caught:
        stage.run({"x": np.ones((3, 5), np.float32)}, ["y"])
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_graph_that_fails_is_the_models_fault(tmp_path: Path) -> None:
    stage = OnnxStage(graph(tmp_path / "g.onnx", to=[5, 5]), ["x"], ["z"], threads=1)
    with pytest.raises(ModelError, match=r"cannot run graph g\.onnx"):
        stage.run({"x": np.ones((3, 4), np.float32)}, ["z"])


def test_a_graph_cannot_read_other_files(tmp_path: Path) -> None:
    path = graph(tmp_path / "g.onnx", external=True)
    with pytest.raises(ModelError, match=r"cannot load graph g\.onnx"):
        OnnxStage(path, ["x"], ["y"], threads=1)


def test_telemetry_is_off_whatever_the_environment_says(tmp_path: Path) -> None:
    path = graph(tmp_path / "g.onnx")
    code = (
        "import os, pathlib, sys\n"
        "from edged.worker.stages import OnnxStage\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "OnnxStage(pathlib.Path(sys.argv[1]), ['x'], ['y'], 1)\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])\n"
    )
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, path], env=environment, capture_output=True, check=True
    )
    assert done.stdout == b"1\n"


def test_an_output_that_is_no_tensor_is_the_models_fault(tmp_path: Path) -> None:
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("SequenceConstruct", ["x", "x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
            [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["n", 4])],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    path = tmp_path / "g.onnx"
    onnx.save(made, path)
    stage = OnnxStage(path, ["x"], ["y"], threads=1)
    with pytest.raises(ModelError, match=r"output 'y' of graph g\.onnx: expected a tensor, got a"):
        stage.run({"x": np.ones((3, 4), np.float32)}, ["y"])
