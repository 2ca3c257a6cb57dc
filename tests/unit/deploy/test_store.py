"""What is on the disk is the old model or the new one, whole, after a crash anywhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edged import oci
from edged.deploy.store import Store
from edged.deploy.types import Slot
from edged.errors import StoreError, VerifyError
from edged.oci import BlobStore
from edged.osutil import atomic
from tests.fakes import images


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def put(store: Store, reference: str) -> Slot:
    """Copies an image in and unpacks it."""
    image = oci.open_image(reference)
    return store.unpack(store.copy(image, lambda done: None), reference)


def check(state: Path) -> Store:
    """Opens the store, and looks whether what it points to is whole."""
    store = Store(state)
    for slot in (store.current, store.previous):
        if slot is not None:
            assert (slot.folder / "manifest.json").exists()
            assert (slot.folder / "program.npu").stat().st_size == 1000
    return store


def test_an_empty_store_has_no_model(state: Path) -> None:
    store = Store(state)
    assert (store.current, store.previous) == (None, None)
    store.collect()


def test_a_committed_slot_is_there_when_the_store_is_opened_again(
    state: Path, tmp_path: Path
) -> None:
    store = Store(state)
    slot = put(store, images.write(tmp_path / "a", padding=1000))
    store.commit(slot, None)
    assert check(state).current == slot


def test_copying_tells_how_far_it_is_and_can_be_ended(state: Path, tmp_path: Path) -> None:
    image = oci.open_image(images.write(tmp_path / "a", padding=3_000_000))
    told: list[int] = []

    def tell(done: int) -> None:
        told.append(done)
        if done > 1_000_000:
            raise StoreError("enough")

    with pytest.raises(StoreError, match="enough"):
        Store(state).copy(image, tell)
    assert told == sorted(told)
    assert not list((state / "images/blobs/sha256").iterdir()), "no half blob is left"


def test_a_blob_that_was_damaged_on_the_disk_is_copied_again(state: Path, tmp_path: Path) -> None:
    reference = images.write(tmp_path / "a", padding=1000)
    store = Store(state)
    put(store, reference)
    for blob in (state / "images/blobs/sha256").iterdir():
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
    store.commit(put(store, reference), None)
    check(state)


def test_a_blob_damaged_between_copy_and_unpack_is_noticed(state: Path, tmp_path: Path) -> None:
    store = Store(state)
    image = store.copy(
        oci.open_image(images.write(tmp_path / "a", padding=1000)), lambda done: None
    )
    layer = image.layout.blob_path(image.manifest.layers[0].digest)  # type: ignore[attr-defined]
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)
    with pytest.raises(VerifyError):
        store.unpack(image, "oci:a")
    assert not [p for p in (state / "models").iterdir() if not p.name.startswith(".")]


def test_unpacking_again_replaces_what_was_there(state: Path, tmp_path: Path) -> None:
    reference = images.write(tmp_path / "a", padding=1000)
    store = Store(state)
    slot = put(store, reference)
    (slot.folder / "manifest.json").write_text("{}")
    (state / "models" / f"{slot.folder.name}.fresh").mkdir()
    (state / "models" / f"{slot.folder.name}.stale").mkdir()
    put(store, reference)
    assert len((slot.folder / "manifest.json").read_bytes()) > 100
    assert [p.name for p in (state / "models").iterdir()] == [slot.folder.name]


def test_what_is_neither_current_nor_previous_is_removed(state: Path, tmp_path: Path) -> None:
    store = Store(state)
    slots = [put(store, images.write(tmp_path / n, n, padding=1000)) for n in "abc"]
    store.commit(slots[2], slots[1])
    (state / "models" / "link").symlink_to(tmp_path)
    store.collect()
    assert {p.name for p in (state / "models").iterdir()} == {s.folder.name for s in slots[1:]}
    assert tmp_path.exists(), "a link is removed, not what it leads to"
    check(state)
    store.unpack(oci.open_image(f"oci:{tmp_path / 'b'}"), "oci:b")


def test_what_cannot_be_removed_is_left_and_said(
    state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(state)
    store.commit(put(store, images.write(tmp_path / "a")), None)
    for blob in (state / "images/blobs/sha256").iterdir():
        blob.write_bytes(b"rotten")
    store.collect()
    assert "cannot remove" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 1}',
        '{"schema": 0, "current": null, "previous": null}',
        '{"schema": 1, "current": {"digest": "sha256:x"}, "previous": null}',
        '{"schema": 1, "current": {"digest": "../../etc"}, "previous": null}',
    ],
)
def test_a_pointer_that_makes_no_sense_is_an_error(state: Path, text: str) -> None:
    (state / "current.json").write_text(text)
    with pytest.raises(StoreError, match="cannot read"):
        Store(state)


def test_a_state_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file is in the way")
    with pytest.raises(StoreError, match="cannot use"):
        Store(tmp_path)


def test_a_pointer_that_cannot_be_written_leaves_the_old_one(state: Path, tmp_path: Path) -> None:
    store = Store(state)
    old = put(store, images.write(tmp_path / "a", padding=1000))
    store.commit(old, None)
    state.rename(tmp_path / "away")
    with pytest.raises(StoreError, match="cannot write"):
        store.commit(None, old)
    (tmp_path / "away").rename(state)
    assert store.current == old
    assert check(state).current == old


def deploy(state: Path, reference: str) -> None:
    store = Store(state)
    slot = store.unpack(store.copy(oci.open_image(reference), lambda done: None), reference)
    store.commit(slot, store.current)
    store.collect()


def points(state: Path, reference: str) -> list[str]:
    """Deploys, and returns the points that it passed."""
    seen: list[str] = []
    atomic.failpoint_hook = seen.append
    try:
        deploy(state, reference)
    finally:
        atomic.failpoint_hook = None
    return seen


def crash(state: Path, reference: str, number: int) -> int:
    """Deploys in a process of its own that ends at the so-many-th point; its exit status."""
    child = os.fork()
    if child == 0:
        passed = 0

        def hook(name: str) -> None:
            nonlocal passed
            if passed == number:
                os._exit(9)
            passed += 1

        atomic.failpoint_hook = hook
        try:
            deploy(state, reference)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_crash_at_any_point_leaves_the_old_or_the_new_model(memory_path: Path) -> None:
    old = images.write(memory_path / "old", "old", padding=1000)
    new = images.write(memory_path / "new", "new", padding=1000)
    old_digest, new_digest = (str(oci.open_image(image).digest) for image in (old, new))
    (memory_path / "before").mkdir()
    deploy(memory_path / "before", old)
    passed = points(shutil.copytree(memory_path / "before", memory_path / "count"), new)
    assert len(passed) > 50
    moved = passed.index("current.json:renamed")
    for number in range(len(passed)):
        state = shutil.copytree(memory_path / "before", memory_path / str(number))
        assert crash(state, new, number) == 9
        store = check(state)
        assert store.current is not None
        # From the rename on it is the new one, for good.
        assert store.current.digest == (new_digest if number >= moved else old_digest)
        assert BlobStore(state / "images").check() == []
        # And the next deployment is not kept from anything by what is lying about.
        deploy(state, old)
        store = check(state)
        assert store.current is not None
        assert store.current.digest == old_digest
        assert BlobStore(state / "images").check() == []
        kept = {s.digest for s in (store.current, store.previous) if s}
        assert {f"sha256:{p.name}" for p in (state / "models").iterdir()} == kept
        shutil.rmtree(state)


def test_a_crash_while_the_current_model_is_unpacked_anew_does_not_lose_it(
    memory_path: Path,
) -> None:
    reference = images.write(memory_path / "a", padding=1000)
    (memory_path / "before").mkdir()
    deploy(memory_path / "before", reference)
    passed = points(shutil.copytree(memory_path / "before", memory_path / "count"), reference)
    assert "away:durable" in passed
    for number in range(len(passed)):
        state = shutil.copytree(memory_path / "before", memory_path / str(number))
        assert crash(state, reference, number) == 9
        assert check(state).current is not None
        shutil.rmtree(state)
