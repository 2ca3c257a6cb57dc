"""tensorflow-serving-api's own stubs, with TensorFlow in the same process.

Arguments: ``surface`` and ``net``, addresses of devices with these models; ``pictures``, paths;
``input``, ``scores``, ``features``, ``maps``: names of the net's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.clients.scripts.cases import case, main, outcome
from tests.clients.scripts.lines import arguments

ARGUMENTS = arguments()
PICTURES = [Path(path).read_bytes() for path in ARGUMENTS["pictures"]]
INPUT, SCORES = ARGUMENTS["input"], ARGUMENTS["scores"]
FEATURES, MAPS = ARGUMENTS["features"], ARGUMENTS["maps"]
LIMIT = 64 * 1024 * 1024
TIMEOUT = 60.0

options = [("grpc.max_send_message_length", 2 * LIMIT), ("grpc.max_receive_message_length", LIMIT)]
surface_channel = grpc.insecure_channel(ARGUMENTS["surface"], options=options)
net_channel = grpc.insecure_channel(ARGUMENTS["net"], options=options)
surface = prediction_service_pb2_grpc.PredictionServiceStub(surface_channel)
net = prediction_service_pb2_grpc.PredictionServiceStub(net_channel)
models = model_service_pb2_grpc.ModelServiceStub(net_channel)
array = np.random.default_rng(3).normal(size=(1, 3, 224, 224)).astype(np.float32)


def pictures(*data: bytes) -> Any:
    request = predict_pb2.PredictRequest()
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(list(data)))
    return request


def floats(tensor: Any, *outputs: str) -> Any:
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.inputs[INPUT].CopyFrom(tensor)
    return request


def describe(tensor: Any) -> dict[str, Any]:
    values = tf.make_ndarray(tensor)
    return {
        "dtype": values.dtype.name,
        "shape": list(values.shape),
        "float_val": len(tensor.float_val),
        "tensor_content": len(tensor.tensor_content),
        "values": values.reshape(-1)[:20].tolist(),
    }


def answered(response: Any) -> dict[str, Any]:
    return {name: describe(tensor) for name, tensor in response.outputs.items()}


# -- Predict


@case
def one_picture() -> Any:
    return answered(surface.Predict(pictures(PICTURES[0]), TIMEOUT))


@case
def three_pictures() -> Any:
    return answered(surface.Predict(pictures(*PICTURES[:3]), TIMEOUT))


@case
def a_picture_without_a_batch() -> Any:
    request = predict_pb2.PredictRequest()
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(PICTURES[0]))
    return answered(surface.Predict(request, TIMEOUT))


@case
def raw_floats() -> Any:
    tensor = tf.make_tensor_proto(array)
    assert tensor.tensor_content
    assert not tensor.float_val
    return answered(net.Predict(floats(tensor), TIMEOUT))


@case
def typed_floats() -> Any:
    tensor = tf.make_tensor_proto(array)
    tensor.tensor_content = b""
    tensor.float_val.extend(array.reshape(-1).tolist())
    return answered(net.Predict(floats(tensor), TIMEOUT))


@case
def one_float_for_all() -> Any:
    tensor = tf.make_tensor_proto(0.5, dtype=tf.float32, shape=array.shape)
    assert len(tensor.float_val) == 1
    short = net.Predict(floats(tensor, SCORES), TIMEOUT)
    full = net.Predict(floats(tf.make_tensor_proto(np.full_like(array, 0.5)), SCORES), TIMEOUT)
    return {"short": answered(short), "full": answered(full)}


@case
def filtered() -> Any:
    request = floats(tf.make_tensor_proto(array), FEATURES, SCORES)
    return answered(net.Predict(request, TIMEOUT))


@case
def tensor_content_asked_for() -> Any:
    request = floats(tf.make_tensor_proto(array), MAPS)
    asked = [("edged-tensor-content", "true")]
    return answered(net.Predict(request, TIMEOUT, metadata=asked))


@case
def model_spec_of_the_answer() -> Any:
    request = floats(tf.make_tensor_proto(array), SCORES)
    request.model_spec.name = "net"
    request.model_spec.version.value = 3
    request.model_spec.signature_name = "serving_default"
    spec = net.Predict(request, TIMEOUT).model_spec
    return [spec.name, spec.version.value, spec.signature_name]


@case
def a_large_batch() -> Any:
    count = LIMIT // array.nbytes - 1
    request = floats(tf.make_tensor_proto(np.repeat(array, count, axis=0)), SCORES)
    scores = tf.make_ndarray(net.Predict(request, TIMEOUT).outputs[SCORES])
    return {
        "bytes": request.ByteSize(),
        "rows": len(scores),
        "same": bool((scores == scores[0]).all()),
    }


@case
def a_message_over_the_limit() -> Any:
    count = LIMIT // array.nbytes + 1
    return answered(net.Predict(floats(tf.make_tensor_proto(np.repeat(array, count, axis=0)))))


@case
def asynchronously() -> Any:
    async def ask() -> Any:
        async with grpc.aio.insecure_channel(ARGUMENTS["surface"]) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            calls = [stub.Predict(pictures(data), timeout=TIMEOUT) for data in PICTURES[:3]]
            return [answered(await call) for call in calls]

    return asyncio.run(ask())


@case
def classify() -> Any:
    return str(surface.Classify(classification_pb2.ClassificationRequest(), TIMEOUT))


# -- refusals


def without_input(request: Any) -> None:
    request.inputs.clear()


def with_two_inputs(request: Any) -> None:
    request.inputs["extra"].CopyFrom(tf.make_tensor_proto(1.0))


def by_another_name(request: Any) -> None:
    request.inputs["x"].CopyFrom(request.inputs[INPUT])
    del request.inputs[INPUT]


def of_integers(request: Any) -> None:
    request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(array.astype(np.int32)))


def of_another_shape(request: Any) -> None:
    request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(array[:, :, :100]))


def with_an_unknown_output(request: Any) -> None:
    request.output_filter.append("x")


def with_an_output_twice(request: Any) -> None:
    request.output_filter.extend([SCORES, SCORES])


def of_another_model(request: Any) -> None:
    request.model_spec.name = "other"


def of_another_version(request: Any) -> None:
    request.model_spec.name = "net"
    request.model_spec.version.value = 9


def by_a_label(request: Any) -> None:
    request.model_spec.name = "net"
    request.model_spec.version_label = "canary"


def of_another_signature(request: Any) -> None:
    request.model_spec.signature_name = "regress"


CHANGES = (
    without_input,
    with_two_inputs,
    by_another_name,
    of_integers,
    of_another_shape,
    with_an_unknown_output,
    with_an_output_twice,
    of_another_model,
    of_another_version,
    by_a_label,
    of_another_signature,
)


def told(change: Callable[[Any], None]) -> dict[str, Any]:
    request = floats(tf.make_tensor_proto(array))
    change(request)
    return outcome(lambda: answered(net.Predict(request, TIMEOUT)))


@case
def refusals() -> Any:
    return {change.__name__: told(change) for change in CHANGES}


# -- what a model is


def metadata(stub: Any, name: str, *fields: str) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return stub.GetModelMetadata(request, TIMEOUT)


def signatures(response: Any) -> dict[str, Any]:
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    described = {}
    for name, signature in found.signature_def.items():
        sides = {"inputs": signature.inputs, "outputs": signature.outputs}
        described[name] = {"method": signature.method_name} | {
            side: {
                key: [info.name, info.dtype, [dim.size for dim in info.tensor_shape.dim]]
                for key, info in infos.items()
            }
            for side, infos in sides.items()
        }
    spec = response.model_spec
    return {
        "spec": [spec.name, spec.version.value, spec.signature_name],
        "fields": sorted(response.metadata),
        "signatures": described,
    }


@case
def metadata_of_the_net() -> Any:
    return signatures(metadata(net, "net", "signature_def"))


@case
def metadata_of_the_surface_model() -> Any:
    return signatures(metadata(surface, "surface", "signature_def"))


@case
def metadata_without_a_name() -> Any:
    return signatures(metadata(net, "", "signature_def"))


@case
def metadata_without_a_field() -> Any:
    return signatures(metadata(net, "net"))


@case
def metadata_of_another_field() -> Any:
    return signatures(metadata(net, "net", "weights"))


@case
def metadata_of_another_model() -> Any:
    return signatures(metadata(net, "other", "signature_def"))


def status(name: str, version: int | None = None) -> Any:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    response = models.GetModelStatus(request, TIMEOUT)
    return [
        [each.version, each.state, each.status.error_code, each.status.error_message]
        for each in response.model_version_status
    ]


@case
def status_of_the_net() -> Any:
    return status("net")


@case
def status_of_its_version() -> Any:
    return status("net", 3)


@case
def status_of_another_version() -> Any:
    return status("net", 9)


@case
def status_of_another_model() -> Any:
    return status("other")


if __name__ == "__main__":
    main()
