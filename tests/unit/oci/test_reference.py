"""References to images: what is understood, and what the user is told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.errors import ConfigError
from edged.oci import Reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:out", Reference("oci", Path("out"))),
        ("oci:/a/b:v1", Reference("oci", Path("/a/b"), "v1")),
        ("oci:/a/b:plant/surface:v1", Reference("oci", Path("/a/b"), "plant/surface:v1")),
        ("oci-archive:model.tar", Reference("oci-archive", Path("model.tar"))),
        ("oci-archive:model.tar:1.0", Reference("oci-archive", Path("model.tar"), "1.0")),
        ("some/folder", Reference("oci", Path("some/folder"))),
        ("/some/model.tar", Reference("oci-archive", Path("/some/model.tar"))),
    ],
)
def test_a_reference_is_understood(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected


@pytest.mark.parametrize("text", ["oci:out", "oci:out:v1", "oci-archive:a.tar"])
def test_a_reference_reads_back_as_it_is_shown(text: str) -> None:
    assert str(Reference.parse(text)) == text


def test_a_registry_is_not_supported_yet_and_says_what_is() -> None:
    with pytest.raises(ConfigError, match=r"docker:// is not supported yet; use oci: or oci-arch"):
        Reference.parse("docker://example.org/model:1")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "path is empty"),
        ("oci:", "path is empty"),
        ("oci-archive::v1", "path is empty"),
        ("oci:a\0b", "NUL"),
        ("oci:dir:", "no tag"),
        ("oci:dir:-x", "no tag"),
        ("oci:dir:a b", "no tag"),
        ("oci:dir:" + "a" * 256, "no tag"),
        ("docker-archive:x.tar", "unknown kind of reference 'docker-archive'"),
        ("model:latest", "unknown kind of reference 'model'"),
    ],
)
def test_what_cannot_be_understood_is_named(text: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        Reference.parse(text)


def test_a_long_senseless_tag_costs_no_time() -> None:
    with pytest.raises(ConfigError):
        Reference.parse("oci:dir:" + "a" * 50_000 + "!")
