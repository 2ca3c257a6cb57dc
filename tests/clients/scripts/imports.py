"""edged's client and messages beside TensorFlow's, its stubs', gRPC's health's and google.rpc's.

Arguments: ``order``, modules to import one after the other; ``target``; ``picture``, a path. All
register messages of the same names, and each must keep its own.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from tests.clients.scripts.cases import case, main
from tests.clients.scripts.lines import arguments

ARGUMENTS = arguments()
PICTURE = Path(ARGUMENTS["picture"]).read_bytes()
TARGET = ARGUMENTS["target"]

for module in ARGUMENTS["order"]:
    importlib.import_module(module)

# Only now, and without an effect: the order was decided above.
import grpc  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from google.protobuf import descriptor_pool  # noqa: E402
from google.rpc import error_details_pb2  # noqa: E402
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from tensorflow.core.framework import tensor_pb2  # noqa: E402
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402

import edged  # noqa: E402
from edged import messages  # noqa: E402

REQUEST = predict_pb2.PredictRequest()
REQUEST.inputs["images"].CopyFrom(tf.make_tensor_proto([PICTURE]))


@case
def by_edgeds_client() -> Any:
    with edged.Client(TARGET) as client:
        client.wait_ready()
        answer = client.predict({"images": PICTURE})
    return np.asarray(answer.outputs["probabilities"]).tolist()


@case
def what_edgeds_client_knows() -> Any:
    with edged.Client(TARGET) as client:
        return [sorted(client.metadata().outputs), [each.state for each in client.status()]]


@case
def by_the_stubs() -> Any:
    with grpc.insecure_channel(TARGET) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return tf.make_ndarray(stub.Predict(REQUEST, 60.0).outputs["probabilities"]).tolist()


@case
def by_edgeds_messages() -> Any:
    # One's request in the other's class, and the answer the other way round.
    ours = messages.PredictRequest.FromString(REQUEST.SerializeToString())
    with grpc.insecure_channel(TARGET) as channel:
        predict = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            messages.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )
        return tf.make_ndarray(predict(ours, timeout=60.0).outputs["probabilities"]).tolist()


@case
def health() -> Any:
    with grpc.insecure_channel(TARGET) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=60.0).status)


@case
def pools() -> Any:
    default = descriptor_pool.Default()
    theirs = default.FindMessageTypeByName("tensorflow.TensorProto")
    return {
        "theirs is in the default pool": tensor_pb2.TensorProto.DESCRIPTOR is theirs,
        "ours is not": messages.TensorProto.DESCRIPTOR is not theirs,
        "so is the request": messages.PredictRequest.DESCRIPTOR
        is not predict_pb2.PredictRequest.DESCRIPTOR,
        "and health": messages.HealthCheckRequest.DESCRIPTOR
        is not health_pb2.HealthCheckRequest.DESCRIPTOR,
        "and the retry hint": messages.RetryInfo.DESCRIPTOR
        is not error_details_pb2.RetryInfo.DESCRIPTOR,
    }


if __name__ == "__main__":
    main()
