"""What a controller may ask for in our own document, and what it is told if it asks nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.errors import RequestError
from edged.mqtt import desired
from edged.mqtt.desired import NOTHING, understand

DIGEST = "sha256:" + "a" * 64


def refused(document: Any) -> str:
    with pytest.raises(RequestError) as caught:
        desired.read(document if isinstance(document, bytes) else json.dumps(document).encode())
    assert caught.value.code == "INVALID_ARGUMENT"
    return str(caught.value)


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("plant.example/surface:7", "docker://plant.example/surface:7"),
        ("docker://plant.example:5000/a/b:7", "docker://plant.example:5000/a/b:7"),
        (f"plant.example/surface@{DIGEST}", f"docker://plant.example/surface@{DIGEST}"),
        ("oci:/media/stick/image", "oci:/media/stick/image"),
    ],
)
def test_an_image_is_named_with_or_without_its_transport(image: str, reference: str) -> None:
    target = understand({"image": image}).target
    assert target is not None
    assert target.reference == reference


def test_a_digest_pins_an_image_whatever_its_tag_means_later() -> None:
    target = understand({"image": "plant.example/surface:7", "digest": DIGEST}).target
    assert target is not None
    assert target.reference == f"docker://plant.example/surface:7@{DIGEST}"
    local = understand({"image": "oci:/media/stick", "digest": DIGEST}).target
    assert local is not None
    assert local.options.digest == DIGEST


@pytest.mark.parametrize("document", [{}, {"image": "h.example/n:1", "status": "stopped"}])
def test_without_an_image_or_stopped_no_model_is_wanted(document: dict[str, str]) -> None:
    target = understand(document).target
    assert target is not None
    assert target.reference == ""
    assert desired.read(b"") is NOTHING


def test_what_is_allowed_goes_with_the_deployment() -> None:
    document = {
        "image": "h.example/n:1",
        "counter": 7,
        "policy": {"force": True, "allowDowngrade": True},
    }
    target = understand(document).target
    assert target is not None
    assert (target.options.force, target.options.allow_downgrade) == (True, True)
    assert target.options.counter == 7


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"imagge": "h.example/n:1"}, "'image'"),
        ({"image": 7}, "image: expected a text"),
        ({"image": "h.example/n"}, "NAME:TAG"),
        ({"image": "http://h.example/n:1"}, "'http'"),
        ({"image": "oci:relative"}, "an absolute path"),
        ({"image": "h.example/n:1", "digest": "sha256:1"}, "64"),
        ({"image": f"h.example/n@{DIGEST}", "digest": "sha256:" + "b" * 64}, "leave one out"),
        ({"digest": DIGEST}, "no image"),
        ({"image": "h.example/n:1", "counter": -1}, "counter: expected a whole number"),
        ({"image": "h.example/n:1", "counter": True}, "got True"),
        ({"image": "h.example/n:1", "status": "paused"}, "running or stopped, got 'paused'"),
        ({"image": "h.example/n:1", "policy": []}, "policy: expected an object"),
        ({"image": "h.example/n:1", "policy": {"force": 1}}, "force: expected true or false"),
        ({"image": "h.example/n:1", "policy": {"forse": True}}, "'force'"),
        ({"image": "h.example/n:1\u0000"}, "printable"),
        ({"id": "x" * 65}, "at most 64"),
        ([], "a JSON object"),
        (b"{", "expected a JSON object"),
        (b"\xff\xfe", "expected a JSON object"),
        (b'{"counter": NaN}', "NaN"),
        (b"[" * 100_000, "expected a JSON object"),
        (b'{"image": "' + b"x" * 200_000 + b'"}', "at most 131072"),
    ],
)
def test_nonsense_is_refused_with_what_was_expected(document: Any, names: str) -> None:
    assert names in refused(document)


def test_an_error_stays_short_whatever_is_in_the_document() -> None:
    assert len(refused({"x" * 50_000: 1})) < 400
    assert len(refused({"image": "h.example/n:1", "status": "y" * 50_000})) < 400
    assert "\ud800" not in refused({"image": "h.example/n:1", "status": "\ud800"})


def test_the_same_wish_has_the_same_key_and_an_id_makes_another() -> None:
    one = understand({"image": "h.example/n:1", "policy": {}})
    same = understand({"status": "running", "image": "docker://h.example/n:1"})
    other = understand({"image": "h.example/n:1", "id": "again"})
    assert one.key == same.key
    assert one.key != other.key
