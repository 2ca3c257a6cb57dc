"""A file that is replaced is read anew; a bad one is said once, and the old content stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.access.watched import Watched
from edged.errors import ConfigError


def watched(path: Path) -> Watched[str]:
    def read() -> str:
        text = path.read_text() if path.exists() else ""
        if text == "bad":
            raise ConfigError("cannot use it: bad")
        return text

    return Watched([path], read, "things")


def test_new_content_is_seen_and_a_bad_one_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "f"
    file.write_text("one")
    things = watched(file)
    assert things.content == "one"
    replace(file, "two")
    assert things.content == "two"
    replace(file, "bad")
    assert [things.content, things.content] == ["two", "two"]
    assert things.problem == "cannot use it: bad"
    assert caplog.text.count("cannot use it: bad; the things of before stay in use") == 1
    replace(file, "three")
    assert (things.content, things.problem) == ("three", "")


def test_links_are_followed_to_what_they_mean_now(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1/f").write_text("one")
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2/f").write_text("two")
    (tmp_path / "now").symlink_to("v1")
    things = watched(tmp_path / "now/f")
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").replace(tmp_path / "now")
    assert things.content == "two"


def test_a_file_that_goes_and_comes_is_seen(tmp_path: Path) -> None:
    things = watched(tmp_path / "f")
    assert things.content == ""
    (tmp_path / "f").write_text("one")
    assert things.content == "one"
    (tmp_path / "f").unlink()
    assert things.content == ""


def replace(file: Path, text: str) -> None:
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)
