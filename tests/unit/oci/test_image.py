"""Images: made with the same digest every time, found by tag, copied whole, read by skopeo."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from edged.errors import FetchError, ModelError, StoreError, VerifyError
from edged.oci import (
    BlobStore,
    Digest,
    LayoutFolder,
    Reference,
    keys,
    load_image,
    open_image,
    platforms,
    spec,
    write_image,
)
from tests.fakes.registry import program
from tests.unit.oci.images import FACTS, FILES, make_image, model_tar, tree


def write(reference: str, files: dict[str, bytes | Path] | None = None) -> Digest:
    return write_image(files or dict(FILES), FACTS, Reference.parse(reference))


def test_the_same_files_make_the_same_digest_wherever_and_whenever(tmp_path: Path) -> None:
    digests = {
        write(f"oci:{tmp_path}/a"),
        write(f"oci:{tmp_path}/b:v1"),
        write(f"oci-archive:{tmp_path}/c.tar"),
        write(f"oci:{tmp_path}/d", dict(reversed(FILES.items()))),
    }
    assert len(digests) == 1
    assert write(f"oci:{tmp_path}/e", {**FILES, "labels.txt": b"ok\n"}) not in digests


def test_a_file_on_disk_counts_as_its_content(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(FILES["program.npu"])
    files: dict[str, bytes | Path] = {**FILES, "program.npu": tmp_path / "p"}
    assert write(f"oci:{tmp_path}/a", files) == write(f"oci:{tmp_path}/b")


@pytest.mark.parametrize("reference", ["oci:{}/a", "oci:{}/a:v1", "oci-archive:{}/a.tar"])
def test_an_image_opens_and_unpacks_from_where_it_was_written(
    tmp_path: Path, reference: str
) -> None:
    reference = reference.format(tmp_path)
    digest = write(reference)
    image = open_image(reference)
    assert image.digest == digest
    assert image.facts == FACTS
    image.unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == FILES


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../b", "", "a//b", "./a"])
def test_a_file_cannot_be_put_outside_the_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no path below /model"):
        write(f"oci:{tmp_path}/a", {name: b"x"})
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_found_by_tag_and_alone_without_one(tmp_path: Path) -> None:
    first = write(f"oci:{tmp_path}:v1")
    assert open_image(f"oci:{tmp_path}").digest == first
    second = write(f"oci:{tmp_path}:v2", {"manifest.json": b"2"})
    assert open_image(f"oci:{tmp_path}:v2").digest == second
    with pytest.raises(FetchError, match=r"several images; say which by tag \(tags: v1, v2\)"):
        open_image(f"oci:{tmp_path}")
    with pytest.raises(FetchError, match=r"no image with tag 'v3' there \(tags: v1, v2\)"):
        open_image(f"oci:{tmp_path}:v3")


def test_two_tags_of_one_image_are_one_image(tmp_path: Path) -> None:
    assert write(f"oci:{tmp_path}:a") == write(f"oci:{tmp_path}:b")
    assert open_image(f"oci:{tmp_path}").facts == FACTS


def test_an_empty_layout_says_so(tmp_path: Path) -> None:
    LayoutFolder.create(tmp_path)
    with pytest.raises(FetchError, match=r"no image there \(tags: none\)"):
        open_image(f"oci:{tmp_path}")


def test_of_an_index_of_platforms_ours_is_opened(tmp_path: Path) -> None:
    wanted = make_image(tmp_path, model_tar())
    other = make_image(tmp_path, model_tar(), model_tar().replace(b"model/", b"model2"))
    ours = {"os": "linux", "architecture": platforms.own().partition("/")[2]}
    unknown = {"os": "unknown", "architecture": "unknown"}
    attested = {"vnd.docker.reference.type": "attestation-manifest"}
    entries = [
        {**other.descriptor.to_document(), "platform": {"os": "linux", "architecture": "z80"}},
        {**wanted.descriptor.to_document(), "platform": {**ours, "variant": "v8"}},
        {**other.descriptor.to_document(), "platform": unknown, "annotations": attested},
    ]

    def put(listed: list[dict[str, object]]) -> None:
        layout = LayoutFolder(tmp_path)
        document = {"schemaVersion": 2, "mediaType": spec.INDEX, "manifests": listed}
        layout.set_tag(layout.put_bytes(json.dumps(document).encode(), spec.INDEX), "v1")

    put(entries)
    assert open_image(f"oci:{tmp_path}:v1").digest == wanted.digest
    put(entries[:1])
    assert open_image(f"oci:{tmp_path}:v1").digest == other.digest, "a model runs anywhere"
    put([entries[0], {**entries[1], "platform": {"os": "plan9", "architecture": "vax"}}])
    with pytest.raises(FetchError, match=r"platforms: linux/z80, plan9/vax\); name one by its dig"):
        open_image(f"oci:{tmp_path}:v1")
    put([])
    with pytest.raises(FetchError, match="platforms: none"):
        open_image(f"oci:{tmp_path}:v1")


def test_what_is_neither_image_nor_index_is_no_model(tmp_path: Path) -> None:
    layout = LayoutFolder.create(tmp_path)
    layout.set_tag(layout.put_bytes(b"{}", "application/x"), None)
    with pytest.raises(ModelError, match="expected an image manifest, got 'application/x'"):
        open_image(f"oci:{tmp_path}")


def test_layers_and_configuration_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1 layers, but its configuration has 2"):
        make_image(tmp_path, model_tar(), diff_ids=[Digest.of(b"a"), Digest.of(b"b")])


def test_a_huge_manifest_is_refused_unread(tmp_path: Path) -> None:
    descriptor = spec.Descriptor(spec.MANIFEST, Digest.of(b""), spec.DOCUMENT_LIMIT + 1)
    with pytest.raises(ModelError, match="bytes announced"):
        load_image(LayoutFolder.create(tmp_path), descriptor)


def test_a_manifest_changed_on_disk_is_refused(tmp_path: Path) -> None:
    digest = write(f"oci:{tmp_path}")
    path = tmp_path / "blobs" / "sha256" / digest.hex
    path.write_bytes(path.read_bytes().replace(b"bw-cnn-a10", b"bw-cnn-s10"))
    with pytest.raises(VerifyError):
        open_image(f"oci:{tmp_path}")


def test_a_copy_is_the_same_image(tmp_path: Path) -> None:
    digest = write(f"oci-archive:{tmp_path}/a.tar")
    store = LayoutFolder.create(tmp_path / "store")
    open_image(f"oci-archive:{tmp_path}/a.tar").copy_to(store, "current")
    copied = open_image(f"oci:{tmp_path}/store:current")
    assert copied.digest == digest
    copied.unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == FILES


def test_a_copy_of_a_damaged_image_is_not_named(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a", model_tar())
    blob = tmp_path / "a" / "blobs" / "sha256" / image.manifest.layers[0].digest.hex
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    store = LayoutFolder.create(tmp_path / "store")
    with pytest.raises(VerifyError):
        image.copy_to(store, "current")
    assert store.index().manifests == ()


def test_an_archive_that_cannot_be_written_is_the_disks_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for kind in ("oci", "oci-archive"):
        with pytest.raises(StoreError, match=r"cannot make .*file: something that is no folder"):
            write(f"{kind}:{tmp_path}/file/a.tar")


def test_an_error_leaves_an_existing_layout_as_it_was(tmp_path: Path) -> None:
    digest = write(f"oci:{tmp_path}/a:v1")
    with pytest.raises(ModelError):
        write(f"oci:{tmp_path}/a:v1", {"../x": b""})
    assert open_image(f"oci:{tmp_path}/a:v1").digest == digest


@pytest.fixture
def skopeo() -> str:
    path = shutil.which("skopeo")
    if path is None:
        pytest.skip("skopeo is not installed: images are not tried on it")
    return path


def copy(skopeo: str, source: str, target: str, *options: str) -> None:
    command = [skopeo, "--insecure-policy", "copy", "-q", *options, source, target]
    subprocess.run(command, check=True, timeout=60)


def test_skopeo_reads_what_we_write(tmp_path: Path, skopeo: str) -> None:
    for reference in (f"oci:{tmp_path}/a:v1", f"oci-archive:{tmp_path}/a.tar"):
        digest = write(reference)
        found = subprocess.run(
            [skopeo, "inspect", reference], check=True, timeout=60, capture_output=True
        )
        assert json.loads(found.stdout)["Digest"] == str(digest)


def test_we_read_what_skopeo_copied_as_it_is(tmp_path: Path, skopeo: str) -> None:
    digest = write(f"oci:{tmp_path}/a:v1")
    copy(skopeo, f"oci:{tmp_path}/a:v1", f"oci-archive:{tmp_path}/b.tar:v2", "--preserve-digests")
    copy(skopeo, f"oci-archive:{tmp_path}/b.tar", f"oci:{tmp_path}/c:v3", "--preserve-digests")
    for reference in (f"oci-archive:{tmp_path}/b.tar:v2", f"oci:{tmp_path}/c"):
        assert open_image(reference).digest == digest


@pytest.mark.parametrize("target", ["oci:{}/b:v2", "oci-archive:{}/b.tar:v2"])
def test_we_read_what_skopeo_compressed(tmp_path: Path, skopeo: str, target: str) -> None:
    write(f"oci:{tmp_path}/a:v1")
    target = target.format(tmp_path)
    copy(skopeo, f"oci:{tmp_path}/a:v1", target)
    image = open_image(target)
    assert image.manifest.layers[0].media_type == spec.LAYER_TAR_GZIP
    assert image.facts == FACTS
    image.unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == FILES


def umoci(*arguments: str) -> None:
    done = subprocess.run(
        [program("umoci"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_umoci_unpacks_what_we_write(tmp_path: Path) -> None:
    write(f"oci:{tmp_path}/a:v1")
    umoci("unpack", "--rootless", "--image", f"{tmp_path}/a:v1", f"{tmp_path}/bundle")
    assert tree(tmp_path / "bundle" / "rootfs" / "model") == FILES


def test_umoci_unpacks_what_the_store_has(tmp_path: Path) -> None:
    write(f"oci:{tmp_path}/a:v1")
    store = BlobStore(tmp_path / "store")
    image = store.fetch(open_image(f"oci:{tmp_path}/a"))
    store.layout.set_tag(image.descriptor, "v1")
    umoci("unpack", "--rootless", "--image", f"{tmp_path}/store:v1", f"{tmp_path}/bundle")
    assert tree(tmp_path / "bundle" / "rootfs" / "model") == FILES


def test_we_unpack_what_umoci_wrote(tmp_path: Path) -> None:
    for name, data in FILES.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    umoci("init", "--layout", f"{tmp_path}/a")
    umoci("new", "--image", f"{tmp_path}/a:v1")
    image = f"{tmp_path}/a:v1"
    umoci("insert", "--rootless", "--image", image, f"{tmp_path}/files", "/model")
    found = open_image(f"oci:{tmp_path}/a:v1")
    assert found.manifest.layers[0].media_type == spec.LAYER_TAR_GZIP
    found.unpack_model(tmp_path / "model")
    assert tree(tmp_path / "model") == FILES
    with pytest.raises(ModelError, match="no annotation"):
        _ = found.facts


@pytest.mark.parametrize("reference", ["oci:{}/a", "oci-archive:{}/a.tar"])
def test_a_signed_image_that_was_given_no_tag_is_the_latest_for_others(
    tmp_path: Path, reference: str, skopeo: str
) -> None:
    """Its signature is an image too, for tools that know nothing of signatures."""
    reference = reference.format(tmp_path)
    keys.generate(tmp_path / "plant")
    key = keys.read_private(tmp_path / "plant.key")
    write(reference)
    digest = write_image({**FILES, "x": b"x"}, FACTS, Reference.parse(reference), sign=key)
    assert open_image(reference).digest == open_image(f"{reference}:latest").digest == digest
    copy(skopeo, f"{reference}:latest", f"oci:{tmp_path}/copy", "--preserve-digests")
    assert open_image(f"oci:{tmp_path}/copy").digest == digest
