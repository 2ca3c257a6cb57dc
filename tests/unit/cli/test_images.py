"""``edged images``: what the store has, with no daemon, and pins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged import __main__
from edged.build import quality
from edged.deploy.store import Store
from edged.oci import Digest, LayoutFolder, companion, open_image
from tests.fakes import images


def run(*arguments: str) -> int:
    return __main__.main(["images", *arguments])


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "config"))
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv("EDGED_STATE_DIR", str(folder))
    return folder


def deploy(state: Path, folder: Path, name: str) -> str:
    store = Store(state)
    image = open_image(images.write(folder / name, name, padding=1000))
    slot = store.unpack(store.copy(image, lambda done: None), image.reference)
    store.commit(slot, store.current)
    return str(image.digest)


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert run("--json") == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


def test_a_device_without_images_says_so(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "no images" in capsys.readouterr().out
    assert listed(capsys) == []
    assert list(state.iterdir()) == [], "looking changes nothing"


def test_every_image_is_listed_with_what_it_is_kept_for(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = [deploy(state, tmp_path, name) for name in ("one", "two", "three")]
    rows = {row["name"]: row for row in listed(capsys)}
    assert [rows[n]["role"] for n in ("one", "two", "three")] == [None, "previous", "current"]
    assert rows["three"] == {
        "digest": digests[2],
        "name": "three",
        "version": "1",
        "format": "ms-fp13",
        "sku": "bw-cnn-a10",
        "bytes": rows["three"]["bytes"],
        "role": "current",
        "pinned": False,
        "signed_by": None,
        "source": f"oci:{tmp_path}/three",
        "quality": None,
    }
    assert int(str(rows["three"]["bytes"])) > 1000
    assert run() == 0
    text = capsys.readouterr().out
    assert digests[1].removeprefix("sha256:")[:12] in text
    assert "oci:" not in text
    assert run("--tag") == 0
    assert f"oci:{tmp_path}/two" in capsys.readouterr().out


def test_a_pinned_image_outlives_its_time(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = deploy(state, tmp_path, "one")
    assert run("--pin", first.removeprefix("sha256:")[:8]) == 0
    for name in ("two", "three"):
        deploy(state, tmp_path, name)
    Store(state).collect()
    rows = {row["name"]: row for row in listed(capsys)}
    assert rows["one"]["pinned"] is True
    assert "pinned" in text_of(capsys)
    assert run("--unpin", first) == 0
    Store(state).collect()
    assert {row["name"] for row in listed(capsys)} == {"two", "three"}


def text_of(capsys: pytest.CaptureFixture[str]) -> str:
    assert run() == 0
    return capsys.readouterr().out


def test_what_cannot_be_pinned_is_said(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(state, tmp_path, "one")
    for text in ("0" * 64, "sha256:", "nonsense", "../../etc/passwd"):
        assert run("--pin", text) == 1
        assert "0 in the store begin like that" in capsys.readouterr().err
    assert run("--unpin", str(open_image(f"oci:{tmp_path}/one").digest)) == 1
    assert "not pinned" in capsys.readouterr().err


def test_the_signer_is_named_if_the_key_is_trusted(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edged.oci import keys, signature

    keys.generate(tmp_path / "line4")
    folder = tmp_path / "one"
    digest = Digest.parse(str(open_image(images.write(folder, "one")).digest))
    private = keys.read_private(tmp_path / "line4.key")
    signature.add(LayoutFolder(folder), digest, private)
    image = open_image(f"oci:{folder}")
    store = Store(state)
    store.commit(store.unpack(store.copy(image, lambda done: None), ""), None)
    assert listed(capsys)[0]["signed_by"] is None, "nobody trusts the key yet"
    keys.trust(tmp_path / "line4.pub", tmp_path / "config" / "keys")
    assert str(listed(capsys)[0]["signed_by"]).startswith("line4 (")


def test_looking_changes_nothing(state: Path, tmp_path: Path) -> None:
    deploy(state, tmp_path, "one")

    def times() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in state.rglob("*")}

    before = times()
    assert run("--tag") == run("--json") == 0
    assert times() == before


def test_a_damaged_image_does_not_hide_the_others(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = [deploy(state, tmp_path, name) for name in ("one", "two")]
    path = state / "images" / "blobs" / "sha256" / digests[0].removeprefix("sha256:")
    path.write_bytes(path.read_bytes() + b" ")
    assert run() == 0
    shown = capsys.readouterr()
    assert "two" in shown.out
    assert f"image {digests[0]} is damaged; deploy it again" in shown.err


def test_the_quality_report_beside_an_image_is_shown(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = quality.Quality(
        "ms-fp13",
        (quality.Layer(0, (8, 8, 4), 40.0), quality.Layer(1, (8, 8, 4), 31.25)),
        pictures=200,
        agreement=0.995,
    )
    folder = tmp_path / "one"
    image = open_image(images.write(folder, "one"))
    companion.write(LayoutFolder(folder), image.digest, quality.KIND, report.parts())
    store = Store(state)
    store.commit(store.unpack(store.copy(image, lambda done: None), ""), None)
    (row,) = listed(capsys)
    assert row["quality"] == {"agreement": 0.995, "pictures": 200, "sqnr_db": [31.25, 40.0]}
    assert "31 dB, 99.5% as float32" in text_of(capsys)
