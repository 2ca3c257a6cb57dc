"""``tensorflow.serving.ModelService/GetModelStatus``: whether the model can be asked.

The state is the daemon's one state in TensorFlow Serving's words: AVAILABLE also during a swap,
when requests wait for the next model; LOADING while the model's process is started; END, with an
error, when that failed too often. There is one version: of the model in service.
"""

from __future__ import annotations

import grpc

from edged.errors import RequestError
from edged.messages import (
    ErrorCode,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    ModelVersionStatus,
    StatusProto,
    VersionState,
    spec,
)
from edged.rpc.interceptors import Context
from edged.rpc.methods import unary_unary
from edged.rpc.models import Model, Models

SERVICE = "tensorflow.serving.ModelService"
STATES = {
    "serving": VersionState.AVAILABLE,
    "swapping": VersionState.AVAILABLE,
    "starting": VersionState.LOADING,
    "not_serving": VersionState.END,
}


def handlers(models: Models, *, strict: bool = False) -> grpc.GenericRpcHandler:
    """Returns the service.

    Args:
        models: that are asked about.
        strict: refuse requests without a model's name, as TensorFlow Serving does.
    """

    async def get(request: GetModelStatusRequest, _context: Context) -> GetModelStatusResponse:
        asked = request.model_spec if request.HasField("model_spec") else None
        spec.check_form(asked, strict=strict)
        model = models.model()
        if model is None:
            name = spec.cut(request.model_spec.name)
            raise RequestError(
                "NOT_FOUND",
                f"Could not find any versions of model {name}; no model is deployed; "
                "use 'edged deploy REF'",
            )
        if asked is not None:
            _check(asked, model)
        return GetModelStatusResponse(model_version_status=[_version(model)])

    methods = {"GetModelStatus": unary_unary(GetModelStatusRequest, get)}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _check(asked: ModelSpec, model: Model) -> None:
    """Raises if another model is asked about, or another version."""
    if not spec.other(asked, model.name, model.version):
        return
    if asked.WhichOneof("version_choice") == "version":
        what = f"version {asked.version.value} of model {spec.cut(asked.name or model.name)}"
    else:
        what = f"any versions of model {spec.cut(asked.name)}"
    raise RequestError(
        "NOT_FOUND",
        f"Could not find {what}; expected model {model.name!r}, version {model.version!r}",
    )


def _version(model: Model) -> ModelVersionStatus:
    state = STATES[model.state]
    failed = state is VersionState.END
    status = StatusProto(
        error_code=ErrorCode.UNAVAILABLE if failed else ErrorCode.OK,
        error_message=model.reason if failed else "",
    )
    return ModelVersionStatus(version=spec.number(model.version) or 0, state=state, status=status)
