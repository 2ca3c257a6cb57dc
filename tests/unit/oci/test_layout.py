"""Layouts: folders that are read and written, archives that are read, other tools' habits."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from edged.errors import FetchError, ModelError, StoreError, VerifyError
from edged.oci import Digest, LayoutArchive, LayoutFolder, spec, write_archive
from edged.oci.layout import Layout
from tests.unit.oci.images import Member, make_tar

HEADER = b'{"imageLayoutVersion": "1.0.0"}'
EMPTY_INDEX = b'{"schemaVersion": 2, "manifests": []}'


def descriptor(data: bytes, size: int | None = None) -> spec.Descriptor:
    return spec.Descriptor("x/y", Digest.of(data), len(data) if size is None else size)


def content(layout: Layout, blob: spec.Descriptor) -> bytes:
    with layout.open_blob(blob) as stream:
        return stream.read()


def index(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "index.json").read_text())
    return found


def test_a_blob_reads_back(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path / "l")
    stored = layout.put_bytes(b"hello", "x/y")
    assert content(layout, stored) == b"hello"
    assert layout.put_bytes(b"hello", "x/y") == stored


def test_an_error_while_writing_leaves_no_blob(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path / "l")

    def fail() -> None:
        with layout.new_blob() as out:
            out.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((tmp_path / "l" / "blobs" / "sha256").iterdir()) == []


def test_a_blob_from_elsewhere_is_stored_only_if_it_is_what_was_announced(tmp_path: Path) -> None:
    source, target = LayoutFolder.create(tmp_path / "s"), LayoutFolder.create(tmp_path / "t")
    stored = source.put_bytes(b"hello", "x/y")
    source.blob_path(stored.digest).write_bytes(b"hellp")
    with pytest.raises(VerifyError), source.open_blob(stored) as blob:
        target.put_stream(blob, stored)
    assert list((tmp_path / "t" / "blobs" / "sha256").iterdir()) == []


def test_a_blob_cut_short_by_somebody_is_written_again(tmp_path: Path) -> None:
    source, target = LayoutFolder.create(tmp_path / "s"), LayoutFolder.create(tmp_path / "t")
    stored = source.put_bytes(b"hello", "x/y")
    target.blob_path(stored.digest).write_bytes(b"he")
    with source.open_blob(stored) as blob:
        target.put_stream(blob, stored)
    assert content(target, stored) == b"hello"


def test_a_missing_blob_and_one_of_another_size_are_told_apart(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path / "l")
    with pytest.raises(FetchError, match="No such file"):
        layout.open_blob(descriptor(b"hello"))
    layout.put_bytes(b"hello", "x/y")
    with pytest.raises(VerifyError, match="expected 6 bytes, got 5"):
        layout.open_blob(descriptor(b"hello", 6))


def test_a_pipe_in_place_of_a_blob_does_not_hang(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path / "l")
    os.mkfifo(layout.blob_path(Digest.of(b"x")))
    with pytest.raises(FetchError, match="not a regular file"):
        layout.open_blob(descriptor(b"x"))


def test_tags_are_replaced_and_others_stay(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path)
    one, two = layout.put_bytes(b"1", spec.MANIFEST), layout.put_bytes(b"2", spec.MANIFEST)
    layout.set_tag(one, "a")
    layout.set_tag(one, "b")
    layout.set_tag(two, "a")
    layout.set_tag(two, None)
    layout.set_tag(one, None)
    tags = {d.annotations.get(spec.REF_NAME): d.digest for d in layout.index().manifests}
    assert tags == {"a": two.digest, "b": one.digest, None: one.digest}
    assert len(layout.index().manifests) == 3


def test_what_others_put_into_a_layout_stays(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path)
    document = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.other+json",
                "digest": str(Digest.of(b"")),
                "size": 0,
                "platform": {"os": "linux", "architecture": "s390x"},
                "annotations": None,
            }
        ],
        "annotations": {"vendor": "x"},
        "unknown": [1],
    }
    (tmp_path / "index.json").write_text(json.dumps(document))
    (tmp_path / "README").write_text("hi")
    layout = LayoutFolder(tmp_path)
    layout.set_tag(layout.put_bytes(b"1", spec.MANIFEST), "mine")
    found = index(tmp_path)
    assert found["annotations"] == {"vendor": "x"}
    assert found["unknown"] == [1]
    assert document["manifests"][0] in found["manifests"]  # type: ignore[index, operator]


def set_tags(path: str, start: int) -> None:
    layout = LayoutFolder(Path(path))
    stored = layout.put_bytes(b"%d" % start, spec.MANIFEST)
    for number in range(start, start + 10):
        layout.set_tag(stored, f"t{number}")


def test_two_writers_lose_no_tag(tmp_path: Path) -> None:
    LayoutFolder.create(tmp_path)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=set_tags, args=(str(tmp_path), n)) for n in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    tags = {d.annotations[spec.REF_NAME] for d in LayoutFolder(tmp_path).index().manifests}
    assert tags == {f"t{n}" for n in range(20)}


def test_a_folder_with_other_things_is_not_made_a_layout(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(StoreError, match="not empty and no layout"):
        LayoutFolder.create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_layout_interrupted_while_it_was_made_is_finished(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "index.json").write_bytes(EMPTY_INDEX)
    assert LayoutFolder.create(tmp_path).index().manifests == ()


def test_a_place_that_cannot_be_a_folder_is_the_disks_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="no folder has that name"):
        LayoutFolder.create(tmp_path / "file" / "l")


@pytest.mark.parametrize("data", [b"{}", b'{"imageLayoutVersion": "2.0.0"}', b"x"])
def test_a_layout_of_another_version_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "oci-layout").write_bytes(data)
    with pytest.raises(ModelError, match="cannot read"):
        LayoutFolder(tmp_path)


def test_a_folder_that_is_no_layout_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="oci-layout: No such file"):
        LayoutFolder(tmp_path)


def test_a_damaged_index_is_not_overwritten(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path)
    (tmp_path / "index.json").write_text('{"schemaVersion": 2, "manifests": 3}')
    stored = layout.put_bytes(b"1", spec.MANIFEST)
    with pytest.raises(ModelError, match="manifests must be a list"):
        layout.set_tag(stored, "a")
    assert index(tmp_path)["manifests"] == 3


def test_an_archive_reads_as_the_folder_does_and_is_always_the_same(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path / "l")
    stored = layout.put_bytes(b"hello" * 1000, spec.MANIFEST)
    layout.set_tag(stored, "v1")
    write_archive(layout, tmp_path / "a.tar")
    write_archive(layout, tmp_path / "b.tar")
    archive = LayoutArchive(tmp_path / "a.tar")
    assert archive.index() == layout.index()
    assert content(archive, stored) == b"hello" * 1000
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_an_archive_is_not_half_written(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path / "l")
    (tmp_path / "l" / "oci-layout").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*a\.tar"):
        write_archive(layout, tmp_path / "out" / "a.tar")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(StoreError, match="cannot write"):
        write_archive(layout, tmp_path / "nowhere" / "a.tar")


def archive(tmp_path: Path, *members: Member) -> Path:
    path = tmp_path / "x.tar"
    path.write_bytes(make_tar(members))
    return path


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ([], "no oci-layout in it"),
        ([Member("oci-layout", b"{}")], "expected image layout 1.0.0"),
        ([Member("oci-layout", HEADER), Member("./oci-layout", HEADER)], "twice"),
        ([Member("oci-layout", HEADER)], "no index.json in it"),
        ([Member("oci-layout", HEADER), Member("index.json", b"[]")], "JSON object"),
    ],
)
def test_a_tar_that_is_no_layout_is_refused(
    tmp_path: Path, members: list[Member], cause: str
) -> None:
    with pytest.raises(ModelError, match=cause):
        LayoutArchive(archive(tmp_path, *members)).index()


def test_an_archive_without_the_blob_says_so(tmp_path: Path) -> None:
    path = archive(
        tmp_path,
        Member("./oci-layout", HEADER),
        Member("./index.json", EMPTY_INDEX),
        Member(f"blobs/sha256/{Digest.of(b'abc').hex}", b"abd"),
    )
    opened = LayoutArchive(path)
    with pytest.raises(FetchError, match="does not have it"):
        opened.open_blob(descriptor(b"hello"))
    with pytest.raises(VerifyError, match="expected 4 bytes, got 3"):
        opened.open_blob(descriptor(b"abc", 4))
    with (
        pytest.raises(VerifyError, match="expected sha256"),
        opened.open_blob(descriptor(b"abc")) as blob,
    ):
        blob.read()


def test_a_missing_archive_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="No such file"):
        LayoutArchive(tmp_path / "none.tar")
    with pytest.raises(FetchError, match="not a regular file"):
        LayoutArchive(tmp_path)
