"""What of the host's files is shown to a worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edged.containers.runc import view
from edged.errors import ConfigError


def test_the_interpreter_and_the_packages_are_shown_at_their_own_paths() -> None:
    seen = view.look("tests.fakes.worker")

    def shown(path: str | Path) -> bool:
        return any(folder in (Path(path), *Path(path).parents) for folder in seen.folders)

    for module in ("json", "encodings", "numpy", "edged.worker", "tests.fakes.worker"):
        __import__(module)
        assert shown(str(sys.modules[module].__file__)), module
    assert shown(sys.executable)
    assert shown("/usr/bin/env")
    assert not shown("/etc/passwd")
    assert Path(view.__file__).parents[3] in seen.packages


def test_no_folder_is_shown_twice_and_links_are_followed(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "lib").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    assert view.outermost([real, real / "lib"]) == (real,)
    assert view.outermost([tmp_path / "link"]) == (tmp_path / "link", real)
    assert view.outermost([tmp_path / "nowhere", tmp_path / "x" / ".." / "real"]) == (real,)


@pytest.mark.parametrize("folder", ["/", "/tmp", "/proc", "/dev/../dev"])
def test_a_python_that_would_hide_the_containers_own_is_refused(folder: str) -> None:
    with pytest.raises(ConfigError, match="install Python in another folder"):
        view.outermost([Path(folder)])


def test_links_to_usr_are_kept_and_folders_that_are_none_are_shown(tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "lib").mkdir()
    seen = view.look("edged", tmp_path)
    assert seen.links == {"bin": "usr/bin"}
    assert tmp_path / "lib" in seen.folders


def test_a_module_without_a_package_cannot_be_shown() -> None:
    with pytest.raises(
        ConfigError, match="cannot show this to a container: it is no Python package"
    ):
        view.look("this")
