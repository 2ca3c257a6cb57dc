"""What is remembered of deployments is bounded, and damage costs nothing but itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edged.deploy import history, quarantine
from edged.deploy.counters import Counters
from edged.deploy.device import Npu
from edged.deploy.history import History, Record
from edged.deploy.quarantine import Entry, Quarantine
from edged.deploy.types import Slot
from edged.errors import ConfigError, ModelError, RequestError, StoreError, VerifyError
from edged.oci import ModelFacts


def test_history_keeps_the_newest_and_numbers_go_on(tmp_path: Path) -> None:
    kept = History(tmp_path)
    for _ in range(history.KEPT + 5):
        kept.add(Record(0, "deploy", reason="x" * 5000, outcome="failed"))
    again = History(tmp_path)
    assert [each.number for each in again.records] == list(range(6, history.KEPT + 6))
    assert len(again.records[0].reason) == history.TEXT_LIMIT
    assert (tmp_path / "history.json").stat().st_size < 400_000
    assert again.add(Record(0, "deploy")).number == history.KEPT + 6


def test_the_next_change_cuts_an_open_window_short(tmp_path: Path) -> None:
    kept = History(tmp_path)
    first = kept.add(Record(0, "deploy", outcome="committed", window=history.OPEN))
    kept.add(Record(0, "deploy", outcome="failed"))
    assert kept.open_window == first.number, "one that failed changed nothing"
    kept.add(Record(0, "deploy", outcome="committed", window=history.OPEN))
    assert [each.window for each in kept.records] == [history.CUT, "", history.OPEN]
    kept.amend(3, window=history.PASSED)
    assert History(tmp_path).open_window == 0


@pytest.mark.parametrize(
    "record", ["3", '{"number": "1", "cause": "x"}', '{"number": 1}', '{"phases_us": {"x": "y"}}']
)
def test_a_record_that_is_none_puts_the_file_aside(tmp_path: Path, record: str) -> None:
    (tmp_path / "history.json").write_text(f'{{"schema": 1, "records": [{record}]}}')
    assert History(tmp_path).records == []
    assert (tmp_path / "history.json.damaged").exists()


def test_a_disk_that_fails_costs_the_record_not_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept, bad = History(tmp_path), Quarantine(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise StoreError("cannot write: no space")

    monkeypatch.setattr("edged.osutil.atomic.write_file", full)
    assert kept.add(Record(0, "deploy")).number == 1
    bad.add(Entry("sha256:" + "0" * 64, "m", "1", "it is bad", 0))
    with pytest.raises(ModelError, match="in quarantine"):
        bad.check("sha256:" + "0" * 64)
    with pytest.raises(StoreError):
        bad.clear("all")
    assert len(bad.entries) == 1
    assert "no space" in caplog.text


def test_quarantine_is_bounded_and_found_by_its_first_digits(tmp_path: Path) -> None:
    bad = Quarantine(tmp_path)
    for number in range(quarantine.KEPT + 3):
        bad.add(Entry(f"sha256:{number:064x}", "m", "1", "x", 0))
    assert len(Quarantine(tmp_path).entries) == quarantine.KEPT
    for ambiguous in ("0" * 10, "1", "sha256:" + "f" * 64):
        with pytest.raises(RequestError, match="cannot clear"):
            bad.clear(ambiguous)
    assert len(bad.clear("all")) == quarantine.KEPT
    assert Quarantine(tmp_path).entries == []


def test_counters_only_grow_and_are_per_name_and_key(tmp_path: Path) -> None:
    counters = Counters(tmp_path)

    def note(name: str, key: str, counter: int) -> None:
        counters.note(Slot("sha256:x", "", tmp_path, name=name, key=key, counter=counter))

    note("m", "a", 5)
    note("m", "a", 3)
    again = Counters(tmp_path)
    with pytest.raises(VerifyError, match=r"counter 4, and one with counter 5 .*allow-downgrade"):
        again.check("m", "a", 4)
    for name, key, counter in (("m", "a", 5), ("m", "b", 0), ("n", "a", 0)):
        again.check(name, key, counter)


def test_the_npu_is_a_shipped_one() -> None:
    npu = Npu.named()
    npu.check(ModelFacts("m", "1", npu.sku, npu.formats[0], npu.memory))
    with pytest.raises(ModelError, match="on the NPU"):
        npu.check(ModelFacts("m", "1", npu.sku, npu.formats[0], npu.memory + 1))
    with pytest.raises(ConfigError, match="expected one of"):
        Npu.named("../../etc")


def test_attempts_that_fail_alike_are_one_record(tmp_path: Path) -> None:
    kept = History(tmp_path)
    failed = Record(0, "deploy", "docker://h/n:1", outcome="failed", reason="no route")
    kept.add(failed)
    for _ in range(300):
        kept.add(failed, again=True)
    kept.add(dataclasses.replace(failed, reason="401"), again=True)
    kept.add(failed)
    found = [(each.number, each.reason, each.attempts) for each in History(tmp_path).records]
    assert found == [(1, "no route", 301), (2, "401", 1), (3, "no route", 1)]
