"""Deployment manifests as the original service's controllers send them are understood."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.errors import RequestError
from edged.mqtt.edge import manifest
from edged.mqtt.edge.manifest import Deployment

# What the original service told users to write into a module's container create options.
ORIGINAL = {
    "HostConfig": {
        "Privileged": True,
        "Devices": [
            {"PathOnHost": f"/dev/catapult{n}", "PathInContainer": f"/dev/catapult{n}"}
            for n in (0, 1)
        ],
        "Binds": ["/etc/hosts:/etc/hosts"],
        "PortBindings": {"50051/tcp": [{"HostPort": "50051"}]},
    }
}


def chunks(text: str) -> dict[str, str]:
    """A text in the pieces that tools cut it into."""
    parts = [text[at : at + 512] for at in range(0, len(text), 512)]
    return {"createOptions" + (f"{n:02}" if n else ""): part for n, part in enumerate(parts)}


def agent(options: Any = None, **more: Any) -> dict[str, Any]:
    settings = {"image": "h.example/surface:7", **chunks(json.dumps(options or ORIGINAL))}
    return {
        "schemaVersion": "1.0",
        "runtime": {
            "type": "docker",
            "settings": {
                "minDockerVersion": "v1.25",
                "registryCredentials": {
                    "r": {"username": "u", "password": "p", "address": "https://H.example/"}
                },
            },
        },
        "systemModules": {
            "edgeAgent": {"type": "docker", "settings": {"image": "mcr.example/agent:1.4"}},
            "edgeHub": {"type": "docker", "settings": {"image": "mcr.example/hub:1.4"}},
        },
        "modules": {
            "surface": {
                "version": "1.0",
                "type": "docker",
                "status": "running",
                "restartPolicy": "always",
                "settings": settings,
                "env": {"MODE": {"value": "fast"}},
                **more,
            }
        },
    }


def parsed(document: dict[str, Any]) -> Deployment:
    assert manifest.is_one(document)
    return manifest.parse(document)


def test_the_original_services_module_is_understood() -> None:
    deployment = parsed(agent())
    module = deployment.modules[0]
    assert (module.name, module.image, module.status) == (
        "surface",
        "h.example/surface:7",
        "running",
    )
    assert module.refusal == ""
    assert module.env == {"MODE": "fast"}
    assert deployment.credentials["h.example"].username == "u"
    assert set(deployment.system) == {"edgeAgent", "edgeHub"}


def test_a_file_with_the_whole_content_is_the_same() -> None:
    content = {"modulesContent": {"$edgeAgent": {"properties.desired": agent()}, "$edgeHub": {}}}
    assert parsed(content) == parsed(agent())


def test_create_options_are_joined_in_order() -> None:
    long = {**ORIGINAL, "Labels": {"text": "x" * 3000}}
    assert len(parsed(agent(long)).modules[0].options) > 5
    settings = agent(long)
    del settings["modules"]["surface"]["settings"]["createOptions03"]
    with pytest.raises(RequestError, match="without a gap"):
        parsed(settings)


def test_the_one_that_starts_first_is_first() -> None:
    document = agent(startupOrder=5)
    document["modules"]["a"] = {"settings": {"image": "h.example/a:1"}}
    document["modules"]["b"] = {"startupOrder": 0, "settings": {"image": "h.example/b:1"}}
    assert [each.name for each in parsed(document).modules] == ["b", "surface", "a"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"HostConfig": {"Devices": [{"PathOnHost": "/dev/sda"}]}}, "/dev/sda"),
        ({"HostConfig": {"PortBindings": {"50051/tcp": [{"HostPort": "8080"}]}}}, "8080"),
        ({"HostConfig": {"PortBindings": {"80/tcp": [{}]}}}, "80"),
    ],
)
def test_what_a_module_could_not_work_without_is_a_refusal(options: Any, names: str) -> None:
    assert names in parsed(agent(options)).modules[0].refusal


def test_what_is_passed_over_is_said() -> None:
    module = parsed(agent({"Cmd": ["x"], "HostConfig": {"Binds": ["/:/host"]}})).modules[0]
    assert module.refusal == ""
    assert "Binds, Cmd" in module.notes[0]


@pytest.mark.parametrize(
    ("change", "code", "names"),
    [
        ({"schemaVersion": "2.0"}, "FAILED_PRECONDITION", "'2.0'"),
        ({"schemaVersion": None}, "INVALID_ARGUMENT", "no schemaVersion"),
        ({"schemaVersion": 1.1}, "INVALID_ARGUMENT", "a text"),
        ({"runtime": {"type": "podman"}}, "INVALID_ARGUMENT", "docker, got 'podman'"),
        ({"modules": []}, "INVALID_ARGUMENT", "modules: expected an object"),
        ({"modules": {"x": None}}, "INVALID_ARGUMENT", "no image"),
        ({"modules": {"": {}}}, "INVALID_ARGUMENT", "names"),
        ({"modules": {f"m{n}": {} for n in range(51)}}, "INVALID_ARGUMENT", "at most 50"),
        (
            {"modules": {"m": {"status": "paused", "settings": {"image": "h.example/n:1"}}}},
            "INVALID_ARGUMENT",
            "'paused'",
        ),
        (
            {"modules": {"m": {"settings": {"image": "h.example/n:1", "createOptions": "{"}}}},
            "INVALID_ARGUMENT",
            "no JSON",
        ),
        (
            {"modules": {"m": {"settings": {"image": "h.example/n:1", "createOptions": {}}}}},
            "INVALID_ARGUMENT",
            "a text",
        ),
        (
            {"runtime": {"settings": {"registryCredentials": {"r": {"username": "u"}}}}},
            "INVALID_ARGUMENT",
            "password",
        ),
    ],
)
def test_a_bad_manifest_is_refused_with_what_was_expected(
    change: dict[str, Any], code: str, names: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parsed({**agent(), **change})
    assert caught.value.code == code
    assert names in str(caught.value)


def test_a_password_is_in_no_error_and_no_text() -> None:
    document = agent()
    document["runtime"]["settings"]["registryCredentials"]["r"]["password"] = ["s3cret"]
    with pytest.raises(RequestError) as caught:
        parsed(document)
    assert "s3cret" not in str(caught.value)
    good = agent()
    good["runtime"]["settings"]["registryCredentials"]["r"]["password"] = "s3cret"
    assert "s3cret" not in repr(parsed(good))
    assert "s3cret" not in json.dumps(parsed(good).meaning())
