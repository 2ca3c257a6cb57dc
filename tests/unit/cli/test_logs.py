"""``edged logs`` shows what models' processes wrote, and goes on if asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edged.__main__ import main
from edged.containers.lines import BoundedFile


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    for name in ("edged-a-1", "edged-b-2"):
        file = BoundedFile(tmp_path / "logs" / f"{name}.log")
        for number in range(3):
            file.write(f"{name} says {number}")
        file.close()
    return tmp_path


def test_the_last_lines_are_shown_oldest_first(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "--state-dir", str(state), "--tail", "4"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 2)[2] for line in shown] == [
        "edged-a-1 says 2",
        *(f"edged-b-2 says {n}" for n in range(3)),
    ]
    assert main(["logs", "--state-dir", str(state), "--tail", "0"]) == 0
    assert capsys.readouterr().out == ""


def test_programs_get_an_object_a_line(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "--state-dir", str(state), "--json"]) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(objects) == 6
    assert objects[0].keys() == {"time", "container", "text"}
    assert objects[0]["container"] == "edged-a-1"


def test_following_shows_what_comes_also_of_new_containers(state: Path) -> None:
    command = [sys.executable, "-m", "edged", "logs", "--state-dir", str(state), "-f", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().endswith("edged-b-2 says 2\n")
            for name in ("edged-a-1", "edged-c-3"):
                file = BoundedFile(state / "logs" / f"{name}.log")
                file.write("more")
                file.close()
                assert process.stdout.readline().endswith(f" {name} more\n")
        finally:
            process.kill()


def test_where_nothing_has_run_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "--state-dir", str(tmp_path)]) == 1
    assert "no model has run yet" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["logs", "--tail", "many"])
