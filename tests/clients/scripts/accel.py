"""The original service's own Python client, ``azureml.accel.PredictionClient``, unchanged.

Arguments: ``resnet50`` and ``net``, addresses; ``picture``, ``text``, paths; ``input``, ``scores``,
``features``, names of the net's; ``names``, pairs of ResNet-50's.
"""

from __future__ import annotations

import time
import types
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import tensorflow.compat.v1 as tf
from azureml.accel import PredictionClient
from tensorflow.core.framework import types_pb2

from tests.clients.scripts.cases import case, main
from tests.clients.scripts.lines import arguments

ARGUMENTS = arguments()
PICTURE, TEXT = ARGUMENTS["picture"], ARGUMENTS["text"]
INPUT, SCORES, FEATURES = ARGUMENTS["input"], ARGUMENTS["scores"], ARGUMENTS["features"]
array = np.random.default_rng(4).normal(size=(1, 3, 224, 224)).astype(np.float32)


def client(target: str, **options: Any) -> Any:
    host, _, port = ARGUMENTS[target].rpartition(":")
    return PredictionClient(host, int(port), **options)


resnet50 = client("resnet50", access_token="some-key", service_name="my-service")
net = client("net")


def describe(values: Any) -> dict[str, Any]:
    return {
        "type": type(values).__name__,
        "shape": list(values.shape),
        "sum": float(values.sum()),
        "first": values.reshape(-1)[:20].tolist(),
    }


@case
def file_by_every_name() -> Any:
    return {
        f"{name} -> {output}": describe(
            resnet50.score_file(path=PICTURE, input_name=name, outputs=output)
        )
        for name, output in ARGUMENTS["names"]
    }


@case
def file_with_nothing_named() -> Any:
    return describe(resnet50.score_file(PICTURE))


@case
def picture_as_a_tensor() -> Any:
    with open(PICTURE, "rb") as file:  # noqa: PTH123
        given = {"images": (file.read(), [1], types_pb2.DT_STRING)}
    return describe(resnet50.score_tensors(given, outputs="output_alias", timeout=60.0))


@case
def arrays() -> Any:
    return describe(net.score_numpy_arrays({INPUT: array}, outputs=SCORES))


@case
def list_of_outputs() -> Any:
    # What the client needs of TensorFlow 1, where there is a function of this name.
    tf.contrib = types.SimpleNamespace(util=types.SimpleNamespace(make_ndarray=tf.make_ndarray))
    try:
        found = net.score_numpy_arrays({INPUT: array}, outputs=[SCORES, FEATURES])
    finally:
        del tf.contrib
    return [describe(each) for each in found]


@case
def a_connection_for_each_call() -> Any:
    hasty = client("net", channel_shutdown_timeout=timedelta(0))
    return [describe(hasty.score_numpy_arrays({INPUT: array}, outputs=SCORES)) for _ in range(3)]


@case
def what_is_no_picture() -> Any:
    began = time.monotonic()
    try:
        resnet50.score_file(TEXT, outputs="output_alias")
    except grpc.RpcError as exc:
        return {"code": exc.code().name, "details": exc.details(), "s": time.monotonic() - began}
    return {}


if __name__ == "__main__":
    main()
