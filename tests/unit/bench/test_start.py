"""``edged bench start``: real starts of edged, whose first answer has to be the one of before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged import oci
from edged.__main__ import main
from edged.bench import start
from edged.build import build
from edged.errors import VerifyError
from tests.unit.build import models


def test_starts_are_measured_to_the_first_good_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(models.classifier(), f"oci:{tmp_path}/m", preprocess=models.PREPROCESS)
    assert main(["bench", "start", "--model", f"oci:{tmp_path}/m", "--rounds", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert len(figures["first_answer"]) == len(figures["ready"]) == 2
    for ready, answer in zip(figures["ready"], figures["first_answer"], strict=True):
        assert 0 < ready < answer
    assert "child process" in figures["sandbox"]


def test_the_copy_that_is_measured_is_signed(tmp_path: Path) -> None:
    build(models.classifier(), f"oci:{tmp_path}/m")
    image = oci.open_image(f"oci:{tmp_path}/m")
    (tmp_path / "home").mkdir()
    reference, trusted = start.signed_copy(image, tmp_path / "home")
    copy = oci.open_image(reference)
    assert copy.digest == image.digest
    known = oci.keys.TrustedKeys.load(trusted)
    oci.signature.verify(copy.digest, copy.signatures(), known)
    with pytest.raises(VerifyError):
        oci.signature.verify(image.digest, image.signatures(), known)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "at least one round"),
        (["--runtime", "docker"], "expected at least one round and one of"),
        (["--model", "oci:nowhere"], "nowhere"),
    ],
)
def test_wrong_arguments_are_told_before_the_work(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "start", *arguments]) != 0
    assert words in capsys.readouterr().err


def test_a_model_without_pictures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(models.classifier(), f"oci:{tmp_path}/m")
    assert main(["bench", "start", "--model", f"oci:{tmp_path}/m"]) != 0
    assert "takes no picture" in capsys.readouterr().err
