"""Stores of other versions: an older one opens, a newer one is refused and stays as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edged.deploy import check, schema
from edged.deploy.clock import Clock, Moment
from edged.deploy.counters import Counters
from edged.deploy.history import History
from edged.deploy.hold import Holds
from edged.deploy.quarantine import Quarantine
from edged.deploy.store import Store
from edged.errors import StoreError, VerifyError
from tests.unit.deploy.stores import contents, unpack


class Then(Clock):
    """The clock a minute after a moment of the store, in the same boot."""

    def __init__(self, since: Mapping[str, Any]) -> None:
        self._now = Moment(since["unix"] + 60, since["boot"], since["up"] + 60)

    def now(self) -> Moment:
        return self._now


OLDER = range(1, schema.LAYOUT + 1)


@pytest.mark.parametrize("layout", OLDER)
def test_a_store_that_an_older_version_wrote_opens_with_all_that_is_in_it(
    layout: int, tmp_path: Path
) -> None:
    state = unpack(layout, tmp_path / "state")
    assert schema.layout_of(state) == layout
    store = Store(state)
    assert store.current is not None
    assert (store.current.name, store.current.counter) == ("two", 2)
    assert store.previous is not None
    assert store.previous.name == "one"
    assert store.on_trial
    store.collect()
    assert list(check.faults(state)) == []
    assert [each.outcome for each in History(state).records] == [
        "committed",
        "committed",
        "reverted",
    ]
    assert [each.name for each in Quarantine(state).entries] == ["bad"]
    with pytest.raises(VerifyError, match="one with counter 2 was in service"):
        Counters(state).check("two", "", 1)
    hold = Holds(state, Then(json.loads((state / "hold.json").read_bytes())["since"])).current
    assert hold is not None
    assert (hold.owner, hold.reason) == ("line4", "audit")
    assert not list(state.glob("*.damaged"))


@pytest.mark.parametrize("layout", OLDER)
def test_a_store_that_was_opened_says_its_layout_and_who_wrote_it(
    layout: int, tmp_path: Path
) -> None:
    state = unpack(layout, tmp_path / "state")
    Store(state)
    document = json.loads((state / "version.json").read_bytes())
    assert document["layout"] == schema.layout_of(state) == schema.LAYOUT
    assert document["edged"]
    before = contents(state)["version.json"]
    Store(state)
    assert contents(state)["version.json"] == before, "written only when something changed"


def newer(state: Path, name: str, key: str, value: object) -> None:
    path = state / name
    document = json.loads(path.read_bytes()) if path.exists() else {}
    path.write_text(json.dumps({**document, key: value}))


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("version.json", "layout", schema.LAYOUT + 1, "its layout is of version 2"),
        ("current.json", "schema", 2, "current.json is of version 2"),
        ("history.json", "schema", 3, "history.json is of version 3"),
        ("quarantine.json", "schema", 2, "quarantine.json is of version 2"),
        ("counters.json", "schema", 2, "counters.json is of version 2"),
        ("hold.json", "schema", 2, "hold.json is of version 2"),
        ("deploying.json", "schema", 2, "deploying.json is of version 2"),
        ("of-the-future.json", "schema", 2, "of-the-future.json is of version 2"),
        ("images/oci-layout", "imageLayoutVersion", "2.0.0", "images is of version 2.0.0"),
    ],
)
def test_what_a_newer_version_wrote_is_refused_and_nothing_is_touched(
    name: str, key: str, value: object, said: str, tmp_path: Path
) -> None:
    state = unpack(1, tmp_path / "state")
    newer(state, name, key, value)
    before = contents(state)
    with pytest.raises(StoreError) as caught:
        Store(state)
    assert said in str(caught.value)
    assert "install that edged again" in str(caught.value)
    assert contents(state) == before


def test_the_error_names_the_version_that_wrote_it(tmp_path: Path) -> None:
    state = unpack(1, tmp_path / "state")
    newer(state, "version.json", "layout", 99)
    newer(state, "version.json", "edged", "7.1.0")
    with pytest.raises(StoreError, match=r"edged 7\.1\.0 wrote it last"):
        schema.check(state)
    newer(state, "version.json", "edged", "\x1b[31mred")
    with pytest.raises(StoreError) as caught:
        schema.check(state)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[1]", b'{"layout": "2"}', b'{"layout": true}', b"[" * 100_000]
)
def test_what_is_damaged_is_not_taken_for_newer(content: bytes, tmp_path: Path) -> None:
    state = unpack(1, tmp_path / "state")
    (state / "version.json").write_bytes(content)
    (state / "history.json").write_bytes(content)
    store = Store(state)
    assert store.current is not None
    assert schema.layout_of(state) == schema.LAYOUT, "and is written anew"


def test_a_folder_without_a_store_is_of_no_version(tmp_path: Path) -> None:
    assert schema.layout_of(tmp_path / "none") is None
    schema.check(tmp_path / "none")
    schema.check(tmp_path)


def test_a_full_disk_does_not_keep_a_store_from_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(state: Path) -> None:
        raise StoreError("cannot write version.json: no space left")

    monkeypatch.setattr(schema, "mark", full)
    assert Store(unpack(1, tmp_path / "state")).current is not None
    assert "noted at the next start" in caplog.text
