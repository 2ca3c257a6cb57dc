"""Each act has one line, whatever is in it; the file has a bound; a bad disk costs no act."""

from __future__ import annotations

import json
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edged.access import audit
from edged.access.audit import Act, Audit


def records(state: Path, name: str = audit.FILE) -> list[dict[str, str]]:
    return [json.loads(line) for line in (state / name).read_text().splitlines()]


def test_a_record_says_who_what_and_how_it_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edged")
    act = Act("token ops", "ipv4:10.0.0.7:5", "deploy", "oci:/x\nfake: done", "failed: no\nspace")
    Audit(tmp_path).note(act)
    (kept,) = records(tmp_path)
    assert kept.pop("time").endswith("+00:00")
    assert kept == {
        "who": "token ops",
        "via": "ipv4:10.0.0.7:5",
        "what": "deploy",
        "object": "oci:/x\nfake: done",
        "outcome": "failed: no\nspace",
    }
    (record,) = caplog.records
    assert record.getMessage() == (
        "audit: token ops via ipv4:10.0.0.7:5: deploy oci:/x fake: done: failed: no space"
    )
    assert record.__dict__["event"] == "audit"
    assert stat.S_IMODE((tmp_path / audit.FILE).stat().st_mode) == 0o640


def test_the_file_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LIMIT", 2000)
    for number in range(100):
        Audit(tmp_path).keep(Act("a", "b", "hold", "x" * 5000, str(number)))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 2000
    assert records(tmp_path)[-1]["outcome"] == "99"


def test_two_writers_keep_whole_lines(tmp_path: Path) -> None:
    Audit(tmp_path).keep(Act("first", "b", "c"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Audit(tmp_path).keep(Act(str(i), "b", "c" * i)), range(100)))
    assert {each["who"] for each in records(tmp_path)} == {"first", *map(str, range(100))}


def test_a_disk_that_fails_is_said_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Audit(tmp_path / "gone").note(Act("a", "b", "deploy"))
    assert "cannot keep an audit record" in caplog.text


def test_a_local_user_has_a_name() -> None:
    assert audit.named(0, 7) == "user root (uid 0, pid 7)"
    assert audit.named(4_000_000, 7) == "user unknown (uid 4000000, pid 7)"
    assert f"pid {os.getpid()}" in audit.own_name()
