"""``edged build`` and ``edged inspect``, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edged import oci, zoo
from edged.__main__ import main
from edged.build import assemble
from edged.zoo import seeded
from edged.zoo.models import RECIPES
from tests.fakes import registry
from tests.fakes.registry import PASSWORD, USER
from tests.unit.build import models


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "lids.onnx"
    onnx.save(models.classifier(), path)
    return path


def test_build_shows_where_every_node_runs_and_the_digest(
    tmp_path: Path, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"oci:{tmp_path}/image:v1"
    report = tmp_path / "report.json"
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(models.CLASSES))
    arguments = ["build", str(graph), "-o", out, "--labels", str(labels), "--report", str(report)]
    assert main([*arguments, "--preprocess", json.dumps(models.PREPROCESS)]) == 0
    shown = capsys.readouterr().out
    assert "gemm" in shown
    assert "classifier stays on the CPU" in shown
    assert str(oci.open_image(out).digest) in shown
    nodes = json.loads(report.read_text())["nodes"]
    assert [row["where"] for row in nodes] == ["npu", "npu", "npu", "npu", "cpu", "cpu"]


def test_build_prints_facts_for_scripts(
    tmp_path: Path, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"oci-archive:{tmp_path}/image.tar"
    assert main(["build", str(graph), "-o", out, "--json", "--format", "ms-fp9"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["digest"] == str(oci.open_image(out).digest)
    assert (facts["name"], facts["version"], facts["format"]) == ("lids", "1", "ms-fp9")
    assert len(facts["report"]) == 6


def test_a_graph_that_cannot_be_built_fails_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(models.grouped(), tmp_path / "g.onnx")
    assert main(["build", str(tmp_path / "g.onnx"), "-o", f"oci:{tmp_path}/out"]) == 1
    assert "depthwise" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing.onnx", "-o", "oci:out"],
        ["resnet50", "-o", "docker://example.org/x:1"],
        ["resnet50", "-o", "oci:out", "--weights", "random"],
        ["resnet50", "-o", "oci:out", "--preprocess", "nothing"],
    ],
)
def test_wrong_usage_has_its_own_exit_status(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", *arguments]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [["build", "-o", "oci:out", "resnet50"], ["bench"]])
def test_weights_that_are_not_the_models_are_named(
    verb: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*verb, "--weights", "none.npz"]) == 2
    assert "none.npz: no such file; expected random:SEED or an .npz" in capsys.readouterr().err
    np.savez("other.npz", kernel=np.zeros(3))
    assert main([*verb, "--weights", "other.npz"]) == 1
    shown = capsys.readouterr().err
    assert "cannot use weights other.npz: 267 of 267 variables are missing" in shown
    assert "1 are not resnet_v1_50's: 'kernel'" in shown
    assert not (tmp_path / "out").exists()


def test_build_answers_with_the_values_that_are_named(
    tmp_path: Path, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"oci:{tmp_path}/image"
    assert main(["build", str(graph), "-o", out, "--output-tensor", "features"]) == 0
    capsys.readouterr()
    assert main(["inspect", out, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in facts["signature"]["outputs"]] == ["features"]


@pytest.mark.long
def test_trained_weights_make_an_image_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays: dict[str, Any] = {
        "global_step": np.array(7),
        **seeded.draw(RECIPES["resnet50"].network, 5, 3),
    }
    np.savez_compressed(tmp_path / "w.npz", **arrays)
    made = zoo.make("resnet50", weights="random:5", classes=3)
    expected = assemble(made).write(f"oci:{tmp_path}/seed")
    arguments = ["build", "resnet50", "-o", f"oci:{tmp_path}/image", "--json"]
    assert main([*arguments, "--weights", str(tmp_path / "w.npz")]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert facts["digest"] == str(expected)
    assert facts["notes"] == ["267 variables read; 1 of training passed over: 'global_step'"]
    assert facts["notes"][0] in shown.err


def test_a_report_that_cannot_be_written_fails(tmp_path: Path, graph: Path) -> None:
    arguments = ["build", str(graph), "-o", f"oci:{tmp_path}/out", "--report", str(tmp_path)]
    assert main(arguments) == 1


def test_inspect_shows_the_image_for_people(
    tmp_path: Path, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"oci:{tmp_path}/image"
    settings = {**models.PREPROCESS, "resize": {"kind": "shorter", "to": 20}, "crop": "center"}
    main(["build", str(graph), "-o", out, "--preprocess", json.dumps(settings)])
    capsys.readouterr()
    assert main(["inspect", out, "--chains", "--report"]) == 0
    shown = capsys.readouterr().out
    for part in (
        str(oci.open_image(out).digest),
        "shorter side to 20, crop 16 x 16, rgb, nchw",
        "post.onnx",
        "expander convolution",
        "16 x 16 x 8",
        "golden test: True",
        "classifier stays on the CPU",
        "of 2.0 GiB NPU memory",
    ):
        assert part in shown


def test_inspect_times_every_chain_beside_what_a_board_would_take(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"oci:{tmp_path}/out"
    main(["build", str(graph), "-o", out])
    capsys.readouterr()
    assert main(["inspect", out, "--layers"]) == 0
    shown = capsys.readouterr().out
    for part in ("measured us", "predicted us", "this machine's emulator", "predicted on a board"):
        assert part in shown
    assert main(["inspect", out, "--layers", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = document["layers"]
    assert [row["predicted_us"] > 0 for row in rows] == [row["gmac"] > 0 for row in rows]
    assert all(row["measured_us"] > 0 for row in rows)
    assert document["measured_us"] >= sum(row["measured_us"] for row in rows)
    assert document["predicted_us"] == pytest.approx(sum(r["predicted_us"] for r in rows), abs=0.1)


def test_inspect_prints_everything_for_scripts(
    tmp_path: Path, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"oci:{tmp_path}/image"
    main(["build", str(graph), "-o", out])
    capsys.readouterr()
    assert main(["inspect", out, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == "lids"
    assert [stage["kind"] for stage in facts["stages"]] == ["npu", "onnx"]
    assert main(["inspect", out]) == 0
    assert main(["inspect", f"oci:{tmp_path}/nowhere"]) == 1


def test_inspect_speaks_to_a_registry_as_the_configuration_says(
    tmp_path: Path,
    graph: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local = f"oci:{tmp_path}/image:v1"
    assert main(["build", str(graph), "-o", local]) == 0
    config = tmp_path / "edged.toml"
    monkeypatch.setenv("EDGED_CONFIG", str(config))
    with registry.run(tmp_path / "r", **registry.passwords(tmp_path / "p")) as running:
        reference = f"docker://{running.host}/lids:v1"
        registry.skopeo("copy", f"--dest-creds={USER}:{PASSWORD}", local, reference)
        config.write_text("")
        assert main(["inspect", reference]) == 1
        assert "wants credentials" in capsys.readouterr().err
        (tmp_path / "secret").write_text(PASSWORD)
        table = f'[registries."{running.host}"]\nusername = "{USER}"\npassword_file = "secret"\n'
        config.write_text(table)
        assert main(["inspect", "--json", reference]) == 0
        assert json.loads(capsys.readouterr().out)["digest"] == str(oci.open_image(local).digest)


def test_names_from_an_image_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = models.classifier()
    hostile.graph.node[0].name = "conv\x1b]0;owned\x07"
    onnx.save(hostile, tmp_path / "m.onnx")
    main(["build", str(tmp_path / "m.onnx"), "-o", f"oci:{tmp_path}/out"])
    main(["inspect", f"oci:{tmp_path}/out", "--report"])
    assert "\x1b" not in capsys.readouterr().out


def test_build_signs_the_image_and_its_digest_stays(
    tmp_path: Path, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(graph), "-o", f"oci:{tmp_path}/plain", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    key = oci.keys.generate(tmp_path / "plant")
    sign = ["--sign", str(tmp_path / "plant.key")]
    assert main(["build", str(graph), "-o", f"oci:{tmp_path}/signed", "--json", *sign]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (plain["signed_by"], facts["signed_by"]) == (None, key.id)
    assert facts["digest"] == plain["digest"]
    image = oci.open_image(f"oci:{tmp_path}/signed")
    found = oci.signature.read(image.layout, image.digest)
    trusted = oci.keys.TrustedKeys(tmp_path, (key,))
    assert oci.signature.verify(image.digest, found, trusted) == key


def test_a_key_that_cannot_sign_fails_before_anything_is_built(tmp_path: Path, graph: Path) -> None:
    key = tmp_path / "plant.key"
    key.write_text("no key")
    assert main(["build", str(graph), "-o", f"oci:{tmp_path}/m", "--sign", str(key)]) != 0
    assert not (tmp_path / "m").exists()
