"""References to images: what is understood, and what the user is told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.errors import ConfigError
from edged.oci import Digest, Reference


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


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "host", "name", "tag", "digest"),
    [
        ("docker://plant.example/surface:v1", "plant.example", "surface", "v1", None),
        (
            "docker://Line4:5000/a/b-c/d__e:1.0",
            "line4:5000",
            "a/b-c/d__e",
            "1.0",
            None,
        ),
        (f"docker://localhost/x@sha256:{HEX}", "localhost", "x", None, HEX),
        (f"docker://[::1]:5000/x:t@sha256:{HEX}", "[::1]:5000", "x", "t", HEX),
    ],
)
def test_a_registrys_image_is_understood(
    text: str, host: str, name: str, tag: str | None, digest: str | None
) -> None:
    reference = Reference.parse(text)
    assert reference.remote
    assert (reference.host, reference.name, reference.tag) == (host, name, tag)
    assert reference.digest == (Digest(digest) if digest else None)
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("docker://", "expected docker://HOST/NAME:TAG"),
        ("docker://plant.example", "expected docker://HOST/NAME:TAG"),
        ("docker://plant.example/surface", "expected docker://HOST/NAME:TAG"),
        ("docker://plant.example/:v1", "expected docker://HOST/NAME:TAG"),
        ("docker:///surface:v1", "is no HOST"),
        ("docker://user:password@plant.example/surface:v1", "is no HOST"),
        ("docker://plant.example:99999/surface:v1", "is no HOST"),
        ("docker://-x/surface:v1", "is no HOST"),
        ("docker://h/Surface:v1", "no name of a repository"),
        ("docker://h/../x:v1", "no name of a repository"),
        ("docker://h/a//x:v1", "no name of a repository"),
        ("docker://h/x?y=z:v1", "no name of a repository"),
        ("docker://h/x:", "is no tag"),
        ("docker://h/x:-v", "is no tag"),
        ("docker://h/x:v 1", "is no tag"),
        ("docker://h/x:" + "v" * 129, "is no tag"),
        ("docker://h/x@sha256:12", "expected 'sha256:' and 64"),
        ("docker://h/x@md5:" + HEX, "expected 'sha256:' and 64"),
    ],
)
def test_what_is_wrong_with_a_registrys_reference_is_named(text: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        Reference.parse(text)


def test_nothing_is_written_to_a_registry(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"edged does not push.*skopeo copy"):
        Reference.parse("docker://h/x:v1").check_writable()
    Reference.parse("oci:x").check_writable()


def test_an_absolute_reference_needs_no_working_directory() -> None:
    assert Reference.parse("oci:x:v1").absolute() == Reference("oci", Path.cwd() / "x", "v1")
    assert str(Reference.parse("docker://h/x:v1").absolute()) == "docker://h/x:v1"


def test_a_long_senseless_name_costs_no_time() -> None:
    for text in ("a" * 100_000 + "!:x", "a." * 50_000 + ":x", "-" * 100_000 + ":x"):
        with pytest.raises(ConfigError):
            Reference.parse(f"docker://h/{text}")
        with pytest.raises(ConfigError):
            Reference.parse(f"docker://{text}/x")


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
