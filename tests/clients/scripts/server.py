"""A server made of tensorflow-serving-api's stubs, and edged's client asking it.

The server gives back what it was sent, in the form TensorFlow writes. It has neither health nor
trailing metadata, as any server that is not edged.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import edged
from tests.clients.scripts.cases import case, main

TYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]


class Echo(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Answers with the inputs."""

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        answer = predict_pb2.PredictResponse()
        for name, tensor in request.inputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(tf.make_ndarray(tensor)))
        answer.model_spec.name = request.model_spec.name
        return answer


server = grpc.server(ThreadPoolExecutor(2))
prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Echo(), server)
client = edged.Client(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
random = np.random.default_rng(5)


def same(array: Any) -> bool:
    answer = client.predict({"x": array}).outputs["x"]
    assert isinstance(answer, np.ndarray)
    return answer.dtype == array.dtype and bool((answer == array).all())


@case
def ready() -> Any:
    client.wait_ready()
    return True


@case
def arrays() -> Any:
    return {name: same(random.integers(0, 2, (2, 3, 4)).astype(name)) for name in TYPES}


@case
def arrays_of_one_value() -> Any:
    return {name: same(np.ones((1, 1), name)) for name in TYPES}


@case
def an_empty_array() -> Any:
    return same(np.zeros((0, 4), np.float32))


@case
def strings() -> Any:
    answer = client.predict({"x": [b"one", b"", b"\xff\x00"]}, model="echo")
    return [answer.model, [each.hex() for each in answer.outputs["x"]]]


if __name__ == "__main__":
    server.start()
    main()
    client.close()
    server.stop(0).wait()
