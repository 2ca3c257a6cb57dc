"""Whoever asks what the model takes and gives can build a request from the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

import grpc
import pytest

from edged import messages
from edged.manifest import TYPES
from edged.messages import GetModelMetadataRequest, GetModelMetadataResponse
from edged.rpc import metadata
from edged.rpc.models import Model
from tests.unit.rpc import edge
from tests.unit.rpc.edge import Caller, Known

METHOD = "/tensorflow.serving.PredictionService/GetModelMetadata"


def request(
    *fields: str, name: str | None = "net", version: int | None = None
) -> GetModelMetadataRequest:
    made = GetModelMetadataRequest(metadata_field=fields)
    if name is not None:
        made.model_spec.name = name
    if version is not None:
        made.model_spec.version.value = version
    return made


def run(
    test: Callable[[Caller], Awaitable[None]], model: Model | None, *, strict: bool = False
) -> None:
    edge.run(lambda: [metadata.handlers(Known(model), strict=strict)], test)


def test_the_signature_is_the_manifests() -> None:
    async def test(caller: Caller) -> None:
        reply = await caller.call(METHOD, request("signature_def"), GetModelMetadataResponse)
        assert reply.model_spec.name == "net"
        assert reply.model_spec.version.value == 3
        assert reply.model_spec.signature_name == ""
        assert list(reply.metadata) == ["signature_def"]
        known = messages.SignatureDefMap()
        assert reply.metadata["signature_def"].Unpack(known)
        assert list(known.signature_def) == ["serving_default"]
        signature = known.signature_def["serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        assert told(signature.inputs) == {
            "net/Placeholder:0": ("net/Placeholder:0", messages.DataType.DT_STRING, [-1]),
            "size": ("size", messages.DataType.DT_INT32, [-1, 2]),
        }
        scores = ("net/Softmax:0", messages.DataType.DT_FLOAT, [-1, 5])
        assert told(signature.outputs) == {
            "net/Softmax:0": scores,
            "output_alias": scores,
            "scores": scores,
            "count": ("count", messages.DataType.DT_INT64, []),
        }
        assert signature.outputs["count"].HasField("tensor_shape")

    run(test, edge.model())


def told(side: object) -> dict[str, tuple[str, int, list[int]]]:
    assert hasattr(side, "items")
    return {
        name: (info.name, info.dtype, [dim.size for dim in info.tensor_shape.dim])
        for name, info in side.items()
    }


def test_every_type_of_a_manifest_has_its_number() -> None:
    assert set(metadata.TYPES) == set(TYPES)
    assert len(set(metadata.TYPES.values())) == len(TYPES)


def test_a_version_that_is_no_number_is_left_out() -> None:
    async def test(caller: Caller) -> None:
        reply = await caller.call(METHOD, request("signature_def"), GetModelMetadataResponse)
        assert not reply.model_spec.HasField("version")

    run(test, edge.model(version="2026.1"))


@pytest.mark.parametrize("state", ["serving", "swapping", "starting", "not_serving"])
def test_it_is_known_whatever_the_model_is_doing(state: str) -> None:
    async def test(caller: Caller) -> None:
        reply = await caller.call(METHOD, request("signature_def"), GetModelMetadataResponse)
        assert reply.metadata["signature_def"].value

    run(test, edge.model(state))


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
NO_FIELD = "GetModelMetadataRequest must specify at least one metadata_field"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        (request(), INVALID, NO_FIELD),
        (request("x"), INVALID, "Metadata field x is not supported"),
        (request("signature_def", "x"), INVALID, "Metadata field x is not supported"),
        (
            request("signature_def", name="n"),
            NOT_FOUND,
            "Servable not found for request: Latest(n)",
        ),
        (
            request("signature_def", version=4),
            NOT_FOUND,
            "Servable not found for request: Specific(net, 4)",
        ),
    ],
)
def test_what_is_not_there_is_said(
    asked: GetModelMetadataRequest, code: grpc.StatusCode, text: str, strict: bool
) -> None:
    async def test(caller: Caller) -> None:
        error = await caller.refused(METHOD, asked, GetModelMetadataResponse)
        assert error.code() is code
        assert str(error.details()).startswith(text)

    run(test, edge.model(), strict=strict)


@pytest.mark.parametrize(
    ("name", "text"), [(None, "Missing ModelSpec"), ("", "ModelSpec has no name")]
)
def test_the_name_may_be_left_out_unless_the_server_is_strict(name: str | None, text: str) -> None:
    asked = request("signature_def", name=name)

    async def answered(caller: Caller) -> None:
        reply = await caller.call(METHOD, asked, GetModelMetadataResponse)
        assert reply.model_spec.name == "net"

    async def refused(caller: Caller) -> None:
        error = await caller.refused(METHOD, asked, GetModelMetadataResponse)
        assert error.code() is INVALID
        assert str(error.details()).startswith(text)

    run(answered, edge.model())
    run(refused, edge.model(), strict=True)


def test_without_a_model_there_is_no_signature() -> None:
    async def test(caller: Caller) -> None:
        error = await caller.refused(METHOD, request("signature_def"), GetModelMetadataResponse)
        assert error.code() is NOT_FOUND
        assert str(error.details()).startswith("Servable not found for request: Latest(net)")

    run(test, None)


def test_a_manifest_that_cannot_be_read_is_the_devices_fault() -> None:
    async def test(caller: Caller) -> None:
        asked = request("signature_def", name="")
        error = await caller.refused(METHOD, asked, GetModelMetadataResponse)
        assert error.code() is grpc.StatusCode.INTERNAL

    run(test, dataclasses.replace(edge.model(), name="", signature=None))
