"""Callers see whose fault an error is, and nothing of ours."""

from __future__ import annotations

import grpc
import pytest

from edged import errors
from edged.rpc.interceptors import status_of


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
