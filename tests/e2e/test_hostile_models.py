"""Models that are damaged, lie or attack: not built, not deployed, and the one before serves on."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edged import oci
from edged.npu import Program
from edged.npu.fileform import HEADER
from edged.oci import ModelFacts, Reference, write_image
from tests.e2e.device import Device
from tests.e2e.hostile import DEMO, GOOD, Target, request

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def target(surface_image: str, served: Callable[[str], Device]) -> Iterator[Target]:
    target = Target(served(surface_image), request(GOOD))
    yield target
    target.close()


@pytest.fixture
def files(surface_image: str, tmp_path: Path) -> Files:
    """The files of the demo's model, to damage."""
    folder = tmp_path / "good"
    oci.open_image(Reference.parse(surface_image)).unpack_model(folder)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def image(files: Files, folder: Path) -> str:
    """Writes an image of these files whose digests are right; returns its reference."""
    try:
        memory = json.loads(files["manifest.json"])["memory"]
    except ValueError:
        memory = 1
    facts = ModelFacts("surface", "1", "bw-cnn-a10", "ms-fp13", memory)
    write_image(dict(files), facts, Reference.parse(f"oci:{folder}"))
    return f"oci:{folder}"


def refused(target: Target, files: Files, folder: Path, *says: str, state: str = "failed") -> None:
    """Deploys; it must fail with these words, and the model before must serve on."""
    digest = target.device.status().model.digest
    event = target.device.deploy(image(files, folder))[-1]
    assert event.state == state, event
    for each in says:
        assert each in event.error
    assert target.device.status().model.digest == digest
    target.serves_on()


def cut(program: bytes) -> bytes:
    return program[: len(program) // 2]


def of_a_later_version(program: bytes) -> bytes:
    return program[:8] + struct.pack("<I", 2) + program[12:]


def with_counts_beyond_all_bounds(program: bytes) -> bytes:
    return program[:12] + struct.pack("<I", 2**32 - 1) + program[16:]


def with_a_wrong_index(program: bytes) -> bytes:
    """The first port's tensor is one that there is not."""
    tensors = struct.unpack_from("<I", program, 12)[0]
    at = HEADER.size + 16 * tensors + 4
    return program[:at] + struct.pack("<I", 2**31 - 1) + program[at + 4 :]


def with_another_memory(program: bytes) -> bytes:
    return program[:40] + struct.pack("<Q", 1) + program[48:]


def with_nan(program: bytes) -> bytes:
    """The last constants are NaN."""
    return program[:-64] + b"\xff\x7f" * 32


def larger(program: bytes) -> bytes:
    """A valid program that needs more memory than the manifest says."""
    found = Program.from_bytes(program)
    return Program(
        "ms-fp8",
        found.sku,
        found.tensors,
        found.inputs,
        found.outputs,
        found.chains,
    ).to_bytes()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda _: b"", "0 bytes do not begin with b'EDGEDNPU'"),
        (lambda _: b"\x7fELF" + bytes(100_000), "do not begin with b'EDGEDNPU'"),
        (cut, "bytes, there are"),
        (lambda program: program + b"\0", "the header announces"),
        (of_a_later_version, "version 2, expected 1"),
        (with_counts_beyond_all_bounds, "counts in the header are out of bounds"),
        (with_a_wrong_index, "a port's tensor 2147483647 does not exist"),
        (with_another_memory, "a memory size"),
        (with_nan, "NaN, infinite or beyond float16"),
        (larger, "its format is 'ms-fp8', the manifest says 'ms-fp13'"),
    ],
)
def test_a_corrupt_program_is_refused_and_the_model_before_serves_on(
    target: Target,
    files: Files,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    says: str,
) -> None:
    files["program.npu"] = damage(files["program.npu"])
    refused(target, files, tmp_path / "bad", "cannot load the model: ", says)


def test_a_program_with_other_weights_is_reverted(
    target: Target, files: Files, tmp_path: Path
) -> None:
    program = bytearray(files["program.npu"])
    for at in range(len(program) - 100_001, len(program) - 50_000, 2):
        program[at] ^= 0x80  # the sign
    files["program.npu"] = Program.from_bytes(bytes(program)).to_bytes()
    refused(target, files, tmp_path / "bad", "golden test failed: NPU output", state="reverted")


