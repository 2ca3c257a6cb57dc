"""Engines side by side: fair turns, right figures, one network for all."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from edged import zoo
from edged.__main__ import main
from edged.bench import (
    bars,
    comparison,
    contest,
    engines,
    measure,
    peak,
    residence,
    rounds,
    subject,
    work,
)
from edged.bench.contender import Contender, Turn, usable
from edged.bench.engines import Spec
from edged.errors import ConfigError, DeviceError, ModelError, StoreError
from edged.manifest import Preprocess
from edged.npu import _native
from tests.unit.build import models

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
QUICK = ["--rounds", "1", "--runs", "2", "--threads", "1", "--patience", "0", "--no-worker"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> subject.Subject:
    """A network of one convolution, in every form."""
    settings = Preprocess(size=(16, 16), resize="shorter", to=18, crop=True, scale=1 / 255)
    network = subject.Network("small", models.classifier(), settings)
    return subject.write(network, tmp_path_factory.mktemp("small"), format="ms-fp13")


def turns(*times: list[float], disturbed: float = 0.0) -> list[Turn]:
    return [Turn(each, disturbed) for each in times]


# ---------------------------------------------------------------------------------- who, and when


def test_everybody_begins_once_and_then_the_order_is_reversed() -> None:
    names = ["a", "b", "c"]
    shown = ["".join(rounds.order(names, number)) for number in range(7)]
    assert shown == ["abc", "bca", "cab", "cba", "acb", "bac", "abc"]
    followed = {a + b for each in shown for a, b in pairwise(each)}
    assert {"ab", "ba", "bc", "cb", "ac", "ca"} == followed


def test_a_turn_begins_when_the_machine_has_come_to_rest() -> None:
    worked = iter([10.0, 10.2, 10.35, 10.355, 99.0])
    waits: list[float] = []
    assert contest.Referee(60.0, lambda: next(worked), waits.append).settle()
    assert len(waits) == 4  # the first pause, then until a look found next to no work
    assert next(worked) == 99.0


def test_a_machine_that_never_rests_is_measured_all_the_same() -> None:
    worked = iter(range(10_000))
    waits: list[float] = []
    referee = contest.Referee(2.0, lambda: float(next(worked)), waits.append)
    assert not referee.settle()
    assert sum(waits) == pytest.approx(2.0 + contest.SETTLE, abs=0.2)
    assert not referee.settle()  # out of patience: the pause only
    assert sum(waits) == pytest.approx(2.0 + 2 * contest.SETTLE, abs=0.2)


def test_busy_seconds_grow_with_work() -> None:
    before = contest.busy_seconds()
    began = os.times().user
    while os.times().user - began < 0.05:
        sum(range(1000))
    assert contest.busy_seconds() - before >= 0.03


def test_a_disturbed_turn_is_taken_again_whatever_its_times() -> None:
    taken = iter([Turn([1.0], 0.5), Turn([9.0], 0.2), Turn([7.0], 0.001), Turn([1.0], 0.0)])
    waits: list[float] = []
    referee = contest.Referee(60.0, lambda: 0.0, waits.append)
    assert referee.undisturbed(lambda: next(taken)).times == [7.0]
    assert len(waits) == 4  # twice: the pause, and one look
    taken = iter([Turn([1.0], 0.5)] * contest.REPEATS + [Turn([9.0], 0.2), Turn([7.0], 0.0)])
    assert referee.undisturbed(lambda: next(taken)).times == [9.0]
    impatient = contest.Referee(0.0, lambda: 0.0, waits.append)
    assert impatient.undisturbed(lambda: Turn([3.0], 0.9)).times == [3.0]


# ---------------------------------------------------------------------------------------- figures


def test_medians_spread_and_ratios() -> None:
    found = {
        "edged": turns(
            [2000.0, 2000.0, 5000.0], [1000.0, 3000.0, 2000.0], [2000.0, 2500.0, 2000.0]
        ),
        "other": turns([4000.0] * 3, [5000.0] * 3, [4000.0] * 3),
    }
    figures = contest.figures(found)
    assert figures["edged"]["p50_ms"] == 2.0
    assert figures["edged"]["min_ms"] == 1.0
    assert figures["edged"]["by_round_ms"] == [2.0, 2.0, 2.0]
    assert figures["edged"]["spread"] == 0.0
    assert figures["other"]["spread"] == 0.25
    assert figures["other"]["p99_ms"] is None
    ratio = contest.ratio(found, "edged", "other")
    assert (ratio["ratio"], ratio["rounds_min"], ratio["rounds_max"]) == (0.5, 0.4, 0.5)
    assert ratio["rounds"] == 3


def test_disturbed_turns_do_not_count_unless_most_are() -> None:
    quiet, loud = Turn([1000.0], 0.0), Turn([8000.0], 0.5)
    assert contest.figures({"a": [quiet, loud, quiet]})["a"]["p50_ms"] == 1.0
    assert contest.figures({"a": [quiet, loud, quiet]})["a"]["disturbed"] == 1
    mostly = contest.figures({"a": [loud, loud, quiet]})["a"]
    assert (mostly["p50_ms"], mostly["disturbed"]) == (8.0, 2)
    found = {"a": [quiet, loud, quiet], "b": [quiet, quiet, Turn([2000.0], 0.0)]}
    ratio = contest.ratio(found, "a", "b")
    assert (ratio["rounds"], ratio["rounds_min"], ratio["rounds_max"]) == (2, 0.5, 1.0)
    never = {"a": [quiet, loud], "b": [loud, quiet]}
    assert contest.ratio(never, "a", "b")["rounds"] == 2


def test_an_engine_is_held_against_ours_and_a_copy_against_its_own() -> None:
    specs = [Spec("edged", 1), Spec("edged", 1, mark="again"), Spec("openvino-int8", 1, "avx2")]
    found = {spec.label: turns([float(n + 1)]) for n, spec in enumerate(specs)}
    pairs = [(each["of"], each["to"]) for each in contest.ratios(found, specs)]
    assert pairs == [("edged", "edged (again)"), ("edged", "openvino-int8@avx2")]


def test_like_is_held_against_like() -> None:
    names = ("edged", "edged@avx2", "openvino-int8", "openvino-int8@avx2", "onnxruntime-int8")
    specs = [engines.parse(name, 2) for name in names]
    specs += [replace(spec, threads=1, mark=engines.ALONE) for spec in specs]
    found = {spec.label: turns([float(n + 1)]) for n, spec in enumerate(specs)}
    pairs = {each["to"]: each["of"] for each in contest.ratios(found, specs)}
    assert pairs["edged@avx2"] == "edged"
    assert pairs["openvino-int8"] == pairs["onnxruntime-int8"] == "edged"
    assert pairs["openvino-int8@avx2"] == "edged@avx2"
    assert pairs["openvino-int8 (1 thread)"] == "edged (1 thread)"
    assert "edged" not in pairs
    assert contest.speedups(found, specs)["edged"] == 6.0
    assert len(contest.speedups(found, specs)) == len(names)


def test_the_tail() -> None:
    tail = contest.tail([1000.0] * 989 + [3000.0] * 11)
    assert tail["p99_ms"] == 3.0
    assert tail["p99 / p50"] == 3.0
    assert tail["runs"] == 1000


def test_likeness_tells_whether_engines_computed_the_same(tmp_path: Path) -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 8)
    for name, arrays in (
        ("x", {"a": x, "b": -x}),
        ("near", {"b": -x + 0.01, "a": x}),
        ("other", {"a": x[:, ::-1], "b": x}),
        ("else", {"a": x}),
        ("less", {"a": x, "b": x[:, :4]}),
    ):
        values: Any = arrays
        np.savez(tmp_path / f"{name}.npz", **values)
    reference = tmp_path / "x.npz"
    assert contest.likeness(tmp_path / "near.npz", reference) > 0.999
    assert contest.likeness(tmp_path / "other.npz", reference) < 0.5
    for wrong in ("else", "less"):
        with pytest.raises(DeviceError, match="cannot compare engines"):
            contest.likeness(tmp_path / f"{wrong}.npz", reference)


def test_the_peak_is_of_the_threads_together() -> None:
    isa = _native.available()[0]
    found = peak.measure(isa, 1, seconds=0.02)
    if isa == "portable":
        assert found is None
        return
    assert found is not None
    assert found.together == pytest.approx(found.one, rel=0.9)
    assert found.one > 1e9


def test_a_peak_is_of_kernels_this_cpu_has() -> None:
    assert _native.peak("portable", 0.01) == 0.0
    with pytest.raises(ValueError, match="no kernels"):
        _native.peak("nonsense", 0.01)
    for seconds in (0.0, -1.0, 11.0, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            _native.peak(_native.available()[0], seconds)


# ---------------------------------------------------------------------------------------- engines


def test_engines_by_name() -> None:
    assert engines.parse("edged", 2, "portable") == Spec("edged", 2, "portable")
    assert engines.parse("edged@avx2", 2, "portable") == Spec("edged", 2, "avx2")
    assert engines.parse("openvino-int8@avx2", 2, "portable").environment() == {
        "ORT_DISABLE_TELEMETRY": "1",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OV_CPU_MAX_ISA": "AVX2",
    }
    assert engines.parse("openvino-int8", 2, "portable").isa is None
    for wrong in ("tensorrt", "onnxruntime-int8@avx2", "openvino-int8@sse9", ""):
        with pytest.raises(ConfigError, match="cannot measure"):
            engines.parse(wrong, 1)


def test_there_are_no_more_threads_than_processors() -> None:
    assert len(usable(1)) == 1
    with pytest.raises(ConfigError, match="threads"):
        usable(10_000)


@pytest.mark.parametrize(
    "name",
    [
        each
        if each not in engines.OPENVINO
        else pytest.param(
            each, marks=pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed")
        )
        for each in engines.NAMES
    ],
)
def test_every_engine_runs_the_network_in_a_process_of_its_own(
    name: str, small: subject.Subject, tmp_path: Path
) -> None:
    with Contender(Spec("onnxruntime-float32", 1), small.folder) as reference:
        reference.outputs(tmp_path / "reference.npz")
    try:
        contender = Contender(Spec(name, 1), small.folder)
    except DeviceError as exc:
        assert "bfloat16" in str(exc)  # noqa: PT017 - CPUs without are what this is about
        pytest.skip(str(exc))
    with contender:
        turn = contender.turn(runs=3, warm_up=1)
        assert len(turn.times) == 3
        assert min(turn.times) > 0
        assert turn.disturbed >= 0
        assert contender.facts["load_ms"] > 0
        assert contender.resident_bytes() > 1_000_000
        contender.outputs(tmp_path / "found.npz")
        pid = contender.pid
    likeness = contest.likeness(tmp_path / "found.npz", tmp_path / "reference.npz")
    assert likeness > 0.98
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_our_chains_are_timed_one_by_one(small: subject.Subject) -> None:
    with Contender(Spec("edged", 1, "portable"), small.folder) as contender:
        assert contender.facts["isa"] == "portable"
        times = contender.chain_times(runs=3, warm_up=1).times
    assert len(times) == len(small.program.chains) + 2
    assert all(each >= 0 for each in times)


def test_an_engine_that_dies_is_named(small: subject.Subject) -> None:
    with Contender(Spec("edged", 1), small.folder) as contender:
        os.kill(contender.pid, signal.SIGKILL)
        with pytest.raises(
            DeviceError, match=r"cannot measure edged: its process ended, status -9"
        ):
            contender.turn(runs=1, warm_up=0)


def test_an_engine_that_cannot_load_says_why(small: subject.Subject, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no kernels 'nonsense'"):
        Contender(Spec("edged", 1, "nonsense"), small.folder)
    for name in (engines.INPUTS,):
        (tmp_path / name).write_bytes((small.folder / name).read_bytes())
    (tmp_path / engines.PROGRAM).write_bytes(b"nonsense")
    (tmp_path / engines.FLOAT32).write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot read program"):
        Contender(Spec("edged", 1), tmp_path)
    with pytest.raises(DeviceError, match="cannot open onnxruntime-float32"):
        Contender(Spec("onnxruntime-float32", 1), tmp_path)


# ---------------------------------------------------------------------------------------- networks


def test_the_graph_for_others_is_what_the_npu_computes(small: subject.Subject) -> None:
    import onnx

    graph = onnx.load(small.folder / engines.FLOAT32).graph
    assert [each.name for each in graph.output] == [port.name for port in small.program.outputs]
    sizes = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [1, 3, 16, 16]  # no batch of any size: engines plan for the one that is run
    assert "Gemm" not in {node.op_type for node in graph.node}


def test_what_was_kept_is_used_again(
    small: subject.Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = subject.reopen(small.folder)
    assert (again.name, again.graph) == ("small", True)
    assert again.program.to_bytes() == small.program.to_bytes()
    stamp = (small.folder / engines.INT8).stat().st_mtime_ns
    settings = Preprocess(size=(16, 16), resize="shorter", to=18, crop=True, scale=1 / 255)
    network = subject.Network("small", models.classifier(), settings)
    subject.write(network, small.folder, format="ms-fp13")
    assert (small.folder / engines.INT8).stat().st_mtime_ns == stamp
    monkeypatch.setattr(subject, "CALIBRATION", 2)
    subject.write(network, small.folder, format="ms-fp13")
    assert (small.folder / engines.INT8).stat().st_mtime_ns != stamp


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it has no network"):
        subject.reopen(tmp_path)
    (tmp_path / subject.FACTS).write_text("[]")
    with pytest.raises(ConfigError, match="it has no network"):
        subject.reopen(tmp_path)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NC"])
def test_made_inputs_are_like_pictures(layout: str) -> None:
    from edged.npu.chains import Tensor
    from edged.npu.listing import LAYOUTS, port

    tensor = Tensor(1, 1, 300) if layout == "NC" else Tensor(40, 50, 3)
    made = port("x", 0, LAYOUTS[LAYOUTS.index(layout)], (tensor,))
    one, other = subject._like_a_picture(made, 0), subject._like_a_picture(made, 1)
    assert one.shape == made.shape
    assert (abs(one.mean()) < 0.2, abs(one.std() - 1) < 0.2) == (True, True)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, subject._like_a_picture(made, 0))


# ---------------------------------------------------------------------------------------- the verb


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Preprocess(size=(16, 16), resize="shorter", to=18, crop=True, scale=1 / 255)
    model = zoo.ZooModel("small", models.classifier(), settings, notes=("the weights are random",))
    monkeypatch.setattr(zoo, "make", lambda *_, **__: model)


@pytest.mark.usefixtures("named")
def test_a_comparison_in_figures_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--engines", "edged,onnxruntime-float32,onnxruntime-int8", "--tail", "3"]
    flags += ["--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / "f.png"), "--layers"]
    assert main(["bench", "engine", "--keep", str(tmp_path), *QUICK, *flags]) == 0
    shown = capsys.readouterr()
    for part in ("onnxruntime-int8", "ours / this", "predicted on bw-cnn-a10", "chain", "tail"):
        assert part in shown.out
    assert "the weights are random" in shown.err
    document = json.loads((tmp_path / "f.json").read_text())
    assert set(document) == {"schema", "machine", "settings", "missing", "peak", "networks"}
    (network,) = document["networks"]
    assert set(network["engines"]) == {"edged", "onnxruntime-float32", "onnxruntime-int8"}
    for each in network["engines"].values():
        assert each["p50_ms"] >= each["min_ms"] > 0
        assert each["likeness"] > 0.98
        assert len(each["by_round_ms"]) == 1
    assert network["tile_operations"] == 16 * 16
    assert network["gmac"] == pytest.approx(16 * 16 * 8 * 27 / 1e9, abs=1e-4)
    assert [row["kind"] for row in network["layers"]] == ["Convolution", "AveragePool"]
    assert network["layers"][0]["predicted_us"] > 0
    assert {each["to"] for each in network["ratios"]} == {"onnxruntime-float32", "onnxruntime-int8"}
    assert network["tail"]["edged"]["runs"] == 3
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.format == "PNG"
    # The folder that was kept is a network by itself.
    folder = str(tmp_path / "resnet50")
    capsys.readouterr()
    assert (
        main(["bench", "engine", "--model", folder, *QUICK, "--engines", "edged", "--json", "-"])
        == 0
    )
    again = json.loads(capsys.readouterr().out)
    assert again["networks"][0]["network"] == "resnet50"
    assert again["networks"][0]["ratios"] == []


def test_a_program_is_ours_alone(
    small: subject.Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lids.npu"
    small.program.save(path)
    flags = ["--engines", "edged,onnxruntime-int8", "--isa", "portable", "--json", "-"]
    assert main(["bench", "engine", "--model", str(path), *QUICK, *flags]) == 0
    shown = capsys.readouterr()
    assert "without onnxruntime-int8: lids is a program" in shown.err
    document = json.loads(shown.out)
    assert document["peak"] is None  # portable kernels have no dot product instruction
    assert list(document["networks"][0]["engines"]) == ["edged@portable"]
    assert main(["bench", "engine", "--model", str(path), "--engines", "onnxruntime-int8"]) == 2


def test_a_graph_in_a_file_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lids.onnx"
    path.write_bytes(models.classifier(shape=(1, 3, 16, 16)).SerializeToString())
    flags = ["--engines", "edged,onnxruntime-float32", "--json", "-"]
    assert main(["bench", "engine", "--model", str(path), *QUICK, *flags]) == 0
    (network,) = json.loads(capsys.readouterr().out)["networks"]
    assert network["network"] == "lids"
    assert network["engines"]["edged"]["likeness"] > 0.99


def test_without_openvino_the_others_are_measured_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name)
    )
    import argparse

    from edged.cli import _bench_engine

    asked = argparse.Namespace(engines=None, isa=None, self_check=False, speedup=False)
    specs, missing = _bench_engine._specs(asked, 1)
    assert [spec.name for spec in specs] == ["edged", *engines.ONNXRUNTIME]
    assert set(missing) == set(engines.OPENVINO)
    assert "pip install 'edged[bench]'" in capsys.readouterr().err
    assert main(["bench", "engine", "--engines", "openvino-int8"]) == 2
    assert "OpenVINO is not installed" in capsys.readouterr().err


def test_wrong_arguments_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (
        ["--model", "resnet51"],
        ["--engines", "tensorrt"],
        ["--threads", "9999"],
        ["--model", str(tmp_path)],
    ):
        assert main(["bench", "engine", *wrong]) == 2
        assert "edged: cannot measure" in capsys.readouterr().err
    for flags in (["--widths", "9"], ["--widths", "x"], ["--sizes", "8"], ["--model", "vgg16"]):
        assert main(["bench", "engine", "--work", *flags]) == 2
    with pytest.raises(SystemExit):
        main(["bench", "engine", "--patience", "-1"])
    for flag in ("--rounds", "--runs", "--threads", "--tail"):
        with pytest.raises(SystemExit) as caught:
            main(["bench", "engine", flag, "0"])
        assert caught.value.code == 2


def test_a_self_check_fails_when_an_engine_differs_from_itself() -> None:
    import argparse

    from edged.cli import _bench_engine

    asked = argparse.Namespace(self_check=True)
    for ratio, passes in ((1.0, True), (0.985, True), (1.015, True), (0.97, False), (1.03, False)):
        own = {"of": "edged", "to": "edged (again)", "ratio": ratio}
        document = {"networks": [{"ratios": [own, {"of": "edged", "to": "x", "ratio": 3.0}]}]}
        assert _bench_engine._passed(document, asked) is passes


@pytest.mark.usefixtures("named")
def test_a_self_check_measures_each_engine_twice(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--self-check", "--engines", "edged,onnxruntime-int8", "--json", "-"]
    assert main(["bench", "engine", *QUICK, *flags]) in {0, 1}  # two runs say nothing of the ratio
    (network,) = json.loads(capsys.readouterr().out)["networks"]
    assert list(network["engines"]) == [
        "edged",
        "edged (again)",
        "onnxruntime-int8",
        "onnxruntime-int8 (again)",
    ]
    own = [each for each in network["ratios"] if each["to"].endswith("(again)")]
    assert [each["of"] for each in own] == ["edged", "onnxruntime-int8"]


def test_a_plot_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write plot"):
        bars.draw(tmp_path / "none" / "x.png", {"net": {"edged": [[1.0]]}})


# --------------------------------------------------------------------------------- memory and sizes


def test_a_worker_s_memory_is_read_after_it_has_answered(tmp_path: Path) -> None:
    from edged.build import assemble

    image = f"oci:{tmp_path / 'image'}"
    assemble(models.classifier(), name="lids", preprocess=models.PREPROCESS).write(image)
    picture = measure.draw_jpeg(40, 50)
    found = residence.worker_bytes(image, "images", picture, threads=1, requests=2)
    # Python with NumPy and onnxruntime is no smaller, and two workers would be.
    assert 30e6 < found < 400e6


def test_a_daemon_without_a_worker_is_told() -> None:
    with subprocess.Popen(["sleep", "60"]) as alone:
        try:
            with pytest.raises(DeviceError, match="cannot find the worker"):
                residence._worker(alone.pid)
        finally:
            alone.kill()


@pytest.fixture(scope="module")
def resnet50() -> zoo.ZooModel:
    return zoo.make("resnet50")


def test_networks_of_other_widths_and_sizes_compile(resnet50: zoo.ZooModel, tmp_path: Path) -> None:
    (narrow, other) = work.networks(resnet50.graph, [0.25, 1.5], [32])
    assert (narrow[0], narrow[1], narrow[2].name) == (0.25, 32, "resnet50 x0.25 32")
    made = subject.write(narrow[2], tmp_path, format="ms-fp13", int8=False)
    assert [t.channels for t in made.program.tensors][-1] == 512
    convolutions = [c for c in made.program.chains if hasattr(c, "weights")]
    assert len(convolutions) == 53
    weights = {t.name: t.dims for t in other[2].graph.graph.initializer}
    assert list(weights["resnet_v1_50/conv1/weights"]) == [96, 3, 7, 7]


def test_time_against_work_is_shown_and_drawn(
    resnet50: zoo.ZooModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(zoo, "make", lambda *_, **__: resnet50)
    flags = ["--work", "--widths", "0.25", "--sizes", "32,64", "--plot", str(tmp_path / "w.png")]
    path = tmp_path / "w.json"
    assert main(["bench", "engine", *QUICK, *flags, "--json", str(path)]) == 0
    assert "predicted ms" in capsys.readouterr().out
    small, large = json.loads(path.read_text())["work"]
    assert (small["size"], large["size"]) == (32, 64)
    assert small["gmac"] < large["gmac"]
    assert list(small["engines"]) == ["edged"]
    with Image.open(tmp_path / "w.png") as picture:
        assert picture.size == work.SIZE


def test_one_point_alone_can_be_drawn(tmp_path: Path) -> None:
    work.draw(tmp_path / "w.png", [work.Point(1.0, 224, 3.46, 5.0)], None, "x")
    assert (tmp_path / "w.png").stat().st_size > 1000
    with pytest.raises(StoreError, match="cannot write plot"):
        work.draw(tmp_path / "none" / "w.png", [work.Point(1.0, 224, 3.46, 5.0)], 1e12, "x")


# ---------------------------------------------------------------------------- two quantised graphs


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> subject.Subject:
    """A network that joins channels."""
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["a", "x"], ["b"], axis=1),
        helper.make_node("BatchNormalization", ["b", "one", "none", "none", "one"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["c"]),
    ]
    constants = {
        "w": random.normal(0, 0.3, (20, 18, 3, 3)).astype(np.float32),
        "v": random.normal(0, 0.3, (16, 38, 1, 1)).astype(np.float32),
        "one": np.ones(38, np.float32),
        "none": np.zeros(38, np.float32),
    }
    graph = models.model(nodes, {"x": (1, 18, 8, 8)}, ["c"], constants)
    network = subject.Network("joined", graph)
    return subject.write(network, tmp_path_factory.mktemp("joined"), format="ms-fp13")


def test_where_channels_are_joined_there_are_two_quantised_graphs(
    joined: subject.Subject, small: subject.Subject
) -> None:
    assert not (small.folder / engines.APART).exists()
    one, other = ((joined.folder / name).read_bytes() for name in (engines.INT8, engines.APART))
    assert one != other
    with Contender(Spec("onnxruntime-int8", 1, graph=engines.APART), joined.folder) as contender:
        assert contender.turn(runs=1, warm_up=0).times


def test_an_int8_engine_is_given_the_one_it_can_run(
    joined: subject.Subject, tmp_path: Path
) -> None:
    spec = Spec("onnxruntime-int8", 1)
    for name in (engines.INPUTS, engines.APART, engines.INT8):
        (tmp_path / name).write_bytes((joined.folder / name).read_bytes())
    broken = replace(joined, folder=tmp_path)
    (tmp_path / engines.INT8).write_bytes(b"nonsense")
    with comparison._faster(broken, spec) as contender:
        assert contender.spec.graph == engines.APART
        assert contender.spec.label == spec.label
    (tmp_path / engines.APART).write_bytes(b"nonsense")
    with pytest.raises(DeviceError, match="cannot open onnxruntime-int8"):
        comparison._faster(broken, spec)


def test_an_engine_that_cannot_run_a_network_is_left_out_where_it_may_be(
    joined: subject.Subject, tmp_path: Path
) -> None:
    for name in (engines.INPUTS, engines.PROGRAM):
        (tmp_path / name).write_bytes((joined.folder / name).read_bytes())
    (tmp_path / engines.FLOAT32).write_bytes(b"nonsense")
    broken = replace(joined, folder=tmp_path)
    specs = [Spec("edged", 1), Spec("onnxruntime-float32", 1)]
    plan = contest.Plan(1, 1, patience=0.0)
    found = comparison.compare(broken, specs, plan, optional=True).figures
    assert "cannot open" in found["missing"]["onnxruntime-float32"]
    assert list(found["engines"]) == ["edged"]
    with pytest.raises(DeviceError, match="cannot open"):
        comparison.compare(broken, specs, plan)


def test_a_network_that_fails_does_not_cost_the_others(
    small: subject.Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in small.folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / engines.FLOAT32).write_bytes(b"nonsense")
    flags = ["--engines", "edged,onnxruntime-float32", "--json", "-"]
    both = ["--model", str(broken), "--model", str(small.folder)]
    assert main(["bench", "engine", *both, *QUICK, *flags]) == 1
    shown = capsys.readouterr()
    assert "cannot open onnxruntime-float32" in shown.err
    assert len(json.loads(shown.out)["networks"]) == 1
