"""``edged keys``: pairs that sign, and whom a device trusts, where ``edged run`` looks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged import __main__


def run(*arguments: object) -> int:
    return __main__.main(["keys", *map(str, arguments)])


def trusted(capsys: pytest.CaptureFixture[str], *flags: object) -> dict[str, object]:
    capsys.readouterr()
    assert run("list", "--json", *flags) == 0
    facts: dict[str, object] = json.loads(capsys.readouterr().out)
    return facts


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "config"))
    assert run("generate", tmp_path / "plant") == 0
    return tmp_path / "plant.pub"


@pytest.mark.parametrize("told", ["flag", "variable", "file", "default"])
def test_a_key_is_trusted_where_the_daemon_looks_for_it(
    tmp_path: Path,
    plant: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    told: str,
) -> None:
    folder, flags = tmp_path / "keys", list[object]()
    if told == "flag":
        flags = ["--keys-dir", folder]
    elif told == "variable":
        monkeypatch.setenv("EDGED_KEYS_DIR", str(folder))
    elif told == "file":
        (tmp_path / "edged.toml").write_text(f'keys_dir = "{folder}"\n')
        monkeypatch.setenv("EDGED_CONFIG", str(tmp_path / "edged.toml"))
    else:
        folder = Path(str(trusted(capsys)["folder"]))
        assert tmp_path in folder.parents
    assert run("trust", plant, *flags) == 0
    assert (folder / "plant.pub").is_file()
    facts = trusted(capsys, *flags)
    assert facts["folder"] == str(folder)
    assert [key["name"] for key in facts["keys"]] == ["plant"]  # type: ignore[attr-defined]