def reading(location: str) -> bytes:
    """A graph like the demo's classifier whose weights are in a file elsewhere."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    graph = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
            [tensor],
        )
    )
    return bytes(graph.SerializeToString())


@pytest.mark.parametrize("location", ["../../../../../../etc/passwd", "/etc/passwd"])
def test_a_graph_that_reads_other_files_is_refused(
    target: Target, files: Files, tmp_path: Path, location: str
) -> None:
    graph = next(name for name in files if name.endswith(".onnx"))
    files[graph] = reading(location)
    refused(target, files, tmp_path / "bad", f"cannot load graph {graph}")


def with_golden(change: Callable[[bytes], bytes]) -> Callable[[Files], object]:
    def damage(files: Files) -> None:
        for name in files:
            if name.startswith("golden/"):
                files[name] = change(files[name])

    return damage


@pytest.mark.parametrize(
    ("damage", "state", "says"),
    [
        (lambda files: files.update({"manifest.json": b"{"}), "failed", "not JSON"),
        (lambda files: edit(files, schema=2), "failed", "schema"),
        (lambda files: edit(files, labels="../../../../../etc/passwd"), "failed", "labels"),
        (lambda files: edit(files, memory=1), "failed", "its memory is"),
        (lambda files: files.pop("labels.txt"), "failed", "labels.txt"),
        (lambda files: files.pop("golden/inputs.npz"), "reverted", "inputs.npz"),
        (with_golden(lambda data: data[:100]), "reverted", "cannot read npu-outputs.npz"),
        (with_golden(lambda data: data.replace(b"NUMPY", b"NUMPX")), "reverted", "cannot read"),
        (with_golden(lambda _: b"PK\x03\x04" + bytes(50)), "reverted", "not a zip file"),
    ],
)
def test_a_model_whose_files_do_not_fit_is_refused(
    target: Target,
    files: Files,
    tmp_path: Path,
    damage: Callable[[Files], object],
    state: str,
    says: str,
) -> None:
    damage(files)
    refused(target, files, tmp_path / "bad", says, state=state)


def edit(files: Files, **changes: Any) -> None:
    document = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps({**document, **changes}).encode()


# -- ONNX files


def demo() -> onnx.ModelProto:
    return onnx.load(DEMO / "surface.onnx")


def cyclic(folder: Path) -> onnx.ModelProto:
    """The first node reads what the last but one makes."""
    model = demo()
    model.graph.node[0].input[0] = model.graph.node[-2].output[0]
    return model


def with_nan_weights(folder: Path) -> onnx.ModelProto:
    model = demo()
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights.flat[:3] = np.nan
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(weights, model.graph.initializer[0].name)
    )
    return model


def external(location: str) -> Callable[[Path], onnx.ModelProto]:
    """Makes the demo's graph with its first weights in a file elsewhere, which is there."""

    def make(folder: Path) -> onnx.ModelProto:
        model = demo()
        tensor = model.graph.initializer[0]
        outside = folder.parent / "weights"
        outside.write_bytes(numpy_helper.to_array(tensor).tobytes())
        (folder / "link").symlink_to(outside)
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location.format(outside))
        return model

    return make


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (cyclic, "the graph has a cycle"),
        (with_nan_weights, "3 of its values are NaN"),
        (external("../weights"), "its data file '../weights' is outside the model's folder"),
        (external("{}"), "is outside the model's folder"),
        (external("link"), "its data file 'link' is outside the model's folder"),
        (external("absent"), "its data file 'absent' is missing"),
    ],
)
def test_a_hostile_onnx_file_is_not_built_and_nothing_is_written(
    target: Target, tmp_path: Path, make: Callable[[Path], onnx.ModelProto], says: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(make(folder).SerializeToString())
    before = sorted(tmp_path.rglob("*"))
    done = target.device.edged(
        *("build", str(folder / "model.onnx"), "-o", f"oci:{folder}/out"),
        *("--preprocess", str(DEMO / "preprocess.json")),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("edged: cannot load ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("keep", [0, 1000, 500_000])
def test_a_cut_onnx_file_is_not_built(target: Target, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes((DEMO / "surface.onnx").read_bytes()[:keep])
    done = target.device.edged("build", str(path), "-o", f"oci:{tmp_path}/out")
    assert done.returncode == 1
    assert "it is not an ONNX model" in done.stderr
    assert list(tmp_path.iterdir()) == [path]
