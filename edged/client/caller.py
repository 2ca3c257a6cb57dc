"""The client: questions as Python values to a server's methods, until its deadline.

A client may be shared by threads; it keeps one connection open and comes back by itself when the
server was away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from edged import messages
from edged.client import answers
from edged.client.answers import (
    Array,
    ModelMetadata,
    Outputs,
    Prediction,
    VersionStatus,
)
from edged.client.channel import Tls, authorization, connect
from edged.client.retry import Retry
from edged.errors import RequestError
from edged.messages.arrays import from_bytes, to_tensor
from edged.messages.calls import request_error

Value: TypeAlias = Array | bytes | Sequence[bytes]
Tensor: TypeAlias = Message | tuple[bytes, Sequence[int], int]
_Answer = TypeVar("_Answer")

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
WATCH = "/grpc.health.v1.Health/Watch"
TIMEOUT = 10.0  # seconds


class Client:
    """A connection to a server.

    Calls that are refused because the server is busy or away are tried again, within the caller's
    timeout: see ``edged.client.retry``.

    Args:
        target: ``HOST:PORT`` or ``unix:PATH``.
        token: sent as ``authorization: Bearer TOKEN`` with each call.
        tls: ``grpc.ChannelCredentials``; or a PEM file with the certificates to trust; or three:
            that one, the client's own certificate and its key. Without it the connection is in the
            clear.
        retry: how often a call is tried.

    Raises:
        ConfigError: a file cannot be read; or there is a token, and neither TLS nor a server on
            this host.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        token: str | None = None,
        tls: Tls | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._target = target
        self._metadata = authorization(token)
        self._retry = retry or Retry()
        self._closed = threading.Event()
        self._channel = connect(target, tls, token)
        self._predict = self._channel.unary_unary(
            PREDICT,
            messages.PredictRequest.SerializeToString,
            messages.PredictResponse.FromString,
        )
        self._watch = self._channel.unary_stream(
            WATCH,
            messages.HealthCheckRequest.SerializeToString,
            messages.HealthCheckResponse.FromString,
        )

    def close(self) -> None:
        """Ends the connection; calls that wait for another try give up."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- questions to the model

    def predict(
        self,
        inputs: Mapping[str, Value],
        *,
        outputs: str | Sequence[str] = (),
        model: str = "",
        signature: str = "",
        top: int = 1,
        timeout: float | None = TIMEOUT,
    ) -> Prediction:
        """Asks the model one question.

        Args:
            inputs: by the names of the model's signature: arrays; or a picture's bytes, or a list
                of those.
            outputs: name or names of those wanted; none means all.
            model: name of the model, for a server that is strict about it.
            signature: likewise.
            top: how many classes to name in ``Prediction.top``; edged names 16 at most.
            timeout: seconds until the answer must be here, all tries together; None for no limit.

        Raises:
            RequestError: its ``code`` says whose fault it is, as gRPC's status names do.
        """
        tensors = {name: to_tensor(value) for name, value in inputs.items()}
        return self._ask(tensors, outputs, model, signature, top, timeout)

    def _ask(
        self,
        tensors: Mapping[str, messages.TensorProto],
        outputs: str | Sequence[str],
        model: str = "",
        signature: str = "",
        top: int = 1,
        timeout: float | None = TIMEOUT,
    ) -> Prediction:
        names = [outputs] if isinstance(outputs, str) else outputs
        request = messages.PredictRequest(inputs=tensors, output_filter=names)
        if model or signature:
            request.model_spec.name = model
            request.model_spec.signature_name = signature
        metadata = self._metadata if top == 1 else (*self._metadata, ("edged-top", str(top)))
        began = time.perf_counter_ns()

        def call(left: float | None) -> tuple[messages.PredictResponse, grpc.Call]:
            return self._predict.with_call(request, left, metadata)

        (answer, ended), attempts = self._call(call, timeout)
        total_us = (time.perf_counter_ns() - began) // 1000
        said = dict(ended.trailing_metadata() or ())
        return answers.prediction(answer, said, total_us, attempts)

    def score_file(
        self,
        path: str | Path,
        input_name: str = "images",
        *,
        outputs: str | Sequence[str] = (),
        timeout: float | None = TIMEOUT,
    ) -> Array | Outputs:
        """Sends a picture as it is in the file.

        Args:
            path: a JPEG or PNG file.
            input_name: of the model's signature.
            outputs: name or names of those wanted; none means all.
            timeout: seconds until the answer must be here.

        Returns:
            The output's values for this picture, without the axis of the batch; a dict of such
            where there are several outputs, not just several names of one.

        Raises:
            OSError: the file cannot be read.
            RequestError: as ``predict``.
        """
        picture = Path(path).read_bytes()
        answer = self.predict({input_name: picture}, outputs=outputs, timeout=timeout)
        return answers.only(
            {
                name: value[0] if isinstance(value, np.ndarray) and value.ndim else value
                for name, value in answer.outputs.items()
            }
        )

    def score_numpy_arrays(
        self,
        arrays: Mapping[str, Array],
        *,
        outputs: str | Sequence[str] = (),
        timeout: float | None = TIMEOUT,
    ) -> Array | Outputs:
        """Sends arrays by input name.

        Returns:
            The output's values; a dict of them by name where there are several outputs.

        Raises:
            RequestError: as ``predict``.
        """
        return answers.only(self.predict(arrays, outputs=outputs, timeout=timeout).outputs)

    def score_tensors(
        self,
        tensors: Mapping[str, Tensor],
        *,
        outputs: str | Sequence[str] = (),
        timeout: float | None = TIMEOUT,
    ) -> Array | Outputs:
        """Sends tensors by input name, as they are.

        Args:
            tensors: ``TensorProto`` messages, edged's or TensorFlow's own; or, as the original
                service's client takes them, ``(bytes, shape, DataType)``: of DT_STRING one
                picture, of other types the values in row-major order.
            outputs: name or names of those wanted; none means all.
            timeout: seconds until the answer must be here.

        Returns:
            As ``score_numpy_arrays``.

        Raises:
            RequestError: as ``predict``.
        """
        sent = {name: _tensor(tensor) for name, tensor in tensors.items()}
        return answers.only(self._ask(sent, outputs, timeout=timeout).outputs)

    # -- questions about the model

    def metadata(self, model: str = "", *, timeout: float | None = TIMEOUT) -> ModelMetadata:
        """Returns what the model takes and gives.

        Raises:
            RequestError: NOT_FOUND if there is no such model; as ``predict``.
        """
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        if model:
            request.model_spec.name = model
        ask = self._channel.unary_unary(
            METADATA,
            messages.GetModelMetadataRequest.SerializeToString,
            messages.GetModelMetadataResponse.FromString,
        )
        answer, _ = self._call(lambda left: ask(request, left, self._metadata), timeout)
        return answers.metadata(answer)

    def status(
        self, model: str = "", *, timeout: float | None = TIMEOUT
    ) -> tuple[VersionStatus, ...]:
        """Returns whether the model's versions can be asked.

        Raises:
            RequestError: NOT_FOUND if there is no such model; as ``predict``.
        """
        request = messages.GetModelStatusRequest()
        if model:
            request.model_spec.name = model
        ask = self._channel.unary_unary(
            STATUS,
            messages.GetModelStatusRequest.SerializeToString,
            messages.GetModelStatusResponse.FromString,
        )
        answer, _ = self._call(lambda left: ask(request, left, self._metadata), timeout)
        return tuple(answers.version_status(each) for each in answer.model_version_status)

    def wait_ready(self, timeout: float | None = TIMEOUT) -> None:
        """Returns once the server has a model that answers.

        A server without the health service is ready when it can be reached.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            RequestError: DEADLINE_EXCEEDED if it was not ready in time.
        """
        deadline = _deadline(timeout)
        while True:
            watching = self._watch(
                messages.HealthCheckRequest(), _left(deadline), self._metadata, wait_for_ready=True
            )
            try:
                for health in watching:
                    if health.status == messages.ServingStatus.SERVING:
                        return
            except grpc.RpcError as exc:
                error = self._error(exc)
                if error.code == "UNIMPLEMENTED":
                    return
                # UNAVAILABLE: it went away while we watched; wait for it to come back.
                if error.code != "UNAVAILABLE" or self._closed.is_set():
                    raise error from exc
            finally:
                watching.cancel()
            # One that is there and refuses must not be asked without a pause.
            self._closed.wait(self._retry.first)

    # -- calls

    def _call(
        self, call: Callable[[float | None], _Answer], timeout: float | None
    ) -> tuple[_Answer, int]:
        """Returns what ``call`` returns, and how often it was tried.

        Args:
            call: is given the seconds that are left.
            timeout: seconds for all tries together.
        """
        deadline, attempt = _deadline(timeout), 0
        while True:
            attempt += 1
            try:
                return call(_left(deadline)), attempt
            except grpc.RpcError as exc:
                error = self._error(exc)
                pause = self._retry.pause(error.code, _said(exc), attempt)
                left = _left(deadline)
                # Of a pause that takes all the time there is only the wait would come.
                if pause is None or (left is not None and pause >= left):
                    raise error from exc
                if self._closed.wait(pause):
                    raise error from exc

    def _error(self, error: grpc.RpcError) -> RequestError:
        return request_error(error, self._target, f"cannot reach {self._target}: nobody answers")


def _tensor(tensor: Tensor) -> messages.TensorProto:
    if isinstance(tensor, messages.TensorProto):
        return tensor
    if isinstance(tensor, Message):  # of the same fields, from another's descriptor pool
        return messages.TensorProto.FromString(tensor.SerializeToString())
    return from_bytes(*tensor)


def _said(error: grpc.RpcError) -> dict[str, str | bytes]:
    """Returns the trailing metadata of a failed call, which its type does not say it has."""
    trailing = getattr(error, "trailing_metadata", lambda: None)()
    return dict(trailing or ())


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
