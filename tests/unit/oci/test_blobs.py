"""The store of images: nothing half-fetched is used, nothing fetched is fetched again."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edged.errors import EdgedError, FetchError, ModelError, StoreError, VerifyError
from edged.oci import (
    BlobStore,
    Digest,
    Image,
    LayoutFolder,
    VerifiedReader,
    inventory,
    open_image,
    partial,
    signature,
    spec,
)
from edged.oci.digest import Prefix, Source
from edged.oci.retry import PassingError
from edged.osutil import atomic
from tests.unit.oci.images import Member, make_image, make_tar, model_tar, tree

BIG = os.urandom(1000) * 5000  # 5 MB


def big_image(folder: Path, size: int = len(BIG)) -> Image:
    files = [Member("model/manifest.json", b"{}"), Member("model/program.npu", BIG[:size])]
    return make_image(folder, make_tar(files))


def blobs(store: BlobStore) -> set[str]:
    return {p.name for p in (store.layout.path / "blobs" / "sha256").iterdir()}


@dataclass
class Link:
    """A layout at the end of a link that breaks after so many bytes, and counts them."""

    real: LayoutFolder
    cut_every: int = 1 << 60
    refused: int = 0
    received: int = 0
    blamed: int = 0
    damage: Callable[[bytes], bytes] = bytes
    resent: int = 0

    def find(self, tag: str) -> spec.Descriptor | None:
        return self.real.find(tag)

    def referrers(self, digest: Digest, artifact_type: str) -> list[spec.Descriptor]:
        return []

    def open_blob(
        self, descriptor: spec.Descriptor, prefix: Prefix | None = None
    ) -> VerifiedReader:
        if self.refused:
            self.refused -= 1
            raise PassingError("cannot fetch: no link")
        real = self.real.open_blob(descriptor, prefix)
        stream = _Cut(self, real._stream)
        return VerifiedReader(stream, descriptor.digest, descriptor.size, "blob", prefix)

    def wake(self) -> None: ...

    def blame(self) -> bool:
        self.blamed += 1
        return False


class _Cut:
    def __init__(self, link: Link, real: Source) -> None:
        self._link, self._real = link, real
        self._left = link.cut_every

    def read(self, size: int, /) -> bytes:
        if not self._left:
            raise PassingError("cannot fetch: the link broke")
        data = self._real.read(min(size, self._left, 100_000))
        self._left -= len(data)
        self._link.received += len(data)
        return self._link.damage(data)

    def close(self) -> None:
        self._real.close()


def linked(image: Image, **settings: object) -> tuple[Image, Link]:
    assert isinstance(image.layout, LayoutFolder)
    link = Link(image.layout, **settings)  # type: ignore[arg-type]
    return replace(image, layout=link), link


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edged.oci.retry.FIRST_PAUSE", 0.001)


def test_a_fetched_image_is_whole_listed_and_read_back(tmp_path: Path) -> None:
    image = big_image(tmp_path / "a")
    store = BlobStore(tmp_path / "store")
    told: list[tuple[int, int]] = []
    stored = store.fetch(image, lambda done, total: told.append((done, total)))
    assert stored.digest == image.digest
    stored.unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model")["program.npu"] == BIG
    assert [s.image.digest for s in store.images()] == [image.digest]
    total = sum(blob.size for blob in image.blobs())
    assert told == sorted(told)
    assert told[-1] == (total, total)
    assert len(told) > 5
    assert store.images()[0].size == total
    assert store.check() == []


def test_an_image_is_found_by_its_digest_once_it_is_whole(tmp_path: Path) -> None:
    image, link = linked(big_image(tmp_path / "a"), cut_every=1000)
    store = BlobStore(tmp_path / "store", patience=0)
    with pytest.raises(FetchError):
        store.fetch(image)
    assert store.find(image.digest) is None
    link.cut_every = 1 << 60
    store.fetch(image)
    found = store.find(image.digest)
    assert found is not None
    assert found.manifest == image.manifest
    assert store.find(Digest.of(b"")) is None


def test_any_layout_tool_finds_the_image_in_the_store(tmp_path: Path) -> None:
    image = big_image(tmp_path / "a", 10)
    BlobStore(tmp_path / "store").fetch(image)
    assert open_image(f"oci:{tmp_path}/store").digest == image.digest


def test_the_signatures_come_with_the_image(tmp_path: Path) -> None:
    image = big_image(tmp_path / "a", 10)
    assert isinstance(image.layout, LayoutFolder)
    signatures = [signature.Signature(b"{}", b"1"), signature.Signature(b"{ }", b"2")]
    signature.write(image.layout, image.digest, signatures)
    store = BlobStore(tmp_path / "store")
    assert store.fetch(image).signatures() == signatures
    store.collect([image.digest])
    assert store.fetch(image).signatures() == signatures
    assert store.check() == []
    store.settled()
    store.collect([])
    assert blobs(store) == set()


def test_a_link_that_breaks_often_sends_nothing_twice(tmp_path: Path) -> None:
    image, link = linked(big_image(tmp_path / "a"), cut_every=300_000, refused=3)
    store = BlobStore(tmp_path / "store")
    store.fetch(image)
    assert link.received == sum(blob.size for blob in image.blobs())
    assert store.resent == 0
    assert store.check() == []


def test_a_link_that_stays_down_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    image, link = linked(big_image(tmp_path / "a"), cut_every=300_000)
    store = BlobStore(tmp_path / "store", patience=0.2)

    def tell(done: int, total: int) -> None:
        if done > 1_000_000:
            link.cut_every, link.refused = 0, 1 << 30

    with pytest.raises(FetchError, match=r"no link \(no progress for \d s; given up\)"):
        store.fetch(image, tell)
    came = link.received
    assert came > 1_000_000
    assert store.images() == []
    link.cut_every, link.refused = 1 << 60, 0
    total = sum(blob.size for blob in image.blobs())
    assert store.needed(image) == total - came
    BlobStore(tmp_path / "store").fetch(image)
    assert link.received == total


def test_a_fetch_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    image, link = linked(big_image(tmp_path / "a"))

    class StoppedError(Exception): ...

    def stop() -> None:
        if 2_000_000 < link.received < 2_200_000:
            raise StoppedError

    store = BlobStore(tmp_path / "store")
    with pytest.raises(StoppedError):
        store.fetch(image, stop=stop)
    store.collect([])  # as a daemon does when it starts
    first: list[int] = []
    store.fetch(image, lambda done, total: first.append(done))
    assert first[0] > 2_000_000
    assert link.received == sum(blob.size for blob in image.blobs())


def test_waiting_for_a_dead_link_ends_when_told(tmp_path: Path) -> None:
    image, _ = linked(big_image(tmp_path / "a"), refused=1 << 30)
    store = BlobStore(tmp_path / "store", patience=1000)
    asked = threading.Event()
    ended: list[BaseException] = []

    def stop() -> None:
        if asked.is_set():
            raise StoreError("edged is stopping")

    def run() -> None:
        try:
            store.fetch(image, stop=stop)
        except StoreError as exc:
            ended.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    asked.set()
    store.wake()
    thread.join(20)
    assert not thread.is_alive()
    assert len(ended) == 1


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Image, Link, Path]:
    """A fetch that was broken off after 3.1 MB, with a mark every million bytes."""
    monkeypatch.setattr(partial, "MARK_BYTES", 1_000_000)
    image, link = linked(big_image(tmp_path / "a"), cut_every=3_100_000)
    link_down = BlobStore(tmp_path / "store", patience=0)
    with pytest.raises(FetchError):
        link_down.fetch(image)
    link.received, link.cut_every = 0, 1 << 60
    path = tmp_path / "store" / "partial" / image.manifest.layers[0].digest.hex
    assert path.stat().st_size == 3_100_000
    return image, link, path


def fetched(image: Image, link: Link, path: Path) -> int:
    """Fetches the rest; the bytes of the big layer that had to come."""
    store = BlobStore(path.parents[1])
    store.fetch(image)
    assert store.check() == []
    assert [p.name for p in path.parent.iterdir()] == ["wanted.json"]
    return link.received - sum(b.size for b in list(image.blobs())[1:])


def test_after_a_kill_everything_that_came_counts(half: tuple[Image, Link, Path]) -> None:
    image, link, path = half
    assert fetched(image, link, path) == image.manifest.layers[0].size - 3_100_000


def test_after_a_power_cut_what_was_synced_counts(
    half: tuple[Image, Link, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, link, path = half
    monkeypatch.setattr(partial, "_boot", lambda: "another")
    with path.open("r+b") as file:  # the length had reached the disk, the bytes had not
        file.seek(3_050_000)
        file.write(bytes(50_000))
    assert fetched(image, link, path) == image.manifest.layers[0].size - 3_000_000


def test_what_rotted_before_a_mark_is_fetched_again_from_the_mark_before(
    half: tuple[Image, Link, Path],
) -> None:
    image, link, path = half
    with path.open("r+b") as file:
        file.seek(1_500_000)
        file.write(b"rotten")
    assert fetched(image, link, path) == image.manifest.layers[0].size - 1_000_000


def test_what_rotted_after_the_last_mark_costs_one_more_fetch_and_no_error(
    half: tuple[Image, Link, Path],
) -> None:
    image, link, path = half
    with path.open("r+b") as file:
        file.seek(3_050_000)
        file.write(b"rotten")
    size = image.manifest.layers[0].size
    assert fetched(image, link, path) == size - 3_100_000 + size


@pytest.mark.parametrize("text", ["", "x", "1 2 3\n", "-1 a b\n", "9" * 40 + " a b\n", "\xff"])
def test_marks_that_make_no_sense_cost_bytes_and_no_error(
    half: tuple[Image, Link, Path], text: str
) -> None:
    image, link, path = half
    path.with_name(path.name + ".marks").write_text(text)
    assert fetched(image, link, path) == image.manifest.layers[0].size


def test_a_mark_that_a_crash_cut_short_is_not_taken_for_more(
    half: tuple[Image, Link, Path],
) -> None:
    image, link, path = half
    marks = path.with_name(path.name + ".marks")
    marks.write_bytes(marks.read_bytes()[:-3])
    came = fetched(image, link, path)
    assert came == image.manifest.layers[0].size - 2_000_000


def test_a_partial_that_is_too_long_or_a_link_is_not_believed(
    half: tuple[Image, Link, Path], tmp_path: Path
) -> None:
    image, link, path = half
    with path.open("ab") as file:
        file.write(bytes(4_000_000))
    size = image.manifest.layers[0].size
    assert fetched(image, link, path) == size, "all was there, and wrong"


def test_a_blob_that_is_not_what_it_should_be_is_never_used(tmp_path: Path) -> None:
    image, link = linked(big_image(tmp_path / "a"), damage=lambda data: data[::-1])
    store = BlobStore(tmp_path / "store")
    with pytest.raises(VerifyError):
        store.fetch(image)
    assert link.blamed == 1, "a mirror would have been left out"
    assert store.images() == []
    assert blobs(store) == set()
    link.damage = bytes
    store.fetch(image)
    assert store.check() == []


def test_a_blob_that_rotted_in_the_store_is_fetched_again(tmp_path: Path) -> None:
    image, link = linked(big_image(tmp_path / "a"))
    store = BlobStore(tmp_path / "store")
    store.fetch(image)
    layer = store.layout.blob_path(image.manifest.layers[0].digest)
    data = bytearray(layer.read_bytes())
    data[-1] ^= 1
    layer.write_bytes(data)
    assert any("damaged" in fault for fault in store.check())
    link.received = 0
    store.fetch(image)
    assert link.received == image.manifest.layers[0].size
    assert store.check() == []


def test_a_disk_without_room_for_blobs_and_model_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, link = linked(big_image(tmp_path / "a"))
    store = BlobStore(tmp_path / "store")
    size = sum(blob.size for blob in image.blobs())
    usage = type("Usage", (), {"free": 60_000_000})
    monkeypatch.setattr("edged.oci.blobs.shutil.disk_usage", lambda _: usage)
    needed = size + image.manifest.layers[0].size + (64 << 20)
    with pytest.raises(StoreError, match=f"needs {needed} bytes on .*60000000 are free"):
        store.fetch(image)
    assert link.received == 0
    usage.free = needed  # type: ignore[attr-defined]
    store.fetch(image)
    assert store.reserve(image) == image.manifest.layers[0].size + (64 << 20)


def test_an_image_larger_than_any_may_be_is_refused_before_anything_is_fetched(
    tmp_path: Path,
) -> None:
    image, link = linked(big_image(tmp_path / "a", 10))
    layer = replace(image.manifest.layers[0], size=5 << 30)
    huge = replace(image, manifest=replace(image.manifest, layers=(layer,)))
    with pytest.raises(ModelError, match="layers of 5368709120 bytes, expected at most"):
        BlobStore(tmp_path / "store").fetch(huge)
    assert link.received == 0


def test_a_model_that_grows_beyond_the_disk_when_unpacked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = BlobStore(tmp_path / "store").fetch(big_image(tmp_path / "a"))
    usage = type("Usage", (), {"free": (16 << 20) + len(BIG) - 1})
    monkeypatch.setattr("edged.oci.unpack.shutil.disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match=r"program.npu' needs 5000000 bytes and .* are free"):
        image.unpack_model(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def points(folder: Path, image: Image) -> list[str]:
    seen: list[str] = []
    atomic.failpoint_hook = seen.append
    try:
        BlobStore(folder).fetch(image)
    finally:
        atomic.failpoint_hook = None
    return seen


@pytest.mark.parametrize("kind", ["full", "broken"])
def test_a_disk_that_fails_at_any_step_is_named_and_nothing_half_written_is_used(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(partial, "MARK_BYTES", 500_000)
    image = big_image(memory_path / "a", 1_500_000)
    names = points(memory_path / "count", image)
    assert len(names) > 40
    failure = OSError(errno.ENOSPC if kind == "full" else errno.EIO, f"the disk is {kind}")
    for number in range(0, len(names), 1 if kind == "full" else 3):
        left = number
        folder = memory_path / str(number)

        def hook(name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise failure

        monkeypatch.setattr(atomic, "failpoint_hook", hook)
        expected = r"needs \d+ bytes more, \d+ are free" if kind == "full" else "disk is broken"
        with pytest.raises(StoreError, match=expected):
            BlobStore(folder).fetch(image)
        monkeypatch.setattr(atomic, "failpoint_hook", None)
        store = BlobStore(folder)
        assert store.check() == []
        assert store.fetch(image).digest == image.digest
        assert store.check() == []


def test_a_full_disk_for_real_is_named(tmp_path: Path) -> None:
    """A small file system of its own, where that is allowed."""
    import subprocess

    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting takes root")
    try:
        image = big_image(tmp_path / "a")
        store = BlobStore(folder / "store")
        with pytest.raises(StoreError, match=r"needs \d+ bytes on .*, \d+ are free"):
            store.fetch(image)
        store.reserve = lambda *_: 0  # type: ignore[method-assign]
        with pytest.raises(StoreError, match=r"No space left.*needs \d+ bytes more, \d+ are free"):
            store.fetch(image)
        assert store.images() == []
        assert store.check() == []
        store.settled()
        store.collect([])
        small = make_image(tmp_path / "b", model_tar())
        assert store.fetch(small).digest == small.digest
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_what_is_kept_pinned_or_being_fetched_is_not_collected(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    images = [big_image(tmp_path / str(n), n) for n in range(1, 5)]
    for image in images[:3]:
        store.fetch(image)
    inventory.pin(store.layout, images[1].digest)
    halfway, _ = linked(images[3], cut_every=1000)
    with pytest.raises(FetchError):
        BlobStore(tmp_path / "store", patience=0).fetch(halfway)
    store.collect([images[0].digest])
    assert {s.image.digest for s in store.images()} == {i.digest for i in images[:2]}
    assert [s.pinned for s in store.images()] == [False, True]
    assert any((tmp_path / "store" / "partial").glob("*.marks")), "what had come is still there"
    assert store.check() == []
    store.settled()
    inventory.unpin(store.layout, images[1].digest)
    freed = store.collect([images[0].digest])
    assert freed > 0
    assert {s.image.digest for s in store.images()} == {images[0].digest}
    assert blobs(store) == {b.digest.hex for b in images[0].blobs()}
    assert list((tmp_path / "store" / "partial").iterdir()) == []
    assert store.check() == []


def test_a_blob_that_two_images_share_stays_while_one_is_kept(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    first = make_image(tmp_path / "a", model_tar())
    second = make_image(tmp_path / "b", model_tar(), make_tar([Member("model/x", b"x")]))
    for image in (first, second):
        store.fetch(image)
    store.settled()
    store.collect([second.digest])
    assert store.check() == []
    store.fetch(second).unpack_model(tmp_path / "model")


def test_a_kept_image_that_cannot_be_read_stops_the_collecting(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    images = [big_image(tmp_path / str(n), n) for n in (1, 2)]
    for image in images:
        store.fetch(image)
    store.settled()
    store.layout.blob_path(images[0].manifest.config.digest).write_bytes(b"x")
    before = blobs(store)
    with pytest.raises(StoreError, match="cannot clear up"):
        store.collect([images[0].digest])
    assert blobs(store) == before


def test_pins_name_images_of_the_store(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    image = big_image(tmp_path / "a", 1)
    with pytest.raises(StoreError, match="not in the store"):
        inventory.pin(store.layout, image.digest)
    store.fetch(image)
    with pytest.raises(StoreError, match="not pinned"):
        inventory.unpin(store.layout, image.digest)
    inventory.pin(store.layout, image.digest)
    inventory.pin(store.layout, image.digest)
    assert inventory.pinned(store.layout) == {image.digest}


def test_the_checker_names_what_is_missing_or_does_not_belong(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    image = big_image(tmp_path / "a", 10)
    store.fetch(image)
    folder = tmp_path / "store" / "blobs" / "sha256"
    (folder / "readme").write_text("hi")
    (folder / ("0" * 64)).symlink_to("/etc/passwd")
    os.mkfifo(folder / ("1" * 64))
    store.layout.blob_path(image.manifest.layers[0].digest).unlink()
    faults = store.check()
    assert len(faults) == 4, faults
    assert sum("is no blob" in fault for fault in faults) == 3
    assert any("is not whole: blob" in fault for fault in faults)
    (tmp_path / "store" / "index.json").write_text("{}")
    assert any("cannot be read" in fault for fault in store.check())


def test_a_tampered_store_fetches_nothing_to_elsewhere(tmp_path: Path) -> None:
    """A link where a partial should be is not followed."""
    image = big_image(tmp_path / "a", 10)
    store = BlobStore(tmp_path / "store")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "store" / "partial" / image.manifest.layers[0].digest.hex).symlink_to(victim)
    with pytest.raises(EdgedError, match="cannot write"):
        store.fetch(image)
    assert victim.read_text() == "mine"
