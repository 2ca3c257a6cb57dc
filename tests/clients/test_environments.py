"""Environments of foreign clients: made once, and where they cannot be the tests say why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.environments import Environment, cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_TEST_CACHE", str(tmp_path))
    # pip finds nothing, on a machine with an index too.
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "NO_INPUT": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)


def skipped(environment: Environment) -> str:
    with pytest.raises(pytest.skip.Exception) as caught:
        environment.python()
    return str(caught.value)


def test_each_list_of_requirements_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {
        Environment("name", ("a",)).folder,
        Environment("name", ("b",)).folder,
        Environment("name", (), ("a",)).folder,
    }
    assert len(folders) == 3
    assert all(folder.parent == cache() == tmp_path for folder in folders)


def test_a_cache_that_cannot_be_written_is_a_reason_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGED_TEST_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot write" in skipped(Environment("name", ("a",)))


@pytest.mark.long
def test_what_pip_cannot_find_is_a_reason_to_skip_each_time() -> None:
    environment = Environment("name", ("there-is-no-such-package-anywhere",))
    for _ in range(2):
        assert "there-is-no-such-package-anywhere" in skipped(environment)


@pytest.mark.long
def test_an_environment_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment("name", ("pip",))  # there already
    python = environment.python()
    assert python.exists()
    kept = python.parent / "kept"
    kept.touch()
    assert environment.python() == python
    assert kept.exists()


@pytest.mark.long
def test_what_cannot_be_imported_is_a_reason_to_skip() -> None:
    environment = Environment("name", ("pip",), module="no_such_module")
    assert "no_such_module" in skipped(environment)
