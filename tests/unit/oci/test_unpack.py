"""Unpacking images nobody vouched for: what is refused, and what is left on the disk (nothing)."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError, FetchError, ModelError, StoreError, VerifyError
from edged.oci import Digest, Limits, spec
from tests.unit.oci.images import (
    FILES,
    Member,
    make_gzip_image,
    make_image,
    make_tar,
    model_tar,
    tree,
)


def refuse(tmp_path: Path, *members: Member, cause: str, limits: Limits | None = None) -> None:
    """The image is refused for ``cause`` and nothing stays behind, inside or outside."""
    home = tmp_path / "home"
    home.mkdir()
    image = make_image(tmp_path / "layout", make_tar(members))
    with pytest.raises(ModelError, match=cause):
        image.unpack_model(home / "model", limits)
    assert list(home.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "layout"}


def test_a_model_is_unpacked_with_every_file(tmp_path: Path) -> None:
    make_image(tmp_path / "layout", model_tar()).unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == FILES
    assert (tmp_path / "model" / "golden").stat().st_mode & 0o777 == 0o755


def test_a_compressed_layer_is_unpacked_too(tmp_path: Path) -> None:
    make_gzip_image(tmp_path / "layout", model_tar()).unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == FILES


def test_a_layer_of_several_gzip_members_is_unpacked_too(tmp_path: Path) -> None:
    def pack(data: bytes) -> bytes:
        cut = len(data) // 3
        return gzip.compress(data[:cut]) + gzip.compress(b"") + gzip.compress(data[cut:])

    image = make_image(tmp_path / "layout", model_tar(), media_type=spec.LAYER_TAR_GZIP, pack=pack)
    image.unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == FILES


def test_several_layers_add_up(tmp_path: Path) -> None:
    one = make_tar([Member("model", type=tarfile.DIRTYPE), Member("model/a", b"1")])
    two = make_tar([Member("model", type=tarfile.DIRTYPE), Member("model/b/c", b"2")])
    make_image(tmp_path / "layout", one, two).unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == {"a": b"1", "b/c": b"2"}


def test_names_that_begin_with_a_dot_folder_are_the_same_names(tmp_path: Path) -> None:
    members = [
        Member("./", type=tarfile.DIRTYPE),
        Member("./model/", type=tarfile.DIRTYPE),
        Member("./model/a", b"1"),
    ]
    make_image(tmp_path / "layout", make_tar(members)).unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == {"a": b"1"}


@pytest.mark.parametrize(
    "name",
    [
        "model/../../escaped",
        "../escaped",
        "model/..",
        "/model/a",
        "//model/a",
        "model//a",
        "model/./a",
        "././model/a",
        "model/a\nb",
        "model/\x1b[2J",
        "model/\x7f",
        "..",
        ".",
        "",
    ],
)
def test_a_name_that_is_no_plain_path_is_refused(tmp_path: Path, name: str) -> None:
    refuse(tmp_path, Member("model/ok", b"1"), Member(name, b"x"), cause="is refused")


@pytest.mark.parametrize("name", ["etc/passwd", "models/a", "model", "Model/a", "./etc"])
def test_what_is_not_below_model_is_refused(tmp_path: Path, name: str) -> None:
    refuse(tmp_path, Member(name, b"x"), cause="not below model/")


@pytest.mark.parametrize(
    ("type_", "cause"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "named pipe"),
        (tarfile.CONTTYPE, "member of type"),
    ],
)
def test_links_devices_and_pipes_are_refused(tmp_path: Path, type_: bytes, cause: str) -> None:
    refuse(tmp_path, Member("model/a", type=type_, linkname="/etc/passwd"), cause=cause)


def test_a_link_cannot_stand_in_for_a_folder(tmp_path: Path) -> None:
    link = Member("model/golden", type=tarfile.SYMTYPE, linkname="/tmp")
    refuse(tmp_path, link, Member("model/golden/x", b"1"), cause="symbolic link")


@pytest.mark.parametrize("name", ["model/.wh.a", "model/.wh..wh..opq", "model/.wh.x/a"])
def test_whiteouts_are_refused(tmp_path: Path, name: str) -> None:
    refuse(tmp_path, Member(name), cause="whiteout")


def test_a_second_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    refuse(
        tmp_path,
        Member("model/a", b"good"),
        Member("./model/a", b"evil"),
        cause="there already",
    )


def test_a_second_layer_cannot_replace_a_file(tmp_path: Path) -> None:
    layer = make_tar([Member("model/a", b"1")])
    other = make_tar([Member("model/a", b"2")])
    with pytest.raises(ModelError, match="there already"):
        make_image(tmp_path / "layout", layer, other).unpack_model(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("swap", [False, True])
def test_a_name_cannot_be_file_and_folder(tmp_path: Path, swap: bool) -> None:
    members = [Member("model/a", b"1"), Member("model/a/b", b"2")]
    if swap:
        members = [Member("model/a", type=tarfile.DIRTYPE), Member("model/a", b"1")]
    refuse(tmp_path, *members, cause="there already")


def test_a_file_larger_than_allowed_is_refused_before_it_is_written(tmp_path: Path) -> None:
    refuse(
        tmp_path,
        Member("model/a", b"x" * 101),
        cause="101 bytes; at most 100 in a file",
        limits=Limits(file_bytes=100),
    )


def test_files_together_larger_than_allowed_are_refused(tmp_path: Path) -> None:
    members = [Member(f"model/{i}", b"x" * 60) for i in range(3)]
    refuse(tmp_path, *members, cause="150 in all", limits=Limits(total_bytes=150))


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    members = [Member(f"model/{i}") for i in range(11)]
    refuse(tmp_path, *members, cause="too many members", limits=Limits(entries=10))


def test_a_file_too_deep_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, Member("model/" + "a/" * 8 + "b", b"1"), cause="deeper than 8")


def test_a_name_too_long_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, Member("model/" + "ö" * 128), cause="longer than 255 bytes")


def test_an_image_without_a_model_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, cause="nothing below /model")


def test_a_layer_that_is_no_tar_is_refused(tmp_path: Path) -> None:
    image = make_image(tmp_path / "layout", b"PK\3\4" * 1000)
    with pytest.raises(ModelError, match="cannot read tar layer sha256:"):
        image.unpack_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (b"no gzip at all", "damaged gzip"),
        (gzip.compress(model_tar())[:-30], "ends early"),
        (gzip.compress(model_tar())[:-8] + b"\0" * 8, "damaged gzip"),
    ],
)
def test_a_damaged_gzip_layer_is_refused(tmp_path: Path, layer: bytes, cause: str) -> None:
    diff_ids = [Digest.of(model_tar())]
    image = make_image(
        tmp_path / "layout", layer, media_type=spec.LAYER_TAR_GZIP, diff_ids=diff_ids
    )
    with pytest.raises(ModelError, match=cause):
        image.unpack_model(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_layer_that_decompresses_without_end_is_stopped(tmp_path: Path) -> None:
    bomb = make_tar([Member("model/a", b"1")]) + bytes(8 << 20)
    limits = Limits(total_bytes=1 << 20, entries=10)
    with pytest.raises(ModelError, match="decompresses to too many bytes"):
        make_gzip_image(tmp_path / "layout", bomb).unpack_model(tmp_path / "model", limits)


def test_the_configurations_digest_of_a_layer_is_checked(tmp_path: Path) -> None:
    image = make_image(tmp_path / "layout", model_tar(), diff_ids=[Digest.of(b"other")])
    with pytest.raises(VerifyError, match="after decompression"):
        image.unpack_model(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_damaged_blob_is_found_and_leaves_nothing(tmp_path: Path) -> None:
    image = make_image(tmp_path / "layout", model_tar())
    blob = tmp_path / "layout" / "blobs" / "sha256" / image.manifest.layers[0].digest.hex
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1  # in the padding after the end: only the digest can tell
    blob.write_bytes(data)
    with pytest.raises(VerifyError, match="expected sha256"):
        image.unpack_model(tmp_path / "model")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layout"]


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    image = make_image(tmp_path / "layout", model_tar())
    digest = image.manifest.layers[0].digest
    (tmp_path / "layout" / "blobs" / "sha256" / digest.hex).unlink()
    with pytest.raises(FetchError, match=digest.hex):
        image.unpack_model(tmp_path / "model")


def test_an_existing_folder_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(StoreError, match="it exists"):
        make_image(tmp_path / "layout", model_tar()).unpack_model(tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_the_disks_fault(tmp_path: Path) -> None:
    image = make_image(tmp_path / "layout", model_tar())
    with pytest.raises(StoreError, match=r"cannot make .*missing"):
        image.unpack_model(tmp_path / "missing" / "model")


def test_a_disk_that_fails_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(tmp_path / "layout", model_tar())

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(EdgedError, match="No space left"):
        image.unpack_model(tmp_path / "model")
    monkeypatch.undo()
    assert not (tmp_path / "model").exists()


PARTS = st.sampled_from(["model", "..", ".", "", "a", "b", ".wh.a", "golden", "/", "é"])
TYPES = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
MEMBERS = st.builds(
    lambda parts, data, type_: Member("/".join(parts), data, type_, linkname="../../x"),
    st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: ["model", *parts]),
    st.binary(max_size=20),
    TYPES,
)


@given(st.lists(MEMBERS, max_size=5))
def test_no_archive_at_all_writes_outside_its_folder(
    tmp_path_factory: pytest.TempPathFactory, members: list[Member]
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "inside").mkdir()
    image = make_image(home / "layout", make_tar(members))
    try:
        image.unpack_model(home / "inside" / "model")
    except ModelError:
        assert list((home / "inside").iterdir()) == []
    assert {path.name for path in home.iterdir()} == {"inside", "layout"}
    assert not [path for path in (home / "inside").rglob("*") if path.is_symlink()]
