"""The benchmark: fair turns, right figures, a daemon of its own that is gone afterwards."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from edged import zoo
from edged.__main__ import main
from edged.bench import baselines, measure, rounds, server
from edged.bench.measure import Sample
from edged.build import Built, assemble
from edged.errors import DeviceError, FetchError, ModelError
from edged.manifest import Preprocess
from tests.unit.build import models

pytestmark = pytest.mark.alone


def test_everybody_takes_turns_and_another_one_begins_each_round() -> None:
    order: list[str] = []

    def contender(name: str) -> Callable[[], str]:
        def run() -> str:
            order.append(name)
            return name

        return run

    pauses: list[float] = []
    done: list[tuple[int, int]] = []
    found = rounds.interleave(
        {name: contender(name) for name in "abc"},
        rounds.Plan(rounds=4, runs=2),
        pauses.append,
        lambda *progress: done.append(progress),
    )
    turn = rounds.WARM_UP + 2
    assert "".join(order[::turn]) == "abcbcacabcba"
    assert found == {name: [[name] * 2] * 4 for name in "abc"}
    assert pauses == [rounds.PAUSE] * 12
    assert done[-1] == (4, 4)


@pytest.mark.parametrize(
    ("values", "p50", "p99"),
    [([1.0], 1, 1), ([2.0, 1.0], 1.5, 2), (list(range(1, 101)), 50.5, 99), ([5.0] * 200, 5, 5)],
)
def test_percentiles(values: list[float], p50: float, p99: float) -> None:
    assert rounds.median(values) == p50
    assert rounds.percentile(values, 99) == p99


def test_the_figures_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PAUSE", 0)
    figures = measure.measure(
        {
            measure.EDGED: lambda: Sample(10_000, {"image": 1000.0, "npu": 6000.0, "onnx": 500.0}),
            measure.FLOAT32: lambda: Sample(24_000, {}),
            measure.INT8: lambda: Sample(4_000, {}),
        },
        rounds.Plan(2, 3),
    )
    assert figures["requests"] == 6
    assert figures["end_to_end"] == {"p50": 10, "p99": 10, "min": 10}
    assert figures["stages"] == {"image": 1, "npu": 6, "onnx": 0.5}
    assert figures["overhead"] == 2.5
    assert figures["npu"]["by_round"] == [6, 6]
    assert figures["npu / onnxruntime float32"] == 0.25
    assert figures["npu / onnxruntime int8"] == 1.5
    assert json.loads(json.dumps(figures)) == figures


def test_the_drawn_picture_is_a_jpeg_like_a_photograph() -> None:
    data = measure.draw_jpeg(480, 640)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (640, 480))
    assert 30_000 < len(data) < 200_000
    assert data == measure.draw_jpeg(480, 640) != measure.draw_jpeg(480, 640, seed=1)


def test_a_graph_is_cut_where_the_npus_part_ends() -> None:
    whole = models.classifier()
    part = baselines.cut(whole, ["features"])
    assert [node.op_type for node in part.graph.node][-1] == "Flatten"
    assert [tensor.name for tensor in part.graph.initializer] == ["w"]
    assert len(whole.graph.node) == 6
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    (features,) = baselines.session(part.SerializeToString(), 1).run(None, {"image": x})
    assert features.shape == (1, 8)
    with pytest.raises(ModelError, match="no node makes"):
        baselines.cut(whole, ["features", "nothing"])


def test_the_int8_baseline_is_int8_and_close_to_float32() -> None:
    graph = models.classifier()
    random = np.random.default_rng(0)
    feeds = [{"image": random.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(3)]
    quantised = baselines.quantise(graph, feeds)
    import onnx

    ops = {node.op_type for node in onnx.load_from_string(quantised).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= ops
    plain = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, feeds[0])[0]
    found = baselines.session(quantised, 1).run(None, feeds[0])[0]
    assert found == pytest.approx(plain, abs=0.05)


@pytest.fixture(scope="module")
def built() -> Built:
    return assemble(models.classifier(), name="lids", preprocess=models.PREPROCESS)


def test_a_server_of_our_own_serves_the_image_and_is_gone_afterwards(
    built: Built, tmp_path: Path
) -> None:
    built.write(f"oci:{tmp_path}/image")
    home = tmp_path / "h"
    home.mkdir()
    with server.own_server(home, f"oci:{tmp_path}/image", ["--threads", "1"]) as served:
        assert served.status["model"]["name"] == "lids"
        pid = served.status["pid"]
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(DeviceError, match=r"(?s)cannot start edged run: exit status 2.*--nonsense"),
        server.own_server(tmp_path, "oci:x", ["--nonsense"]),
    ):
        pass


def test_an_image_that_is_not_there_is_told_and_the_server_stops(tmp_path: Path) -> None:
    with (
        pytest.raises(FetchError, match="cannot run edged deploy"),
        server.own_server(tmp_path, f"oci:{tmp_path}/none"),
    ):
        pass


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark with a model that takes no time, and no pauses."""
    settings = Preprocess(size=(16, 16), resize="shorter", to=18, crop=True, scale=1 / 255)
    model = zoo.ZooModel("small", models.classifier(), settings)
    monkeypatch.setattr(zoo, "make", lambda *_, **__: model)
    monkeypatch.setattr(rounds, "PAUSE", 0)


@pytest.mark.usefixtures("small")
def test_bench_shows_stages_and_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--rounds", "2", "--runs", "3", "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    for part in ("small: ms-fp13", "image", "npu", "onnx ", "end to end p99", "onnxruntime int8"):
        assert part in shown


@pytest.mark.usefixtures("small")
def test_bench_prints_figures_for_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "part.jpg"
    path.write_bytes(measure.draw_jpeg(60, 80))
    flags = ["--rounds", "1", "--runs", "2", "--json", "--no-baselines", "--isa", "portable"]
    assert main(["bench", *flags, "--picture", str(path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["isa"], figures["requests"]) == ("portable", 2)
    assert figures["picture_bytes"] == path.stat().st_size
    assert 0 < figures["stages"]["npu"] < figures["end_to_end"]["p50"]
    assert "onnxruntime int8" not in figures


@pytest.mark.usefixtures("small")
def test_bench_measures_a_server_that_is_there(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built.write(f"oci:{tmp_path}/image")
    path = tmp_path / "part.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    home = tmp_path / "h"
    home.mkdir()
    with server.own_server(home, f"oci:{tmp_path}/image") as served:
        flags = ["--target", served.target, "--rounds", "1", "--runs", "2", "--picture", str(path)]
        assert main(["bench", *flags]) == 0
    assert served.target in capsys.readouterr().out


def test_bench_names_what_is_wrong(tmp_path: Path) -> None:
    assert main(["bench", "--picture", str(tmp_path / "none.jpg")]) == 2
    assert main(["bench", "--model", "resnet51"]) == 2
    for wrong in ("0", "-1", "x"):
        with pytest.raises(SystemExit):
            main(["bench", "--rounds", wrong])


@pytest.mark.long
def test_a_resnet_50_is_served_and_no_slower_than_twice_int8(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "--json", "--rounds", "5", "--runs", "20"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["model"] == "resnet50"
    if figures["isa"] == "avx512vnni":
        assert figures["npu / onnxruntime int8"] <= 2
