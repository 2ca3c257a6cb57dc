"""OCI documents from outside: good ones are read, every wrong field is named."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import ModelError
from edged.oci import Digest, ModelFacts, spec

DIGEST = str(Digest.of(b"x"))
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": spec.MANIFEST,
    "config": {"mediaType": spec.CONFIG, "digest": DIGEST, "size": 1},
    "layers": [{"mediaType": spec.LAYER_TAR, "digest": DIGEST, "size": 1}],
    "annotations": {"a": "b"},
}
CONFIG: dict[str, Any] = {
    "architecture": "arm64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}


def dumps(document: object) -> bytes:
    return json.dumps(document).encode()


def test_a_manifest_with_fields_nobody_knows_is_read() -> None:
    document = {**MANIFEST, "artifactType": "x", "subject": {"any": 1}, "future": [1]}
    manifest = spec.Manifest.parse(dumps(document))
    assert manifest.layers[0].digest == Digest.of(b"x")
    assert manifest.annotations == {"a": "b"}


def test_a_manifest_is_the_same_after_writing_and_reading() -> None:
    manifest = spec.Manifest.parse(dumps(MANIFEST))
    assert spec.Manifest.parse(manifest.to_json()) == manifest


def test_equal_documents_have_equal_bytes_whatever_the_order_of_their_keys() -> None:
    backwards = dict(reversed(MANIFEST.items()))
    one, other = spec.Manifest.parse(dumps(MANIFEST)), spec.Manifest.parse(dumps(backwards))
    assert one.to_json() == other.to_json()


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        (("schemaVersion",), 1, "schemaVersion 2"),
        (("mediaType",), "application/vnd.docker.distribution.manifest.v2+json", "expected app"),
        (("config",), None, "config: expected an object"),
        (("config", "mediaType"), "application/vnd.oci.empty.v1+json", "expected a configuration"),
        (("config", "mediaType"), 3, "mediaType must be a string"),
        (("config", "digest"), "sha256:abc", "config: cannot read digest"),
        (("config", "size"), -1, "size must be"),
        (("config", "size"), True, "size must be"),
        (("config", "size"), 1e3, "size must be"),
        (("config", "size"), 1 << 60, "size must be"),
        (("layers",), {}, "layers must be a list"),
        (("layers",), [], "1 to 32 layers"),
        (("layers",), MANIFEST["layers"] * 33, "1 to 32 layers"),
        (("layers", 0), "x", r"layers\[0\]: expected an object"),
        (("layers", 0, "mediaType"), spec.LAYER_TAR + "+zstd", "expected a layer of type"),
        (("annotations",), [], "annotations: expected an object"),
        (("annotations", "a"), 3, "annotation 'a' must be a string"),
    ],
)
def test_a_wrong_field_of_a_manifest_is_named(
    path: tuple[Any, ...], value: object, cause: str
) -> None:
    document: Any = copy.deepcopy(MANIFEST)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ModelError, match=cause):
        spec.Manifest.parse(dumps(document))


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "not valid JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b"\xff{}", "not valid JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "cannot read"),
        (b" " * (spec.DOCUMENT_LIMIT + 1), "expected at most"),
    ],
)
def test_what_is_no_small_json_object_is_refused(data: bytes, cause: str) -> None:
    with pytest.raises(ModelError, match=cause):
        spec.Manifest.parse(data)


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": None},
        {"rootfs": {"type": "other", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": "x"}},
        {"rootfs": {"type": "layers", "diff_ids": [3]}},
        {"architecture": None},
        {"os": 3},
    ],
)
def test_a_wrong_configuration_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="cannot read the image configuration"):
        spec.Config.parse(dumps({**CONFIG, **change}))


def test_a_configuration_is_read_and_written() -> None:
    config = spec.Config.parse(dumps(CONFIG))
    assert config.architecture == "arm64"
    assert spec.Config.parse(config.to_json()) == config


def test_an_index_without_a_media_type_is_read() -> None:
    entry = {"mediaType": spec.MANIFEST, "digest": DIGEST, "size": 3, "platform": {"os": "linux"}}
    index = spec.Index.parse(dumps({"schemaVersion": 2, "manifests": [entry]}))
    assert index.manifests[0].size == 3


@given(st.binary(max_size=200))
def test_random_bytes_are_never_more_than_a_model_error(data: bytes) -> None:
    for parse in (spec.Index.parse, spec.Manifest.parse, spec.Config.parse):
        with pytest.raises(ModelError):
            parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*MANIFEST, *CONFIG, "manifests", "digest", "size", "diff_ids"]),
            inner,
            max_size=6,
        )
    ),
)


@given(st.dictionaries(st.sampled_from([*MANIFEST, *CONFIG, "manifests"]), JSON))
def test_any_json_is_read_or_refused_but_breaks_nothing(document: dict[str, Any]) -> None:
    data = dumps({"schemaVersion": 2, **document})
    for parse in (spec.Index.parse, spec.Manifest.parse, spec.Config.parse):
        with contextlib.suppress(ModelError):
            parse(data)


FACTS = ModelFacts("surface", "1.2", "bw-cnn-a10", "ms-fp11", 77)


def test_a_models_facts_survive_the_annotations() -> None:
    annotations = FACTS.annotations()
    assert ModelFacts.parse(annotations) == FACTS
    assert annotations["org.opencontainers.image.version"] == "1.2"


@pytest.mark.parametrize("key", ["name", "version", "sku", "format", "memory"])
def test_an_image_without_one_of_the_facts_is_no_model(key: str) -> None:
    annotations = FACTS.annotations()
    del annotations[f"org.edged.model.{key}"]
    with pytest.raises(ModelError, match=f"no annotation org.edged.model.{key}"):
        ModelFacts.parse(annotations)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("memory", "-1"),
        ("memory", "1e9"),
        ("memory", "٣"),
        ("memory", "9" * 16),
        ("name", ""),
        ("name", "a\nb"),
        ("sku", "x" * 129),
    ],
)
def test_senseless_facts_are_refused(key: str, value: str) -> None:
    with pytest.raises(ModelError, match=f"annotation org.edged.model.{key}"):
        ModelFacts.parse({**FACTS.annotations(), f"org.edged.model.{key}": value})
