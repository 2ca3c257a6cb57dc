"""What applications import to call a model: arrays or pictures in, arrays out.

Works with any server of TensorFlow Serving's Predict. From edged's own answers it also has the
class, the times and the model's digest. A client may be shared by threads; it keeps one connection
open and comes back by itself when the server was away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import grpc
import numpy as np
import numpy.typing as npt

from edged import messages
from edged.errors import RequestError
from edged.messages.arrays import to_array, to_tensor
from edged.messages.calls import request_error

Array: TypeAlias = npt.NDArray[Any]
Value: TypeAlias = Array | bytes | Sequence[bytes]

PREDICT = "/tensorflow.serving.PredictionService/Predict"
WATCH = "/grpc.health.v1.Health/Watch"
MESSAGE_LIMIT = 64 * 1024 * 1024  # bytes, as the server's
OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    # A server on this host is back in no time; grpc's own default is a second, growing to minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True)
class Class:
    """One class the model sees; ``label`` is empty if the model's classes have no names."""

    index: int
    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """An answer.

    Attributes:
        outputs: arrays, or lists of bytes, by the names of the model's signature.
        model: name of the model that answered.
        version: of the model; None if the server does not say.
        top: the best classes of the first item, best first; none from a model without classes.
        times_us: microseconds in each stage of the model.
        queued_us: microseconds until the NPU was free.
        parked_us: the part of ``queued_us`` in which a deployment held the requests.
        total_us: microseconds from the call to the answer, here.
        digest: of the model's image.
        request_id: names the call in the device's log.
    """

    outputs: dict[str, Array | list[bytes]]
    model: str = ""
    version: int | None = None
    top: tuple[Class, ...] = ()
    times_us: dict[str, int] = field(default_factory=dict)
    queued_us: int = 0
    parked_us: int = 0
    total_us: int = 0
    digest: str = ""
    request_id: str = ""


class Client:
    """A connection to a server.

    Args:
        target: ``HOST:PORT`` or ``unix:PATH``.
        token: sent as ``authorization: bearer TOKEN`` with each call.
        tls: PEM file with the certificates to trust; without it the connection is in the clear.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        token: str | None = None,
        tls: str | Path | None = None,
    ) -> None:
        self._target = target
        self._metadata = (("authorization", f"bearer {token}"),) if token is not None else ()
        if tls is None:
            self._channel = grpc.insecure_channel(target, options=OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(Path(tls).read_bytes())
            self._channel = grpc.secure_channel(target, credentials, options=OPTIONS)
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
        """Ends the connection."""
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

    def predict(
        self,
        inputs: Mapping[str, Value],
        *,
        outputs: Sequence[str] = (),
        model: str = "",
        signature: str = "",
        top: int = 1,
        timeout: float | None = 10.0,
    ) -> Prediction:
        """Asks the model one question.

        Args:
            inputs: by the names of the model's signature: arrays; or a picture's bytes, or a list
                of those.
            outputs: names of those wanted; none means all.
            model: name of the model, for a server that is strict about it.
            signature: likewise.
            top: how many classes to name in ``Prediction.top``.
            timeout: seconds until the answer must be here; None for no limit.

        Raises:
            RequestError: its ``code`` says whose fault it is, as gRPC's status names do.
        """
        request = messages.PredictRequest(
            inputs={name: to_tensor(value) for name, value in inputs.items()},
            output_filter=outputs,
        )
        if model or signature:
            request.model_spec.name = model
            request.model_spec.signature_name = signature
        metadata = self._metadata if top == 1 else (*self._metadata, ("edged-top", str(top)))
        began = time.perf_counter_ns()
        try:
            answer, call = self._predict.with_call(request, timeout, metadata)
        except grpc.RpcError as exc:
            raise self._error(exc) from exc
        total_us = (time.perf_counter_ns() - began) // 1000
        return _prediction(answer, dict(call.trailing_metadata() or ()), total_us)

    def score_file(
        self,
        path: str | Path,
        input_name: str = "images",
        *,
        outputs: Sequence[str] = (),
        timeout: float | None = 10.0,
    ) -> Array | dict[str, Array | list[bytes]]:
        """Sends a picture as it is in the file.

        Args:
            path: a JPEG or PNG file.
            input_name: of the model's signature.
            outputs: names of those wanted; none means all.
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
        return _only(
            {
                name: value[0] if isinstance(value, np.ndarray) and value.ndim else value
                for name, value in answer.outputs.items()
            }
        )

    def score_numpy_arrays(
        self,
        arrays: Mapping[str, Array],
        *,
        outputs: Sequence[str] = (),
        timeout: float | None = 10.0,
    ) -> Array | dict[str, Array | list[bytes]]:
        """Sends arrays by input name.

        Returns:
            The output's values; a dict of them by name where there are several outputs.

        Raises:
            RequestError: as ``predict``.
        """
        return _only(self.predict(arrays, outputs=outputs, timeout=timeout).outputs)

    def wait_ready(self, timeout: float | None = 10.0) -> None:
        """Returns once the server has a model that answers.

        A server without the health service is ready when it can be reached.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            RequestError: DEADLINE_EXCEEDED if it was not ready in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            watching = self._watch(
                messages.HealthCheckRequest(), left, self._metadata, wait_for_ready=True
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
                if error.code != "UNAVAILABLE":
                    raise error from exc
            finally:
                watching.cancel()

    def _error(self, error: grpc.RpcError) -> RequestError:
        return request_error(error, self._target, f"cannot reach {self._target}: nobody answers")


def _only(outputs: dict[str, Array | list[bytes]]) -> Array | dict[str, Array | list[bytes]]:
    """Returns the one output there is; it may come under several names."""
    first, *others = outputs.values() or [[]]
    if isinstance(first, np.ndarray) and all(_same(first, other) for other in others):
        return first
    return outputs


def _same(one: Array, other: Array | list[bytes]) -> bool:
    # To the bit: two outputs that are merely close are two.
    return (
        isinstance(other, np.ndarray)
        and (one.dtype, one.shape) == (other.dtype, other.shape)
        and one.tobytes() == other.tobytes()
    )


def _prediction(
    answer: messages.PredictResponse, metadata: Mapping[str, str | bytes], total_us: int
) -> Prediction:
    said = {key: value for key, value in metadata.items() if isinstance(value, str)}
    spec = answer.model_spec
    return Prediction(
        outputs={name: to_array(tensor) for name, tensor in sorted(answer.outputs.items())},
        model=spec.name,
        version=spec.version.value if spec.HasField("version") else None,
        top=tuple(
            Class(int(each["index"]), str(each["label"]), float(each["score"]))
            for each in json.loads(said.get("edged-top", "[]"))
        ),
        times_us=json.loads(said.get("edged-times-us", "{}")),
        queued_us=int(said.get("edged-queued-us", "0")),
        parked_us=int(said.get("edged-parked-us", "0")),
        total_us=total_us,
        digest=said.get("edged-model-digest", ""),
        request_id=said.get("edged-request-id", ""),
    )
