"""Trained networks on real pictures, over gRPC: rounding to blocks costs next to nothing."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from edged.__main__ import main
from edged.bench.server import own_server

PREPROCESS = {
    "size": [32, 32],
    "resize": {"kind": "none"},
    "scale": 1 / 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
LIMITS = {"ms-fp13": (0.005, 0.985), "ms-fp11": (0.02, 0.93)}  # points lost, agreement


@pytest.fixture(scope="module")
def pictures(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar")
    with tarfile.open(shared_data / "cifar10" / "test-1000.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("form", LIMITS)
@pytest.mark.parametrize("name", ["resnet20", "resnet56-bn"])
def test_a_cifar_network_keeps_its_accuracy(
    name: str,
    form: str,
    shared_data: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph, image = shared_data / "cifar10" / f"{name}.onnx", f"oci:{tmp_path}/image"
    build = ["build", str(graph), "-o", image, "--format", form]
    assert main([*build, "--preprocess", json.dumps(PREPROCESS)]) == 0
    (tmp_path / "h").mkdir()
    capsys.readouterr()
    with own_server(tmp_path / "h", image) as served:
        evaluate = ["eval", image, str(pictures), "--json", "--reference", str(graph)]
        assert main([*evaluate, "--target", served.target]) == 0
    found = json.loads(capsys.readouterr().out)
    lost, agreement = LIMITS[form]
    assert found["pictures"] == 1000
    assert found["top1"] >= found["float32_top1"] - lost
    assert found["agreement"] >= agreement
