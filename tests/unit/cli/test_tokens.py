"""``edged tokens``: shown once, replaced one at a time, refused with words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edged.__main__ import main
from edged.access import tokens

GIVEN = "abc:/def/ghi+jkl=0123456789:/456"


@pytest.fixture
def tokens_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command with JSON; returns its status and what it printed."""

    def run(*arguments: str) -> tuple[int, Any]:
        status = main(["tokens", *arguments, "--state-dir", str(tmp_path), "--json"])
        printed = capsys.readouterr()
        return status, json.loads(printed.out) if status == 0 else printed.err

    return run


def find(state: Path, token: str) -> bool:
    return tokens.read(tokens.path(state)).find(token, 0) is not None


def test_a_name_gets_two_tokens_that_are_rotated_one_by_one(tmp_path: Path, tokens_of: Any) -> None:
    status, made = tokens_of("create", "line4", "--role", "status")
    assert status == 0
    assert set(made) == {"name", "primary", "secondary"}
    assert find(tmp_path, made["primary"])
    status, again = tokens_of("rotate", "line4", "--slot", "secondary")
    assert (status, set(again)) == (0, {"name", "secondary"})
    assert [find(tmp_path, each["secondary"]) for each in (made, again)] == [False, True]
    assert find(tmp_path, made["primary"]), "who uses the other one goes on"
    (listed,) = tokens_of("list")[1]["tokens"]
    assert (listed["name"], listed["role"]) == ("line4", "status")
    assert set(listed["tokens"]) == {"primary", "secondary"}


def test_one_or_both_are_revoked(tmp_path: Path, tokens_of: Any) -> None:
    made = tokens_of("create", "line4", "--role", "predict")[1]
    assert tokens_of("revoke", "line4", "--slot", "primary")[0] == 0
    assert [find(tmp_path, made[slot]) for slot in tokens.SLOTS] == [False, True]
    assert tokens_of("revoke", "line4")[0] == 0
    assert not find(tmp_path, made["secondary"])
    assert tokens_of("list")[1] == {"tokens": []}


def test_a_token_may_be_given_as_the_original_service_made_it(
    tmp_path: Path, tokens_of: Any
) -> None:
    file = tmp_path / "given"
    file.write_text(GIVEN + "\n")
    status, made = tokens_of("create", "old", "--role", "predict", "--given", str(file))
    assert (status, made) == (0, {"name": "old", "primary": GIVEN})
    assert find(tmp_path, GIVEN)
    status, error = tokens_of("create", "other", "--role", "predict", "--given", str(file))
    assert (status, "in use already" in error) == (2, True)


def test_an_end_is_kept(tokens_of: Any) -> None:
    tokens_of("create", "line4", "--role", "predict", "--expires", "90d")
    (listed,) = tokens_of("list")[1]["tokens"]
    for token in listed["tokens"].values():
        assert token["expires_unix"] - token["created_unix"] == 90 * 86400


def test_what_cannot_be_done_is_said(tokens_of: Any) -> None:
    tokens_of("create", "line4", "--role", "predict")
    for arguments, why in (
        (("create", "line4", "--role", "predict"), "it exists"),
        (("create", "x", "--role", "king"), "expected one of predict, status, admin, got 'king'"),
        (("rotate", "line5"), "no such name; known: line4"),
        (("revoke", "line5"), "no such name; known: line4"),
        (("create", "a b", "--role", "admin"), "cannot use name"),
        (("rotate", "line4", "--given", "/nonexistent"), "No such file"),
    ):
        status, error = tokens_of(*arguments)
        assert (status, why in error) == (2, True), error


def test_each_change_is_recorded_without_the_token(tmp_path: Path, tokens_of: Any) -> None:
    made = tokens_of("create", "line4", "--role", "predict")[1]
    tokens_of("rotate", "line4", "--slot", "primary")
    tokens_of("revoke", "line4")
    text = (tmp_path / "audit.log").read_text()
    acts = [json.loads(line) for line in text.splitlines()]
    assert [(each["what"], each["object"]) for each in acts] == [
        ("tokens create", "line4"),
        ("tokens rotate", "line4 primary"),
        ("tokens revoke", "line4"),
    ]
    assert made["primary"] not in text


def test_people_see_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--state-dir", str(tmp_path)]
    assert main(["tokens", "list", *folder]) == 0
    assert "no tokens in" in capsys.readouterr().out
    assert main(["tokens", "create", "line4", "--role", "admin", "--expires", "1h", *folder]) == 0
    assert "shown once" in capsys.readouterr().out
    assert main(["tokens", "list", *folder]) == 0
    assert "line4  admin  primary" in capsys.readouterr().out
