"""Models come in by path, bytes or message; weights from files beside them and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edged import compiler
from edged.compiler import source
from edged.errors import ConfigError, ModelError
from tests.unit.compiler.graphs import model, node, weights


def conv_model(**external: Any) -> onnx.ModelProto:
    """One convolution; its weights are in another file where entries for one are given."""
    made = model(
        [node("Conv", "x w", "y")], constants={"w": weights(4, 3, 3, 3)}, inputs={"x": [1, 3, 8, 8]}
    )
    if external:
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in external.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
    return made


def save(folder: Path, message: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(message.SerializeToString())
    return path


def test_weights_are_read_from_a_file_beside_the_model(tmp_path: Path) -> None:
    data = weights(4, 3, 3, 3).tobytes()
    (tmp_path / "model.onnx.data").write_bytes(b"#" * 64 + data + b"#")
    path = save(tmp_path, conv_model(location="model.onnx.data", offset=64, length=len(data)))

    assert compiler.compile(path).to_bytes() == compiler.compile(conv_model()).to_bytes()


def test_weights_may_be_in_a_folder_below_the_model(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w").write_bytes(weights(4, 3, 3, 3).tobytes())
    path = save(tmp_path, conv_model(location="weights/w"))

    assert compiler.compile(path).to_bytes() == compiler.compile(conv_model()).to_bytes()


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("../secret", "outside the model's folder"),
        ("weights/../../secret", "outside the model's folder"),
        ("link", "outside the model's folder"),
        (".", "outside the model's folder"),
        ("", "outside the model's folder"),
        ("missing", "is missing"),
        ("weights", "is missing"),
    ],
)
def test_no_file_outside_the_models_folder_is_read(
    tmp_path: Path, location: str, reason: str
) -> None:
    folder = tmp_path / "model"
    (folder / "weights").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(weights(4, 3, 3, 3).tobytes())
    (folder / "link").symlink_to(secret)
    path = save(folder, conv_model(location=location))

    with pytest.raises(ModelError, match=f"tensor 'w': .*{reason}"):
        compiler.load(path)


def test_an_absolute_path_is_outside_too(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(weights(4, 3, 3, 3).tobytes())
    (tmp_path / "model").mkdir()
    path = save(tmp_path / "model", conv_model(location=str(secret)))

    with pytest.raises(ModelError, match="outside the model's folder"):
        compiler.load(path)


@pytest.mark.parametrize(
    "part",
    [{"offset": 400}, {"length": 500}, {"offset": -4}, {"length": -4}, {"offset": "x"}],
)
def test_a_part_that_is_not_in_the_file_is_refused(tmp_path: Path, part: dict[str, Any]) -> None:
    (tmp_path / "w").write_bytes(bytes(4 * 3 * 3 * 3 * 4)[:432])
    path = save(tmp_path, conv_model(location="w", **{"offset": 0, "length": 432, **part}))

    with pytest.raises(ModelError, match="tensor 'w'"):
        compiler.load(path)


def test_more_than_a_message_can_hold_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "BYTES_LIMIT", 1000)
    with (tmp_path / "w").open("wb") as stream:
        os.truncate(stream.fileno(), 1 << 40)
    path = save(tmp_path, conv_model(location="w"))

    with pytest.raises(ModelError, match="more than 1000 bytes"):
        compiler.load(path)


def test_a_model_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "BYTES_LIMIT", 100)

    with pytest.raises(ModelError, match="more than 100 bytes"):
        compiler.load(save(tmp_path, conv_model()))


@pytest.mark.parametrize("as_bytes", [True, False])
def test_without_a_path_there_is_no_folder_to_read_weights_from(as_bytes: bool) -> None:
    made = conv_model(location="w")

    with pytest.raises(ModelError, match=r"tensor 'w' is stored in another file; give the path"):
        compiler.load(made.SerializeToString() if as_bytes else made)


def test_weights_in_functions_and_attributes_are_looked_for_too() -> None:
    made = conv_model()
    constant = node("Constant", "", "c", value=conv_model(location="w").graph.initializer[0])
    function = onnx.helper.make_function(
        "local", "f", ["a"], ["b"], [constant, node("Add", "a c", "b")], made.opset_import
    )
    made.functions.append(function)

    with pytest.raises(ModelError, match="stored in another file"):
        compiler.load(made)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no graph"),
        (b"\xff" * 40, "not an ONNX model"),
        (b"JFIF picture", "not an ONNX model"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        compiler.load(data)


def test_names_that_are_no_text_are_refused() -> None:
    data = conv_model().SerializeToString()

    with pytest.raises(ModelError, match="op_type is no text"):
        compiler.load(data.replace(b"Conv", b"Con\xff"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load .*absent\.onnx: No such file"):
        compiler.load(tmp_path / "absent.onnx")


def test_onnx_is_imported_only_when_a_model_is_loaded() -> None:
    code = "import sys, edged.compiler; sys.exit('onnx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_onnx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)

    with pytest.raises(ConfigError, match=r"onnx is missing; install edged\[build\]"):
        compiler.load(b"")


def test_a_message_is_not_changed_by_loading() -> None:
    made = conv_model()
    made.graph.node[0].ClearField("name")
    before = made.SerializeToString(deterministic=True)

    compiler.partition(made)

    assert made.SerializeToString(deterministic=True) == before
    assert np.array_equal(
        onnx.numpy_helper.to_array(made.graph.initializer[0]), weights(4, 3, 3, 3)
    )
