"""The fuzzer itself: for some seconds a target, and that it sees what it is there to see."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz.__main__ import NAMES, line, main, run
from tests.fuzz.targets import TARGETS

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed (edged[fuzz]); packaging/fuzz sets it up",
)


@pytest.mark.long
@needs_atheris
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found_in_twenty_seconds(name: str, tmp_path: Path) -> None:
    outcome = run(name, tmp_path, seconds=20)
    assert outcome.clean, line(outcome) + outcome.log.read_text(errors="replace")[-5000:]
    assert outcome.facts["accepted"] > 100


@needs_atheris
@pytest.mark.long
def test_harm_is_found_and_the_input_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A memory limit below what the process needs stands for all that can go wrong.
    monkeypatch.setattr("tests.fuzz.__main__.MEMORY_MEGABYTES", 10)
    outcome = run("picture", tmp_path, seconds=20)
    assert not outcome.clean
    assert "FOUND SOMETHING" in line(outcome)


def test_the_command_knows_every_target() -> None:
    assert set(NAMES) == set(TARGETS)


def test_an_unknown_target_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tensor"])
    assert "no target tensor; expected request, picture, program" in capsys.readouterr().err
