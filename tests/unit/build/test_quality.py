"""The quality report: true to what the format costs, kept beside the image, shown by inspect."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edged import npu, oci
from edged.__main__ import main
from edged.build import assemble, build, quality
from edged.errors import ConfigError, ModelError
from edged.npu import reference
from edged.npu.chains import Convolution
from tests.unit.build import models


def report(graph: object, **options: object) -> quality.Quality:
    return assemble(graph, **options).quality  # type: ignore[arg-type]


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    drawing = np.random.default_rng(7)
    for number in range(count):
        pixels = drawing.integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_a_layers_sqnr_is_that_of_the_definition_in_numpy() -> None:
    built = assemble(models.classifier())
    program = npu.Program.from_bytes(built.files["program.npu"])
    first = next(n for n, c in enumerate(program.chains) if isinstance(c, Convolution))
    from edged.build import draw

    entered = draw.Drawing(quality._SEED).array(program.inputs[0].shape)
    x = npu.ports.to_map(program.inputs[0], entered, half=True)
    maps = {program.inputs[0].tensor: x}
    found, exact = (reference.run_maps(program, maps, n)[0] for n in ("bfp", "float32"))
    target = program.chains[first].target
    noise = np.sum((exact[target] - found[target]) ** 2, dtype=np.float64)
    expected = 10 * np.log10(np.sum(exact[target] ** 2, dtype=np.float64) / noise)
    assert built.quality.layers[0].chain == first
    assert built.quality.layers[0].sqnr_db == pytest.approx(expected, abs=0.05)


def test_a_coarser_format_costs_more_in_every_layer() -> None:
    fine, coarse = (report(models.classifier(), format=each) for each in ("ms-fp13", "ms-fp9"))
    assert len(fine.layers) > 0
    for one, other in zip(fine.layers, coarse.layers, strict=True):
        assert one.sqnr_db > other.sqnr_db + 6


def test_agreement_is_measured_on_the_pictures_that_are_given(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "samples", 5)
    found = report(models.classifier(), preprocess=models.PREPROCESS, sample=folder)
    assert found.pictures == 5
    assert found.agreement is not None
    assert 0 <= found.agreement <= 1
    assert (found.agreement * 5) % 1 == pytest.approx(0)


def test_samples_that_are_none_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="expected JPEG or PNG files, got none"):
        report(models.classifier(), sample=tmp_path / "empty")
    folder = pictures(tmp_path / "samples", 1)
    with pytest.raises(ConfigError, match=r"the model takes .*, not a picture"):
        report(models.classifier(), sample=folder)


def test_the_report_stands_beside_the_image_and_does_not_change_its_digest(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "samples", 2)
    settings = models.PREPROCESS
    plain = build(models.classifier(), f"oci:{tmp_path}/a", preprocess=settings)
    digest = build(models.classifier(), f"oci:{tmp_path}/b", preprocess=settings, sample=folder)
    assert plain == digest
    image = oci.open_image(f"oci:{tmp_path}/b")
    parts = oci.companion.read(image.layout, digest, quality.KIND, quality.PART_LIMIT)
    found = quality.from_parts(parts)
    assert found is not None
    assert found.pictures == 2
    (png,) = [part.data for part in parts if part.media_type == quality.PNG]
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size[0] > 500


def test_inspect_shows_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(models.classifier(), f"oci:{tmp_path}/a", counter=7)
    assert main(["inspect", f"oci:{tmp_path}/a", "--quality"]) == 0
    text = capsys.readouterr().out
    assert "SQNR" in text
    assert "counter: 7" in text
    assert main(["inspect", f"oci:{tmp_path}/a", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["counter"] == 7
    assert facts["signatures"] == 0
    assert len(facts["quality"]["layers"]) > 0


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"layers": 1}', b'{"layers": [{}], "agreement": null}']
)
def test_a_damaged_report_is_an_error_not_a_crash(data: bytes) -> None:
    with pytest.raises(ModelError, match="cannot read quality report"):
        quality.Quality.from_json(data)


def test_the_report_survives_its_json() -> None:
    found = report(models.classifier())
    assert quality.Quality.from_json(found.to_json()) == found
    assert dataclasses.replace(found, pictures=1).to_json() != found.to_json()


def test_annotations_say_what_was_built_and_edgeds_own_cannot_be_taken(tmp_path: Path) -> None:
    build(
        models.classifier(),
        f"oci:{tmp_path}/a",
        annotations={"org.opencontainers.image.licenses": "MIT", "plant": "north"},
        counter=3,
    )
    found = oci.open_image(f"oci:{tmp_path}/a").annotations
    assert found["org.opencontainers.image.licenses"] == "MIT"
    assert found["plant"] == "north"
    assert found["org.edged.model.counter"] == "3"
    assert json.loads(found["org.edged.model.build"])["graph"].startswith("sha256:")
    with pytest.raises(ConfigError, match="edged's own"):
        build(models.classifier(), f"oci:{tmp_path}/b", annotations={"org.edged.model.sku": "x"})
    with pytest.raises(ConfigError, match="counter must be"):
        build(models.classifier(), f"oci:{tmp_path}/b", counter=-1)
    assert not (tmp_path / "b").exists()


def test_annotations_are_given_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    onnx.save(models.classifier(), tmp_path / "m.onnx")
    common = ["build", str(tmp_path / "m.onnx"), "-o", f"oci:{tmp_path}/a"]
    assert main([*common, "--license", "MIT", "--annotation", "plant=north", "--counter", "2"]) == 0
    assert oci.open_image(f"oci:{tmp_path}/a").annotations["plant"] == "north"
    assert oci.open_image(f"oci:{tmp_path}/a").facts.counter == 2
    capsys.readouterr()
    assert main([*common, "--annotation", "plant"]) != 0
    assert "expected NAME=VALUE" in capsys.readouterr().err
