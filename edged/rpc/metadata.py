"""``tensorflow.serving.PredictionService/GetModelMetadata``: what the model takes and gives.

The signature is that of the model's manifest, under the key ``serving_default``. An input has one
key, its name, since it must be sent once; an output has its name and each alias, since all of them
are in an answer and may be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from edged.errors import RequestError
from edged.manifest import Signature, TensorSpec
from edged.messages import (
    DataType,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    ModelSpec,
    SignatureDef,
    SignatureDefMap,
    TensorInfo,
    spec,
)
from edged.rpc import predict
from edged.rpc.interceptors import Context
from edged.rpc.methods import unary_unary
from edged.rpc.models import Model, Models

FIELD = "signature_def"
SIGNATURE = "serving_default"
METHOD = "tensorflow/serving/predict"
# By NumPy's name, as the manifest has it.
TYPES = {
    "float32": DataType.DT_FLOAT,
    "float16": DataType.DT_HALF,
    "float64": DataType.DT_DOUBLE,
    **{name: DataType[f"DT_{name.upper()}"] for name in ("string", "bool")},
    **{f"int{bits}": DataType[f"DT_INT{bits}"] for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": DataType[f"DT_UINT{bits}"] for bits in (8, 16, 32, 64)},
}


def handlers(models: Models, *, strict: bool = False) -> grpc.GenericRpcHandler:
    """Returns the method.

    Args:
        models: that are asked about.
        strict: refuse requests without a model's name, as TensorFlow Serving does.
    """

    async def get(request: GetModelMetadataRequest, _context: Context) -> GetModelMetadataResponse:
        asked = request.model_spec if request.HasField("model_spec") else None
        spec.check_form(asked, strict=strict)
        _check_fields(request.metadata_field)
        model = models.model()
        if model is None:
            raise RequestError(
                "NOT_FOUND",
                f"Servable not found for request: Latest({spec.cut(request.model_spec.name)}); "
                "no model is deployed; use 'edged deploy REF'",
            )
        spec.check(asked, model.name, model.version, strict=strict)
        return _response(model)

    methods = {"GetModelMetadata": unary_unary(GetModelMetadataRequest, get)}
    return grpc.method_handlers_generic_handler(predict.SERVICE, methods)


def _check_fields(fields: Sequence[str]) -> None:
    if not fields:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"GetModelMetadataRequest must specify at least one metadata_field; expected {FIELD!r}",
        )
    for field in fields:
        if field != FIELD:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Metadata field {spec.cut(field)} is not supported; expected {FIELD!r}",
            )


def _response(model: Model) -> GetModelMetadataResponse:
    if model.signature is None:
        raise RequestError("INTERNAL", "cannot read the model's manifest; see the device's log")
    response = GetModelMetadataResponse(model_spec=ModelSpec(name=model.name))
    version = spec.number(model.version)
    if version is not None:
        response.model_spec.version.value = version
    known = SignatureDefMap(signature_def={SIGNATURE: _definition(model.signature)})
    response.metadata[FIELD].Pack(known)
    return response


def _definition(signature: Signature) -> SignatureDef:
    return SignatureDef(
        inputs={each.name: _info(each) for each in signature.inputs},
        outputs={name: _info(each) for each in signature.outputs for name in each.names},
        method_name=METHOD,
    )


def _info(tensor: TensorSpec) -> TensorInfo:
    info = TensorInfo(name=tensor.name, dtype=TYPES[tensor.type])
    for size in tensor.shape:
        info.tensor_shape.dim.add(size=size)
    info.tensor_shape.SetInParent()  # a scalar has a shape too
    return info
