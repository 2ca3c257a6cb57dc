"""The golden test: a model that does not answer as it was built to never gets to serve."""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.build.arrays import write_npz
from edged.errors import ModelError
from edged.worker import golden
from edged.worker.pipeline import Pipeline


def check(folder: Path) -> None:
    pipeline = Pipeline.open(folder, threads=1)
    try:
        golden.check(pipeline, folder)
    finally:
        pipeline.close()


def fails(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check(folder)
    return str(caught.value)


def change(path: Path, **arrays: Any) -> None:
    path.write_bytes(write_npz({**golden.read(path), **arrays}))


def test_a_model_as_built_passes(built_model: Path, tensor_model: Path) -> None:
    check(built_model)
    check(tensor_model)


def test_one_wrong_bit_of_the_npu_fails(model: Path) -> None:
    path = model / "golden" / "npu-outputs.npz"
    (name, array), *_ = golden.read(path).items()
    array.view(np.uint32).flat[0] ^= 1
    path.write_bytes(write_npz({name: array}))
    assert "has not its digest" in fails(model)
    manifest = json.loads((model / "manifest.json").read_bytes())
    manifest["golden"]["npu"]["sha256"][name] = golden.digest(array)
    (model / "manifest.json").write_text(json.dumps(manifest))
    assert f"NPU output {name!r}: 1 of {array.size} values differ" in fails(model)


def test_the_pipeline_may_differ_by_the_tolerance_and_no_more(model: Path) -> None:
    path = model / "golden" / "outputs.npz"
    expected = golden.read(path)["probabilities"]
    change(path, probabilities=expected + np.float32(0.01))
    check(model)
    change(path, probabilities=expected + np.float32(0.05))
    assert "output 'probabilities': 5 of 5 values differ, by up to" in fails(model)
    change(path, probabilities=np.full_like(expected, np.nan))
    assert "values differ" in fails(model)
    change(path, probabilities=expected[:, :4])
    assert "shape [1, 5], expected [1, 4]" in fails(model)


def test_golden_inputs_that_the_model_refuses_fail(model: Path) -> None:
    path = model / "golden" / "inputs.npz"
    path.write_bytes(write_npz({"images/0": np.zeros(9, np.uint8)}))
    assert "the model refuses its golden inputs: cannot decode picture" in fails(model)
    path.write_bytes(write_npz({"images": np.zeros(9, np.uint8)}))
    assert "no picture images/0" in fails(model)


def test_a_model_without_golden_test_cannot_pass(model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_bytes())
    manifest["golden"] = None
    (model / "manifest.json").write_text(json.dumps(manifest))
    assert "no golden test" in fails(model)


def test_missing_arrays_are_named(model: Path) -> None:
    path = model / "golden" / "npu-inputs.npz"
    path.write_bytes(write_npz({"other": np.zeros(3, np.float32)}))
    assert "have no arrays ['image']" in fails(model)


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(ModelError, match=r"cannot read x\.npz"):
        golden.read(path)
    for data in (b"", b"PK\x03\x04", b"nonsense" * 100):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"cannot read x\.npz"):
            golden.read(path)
    np.savez(path, allow_pickle=True, x=np.array([{"a": 1}], object))
    with pytest.raises(ModelError, match=r"cannot read x\.npz"):
        golden.read(path)


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as member,
    ):
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(
        ModelError, match=r"holds 314\d+ bytes of arrays, expected at most 268435456"
    ):
        golden.read(path)


def test_arrays_damaged_anywhere_are_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for deflated in (False, True):
        save = np.savez_compressed if deflated else np.savez
        save(path, x=np.arange(20, dtype=np.float32))
        good = path.read_bytes()
        for at in range(len(good)):
            path.write_bytes(good[:at] + bytes([good[at] ^ 0x5D]) + good[at + 1 :])
            with contextlib.suppress(ModelError):
                golden.read(path)
