"""Whoever polls a model's status sees the daemon's one state in TensorFlow Serving's words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import pytest

from edged.messages import ErrorCode, GetModelStatusRequest, GetModelStatusResponse, VersionState
from edged.rpc import status
from edged.rpc.models import Model
from tests.unit.rpc import edge
from tests.unit.rpc.edge import Caller, Known

METHOD = "/tensorflow.serving.ModelService/GetModelStatus"


def request(
    name: str | None = "net", version: int | None = None, label: str = ""
) -> GetModelStatusRequest:
    made = GetModelStatusRequest()
    if name is not None:
        made.model_spec.name = name
    if version is not None:
        made.model_spec.version.value = version
    if label:
        made.model_spec.version_label = label
    return made


def run(
    test: Callable[[Caller], Awaitable[None]], model: Model | None, *, strict: bool = False
) -> None:
    edge.run(lambda: [status.handlers(Known(model), strict=strict)], test)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("serving", VersionState.AVAILABLE),
        ("swapping", VersionState.AVAILABLE),
        ("starting", VersionState.LOADING),
    ],
)
@pytest.mark.parametrize("asked", [request(), request(version=3), request(""), request(None)])
def test_the_state_is_the_daemons(
    state: str, expected: VersionState, asked: GetModelStatusRequest
) -> None:
    async def test(caller: Caller) -> None:
        reply = await caller.call(METHOD, asked, GetModelStatusResponse)
        (version,) = reply.model_version_status
        assert (version.version, version.state) == (3, expected)
        assert version.HasField("status")
        assert (version.status.error_code, version.status.error_message) == (ErrorCode.OK, "")

    run(test, edge.model(state, "not for callers"))


def test_a_model_that_cannot_be_loaded_has_ended_with_the_reason() -> None:
    async def test(caller: Caller) -> None:
        reply = await caller.call(METHOD, request(), GetModelStatusResponse)
        (version,) = reply.model_version_status
        assert version.state == VersionState.END
        assert version.status.error_code == ErrorCode.UNAVAILABLE
        assert version.status.error_message == "its process ended 3 times"

    run(test, edge.model("not_serving", "its process ended 3 times"))


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("asked", "strict", "code", "text"),
    [
        (request("n"), False, NOT_FOUND, "Could not find any versions of model n"),
        (request(version=4), False, NOT_FOUND, "Could not find version 4 of model net"),
        (request("", 4), False, NOT_FOUND, "Could not find version 4 of model net"),
        (request("n", 3), True, NOT_FOUND, "Could not find version 3 of model n"),
        (request(label="x"), False, INVALID, "Unrecognized servable version label: x"),
        (request(None), True, INVALID, "Missing ModelSpec"),
        (request(""), True, INVALID, "ModelSpec has no name specified."),
    ],
)
def test_what_is_not_there_is_said(
    asked: GetModelStatusRequest, strict: bool, code: grpc.StatusCode, text: str
) -> None:
    async def test(caller: Caller) -> None:
        error = await caller.refused(METHOD, asked, GetModelStatusResponse)
        assert error.code() is code
        assert str(error.details()).startswith(text)

    run(test, edge.model(), strict=strict)


def test_without_a_model_there_is_no_version() -> None:
    async def test(caller: Caller) -> None:
        error = await caller.refused(METHOD, request(), GetModelStatusResponse)
        assert error.code() is NOT_FOUND
        assert str(error.details()).startswith("Could not find any versions of model net")
        assert "edged deploy" in str(error.details())

    run(test, None)


def test_models_are_not_changed_by_callers() -> None:
    async def test(caller: Caller) -> None:
        method = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
        error = await caller.refused(method, request(), GetModelStatusResponse)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED

    run(test, edge.model())
