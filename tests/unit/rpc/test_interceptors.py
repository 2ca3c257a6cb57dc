"""Callers see whose fault an error is, and nothing of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from edged import errors
from edged.messages import StatusReply, StatusRequest
from edged.rpc.front import RefusedError
from edged.rpc.interceptors import Context, status_of, stream, unary
from tests.unit.rpc import edge
from tests.unit.rpc.edge import Caller


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RequestError("OUT_OF_RANGE", "x"), grpc.StatusCode.OUT_OF_RANGE),
        (errors.RequestError("no code", "x"), grpc.StatusCode.INTERNAL),
        (errors.ConfigError("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.ModelError("x"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.VerifyError("x"), grpc.StatusCode.DATA_LOSS),
        (errors.FetchError("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.StoreError("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.DeviceError("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.EdgedError("x"), grpc.StatusCode.INTERNAL),
    ],
)
def test_an_error_of_ours_has_its_code_and_its_text(
    error: errors.EdgedError, code: grpc.StatusCode
) -> None:
    assert status_of(error) == (code, "x")


def test_an_unexpected_error_keeps_its_text_to_itself() -> None:
    code, text = status_of(KeyError("secret"))
    assert code is grpc.StatusCode.INTERNAL
    assert "secret" not in text


def test_a_long_text_is_cut_as_tensorflow_serving_does() -> None:
    _, text = status_of(errors.ModelError("x" * 5000))
    assert text == "x" * 1024 + "...TRUNCATED"


REFUSED = [
    (RefusedError("RESOURCE_EXHAUSTED", "full"), "100"),
    (RefusedError("UNAVAILABLE", "loading"), "500"),
    (RefusedError("NOT_FOUND", "no model"), None),
    (errors.RequestError("RESOURCE_EXHAUSTED", "it will never fit"), None),
    (errors.StoreError("disk full"), None),
    (KeyError("unexpected"), None),
]


@pytest.mark.parametrize(("error", "pushback"), REFUSED)
@pytest.mark.parametrize("streaming", [False, True])
def test_callers_are_told_when_to_try_again_where_that_is_of_use(
    error: Exception, pushback: str | None, streaming: bool
) -> None:
    async def refuse(request: object, context: Context) -> StatusReply:
        context.set_trailing_metadata((("edged-request-id", "a-1"),))
        raise error

    async def refuse_later(request: object, context: Context) -> AsyncIterator[StatusReply]:
        yield StatusReply()
        await refuse(request, context)

    method = (
        grpc.unary_stream_rpc_method_handler(
            stream(refuse_later), StatusRequest.FromString, StatusReply.SerializeToString
        )
        if streaming
        else grpc.unary_unary_rpc_method_handler(
            unary(refuse), StatusRequest.FromString, StatusReply.SerializeToString
        )
    )

    async def test(caller: Caller) -> None:
        if streaming:
            call = caller.stream("/t.T/Do", StatusRequest(), StatusReply)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [reply async for reply in call]
            refused = caught.value
        else:
            refused = await caller.refused("/t.T/Do", StatusRequest(), StatusReply)
        assert refused.code() is status_of(error)[0]
        said = edge.said(refused)
        assert said["edged-request-id"] == "a-1"
        assert said.get("grpc-retry-pushback-ms") == pushback

    edge.run(lambda: [grpc.method_handlers_generic_handler("t.T", {"Do": method})], test)
