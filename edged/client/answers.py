"""What the client returns: answers as arrays and plain values, messages no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from edged import messages
from edged.errors import RequestError
from edged.messages.arrays import NUMBERS, to_array

Array: TypeAlias = npt.NDArray[Any]
Outputs: TypeAlias = dict[str, "Array | list[bytes]"]

SIGNATURE = "serving_default"
TYPES = {int(number): name for number, (name, _) in NUMBERS.items()} | {
    int(messages.DataType.DT_STRING): "string"
}


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
        attempts: how often the question was asked; more than once if the server was busy or away.
    """

    outputs: Outputs
    model: str = ""
    version: int | None = None
    top: tuple[Class, ...] = ()
    times_us: dict[str, int] = field(default_factory=dict)
    queued_us: int = 0
    parked_us: int = 0
    total_us: int = 0
    digest: str = ""
    request_id: str = ""
    attempts: int = 1

    @property
    def label(self) -> str:
        """The label of the best class; empty if it has none."""
        return self.top[0].label if self.top else ""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a model.

    Attributes:
        name: of the tensor in the graph.
        type: NumPy's name; ``string`` for bytes, such as pictures.
        shape: -1 where any size goes; None if the rank is not known.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class ModelMetadata:
    """What a model takes and gives, by the names that requests and answers have."""

    model: str
    version: int | None
    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


@dataclass(frozen=True)
class VersionStatus:
    """Whether one version of a model can be asked.

    Attributes:
        version: the version.
        state: START, LOADING, AVAILABLE, UNLOADING, END or UNKNOWN.
        error: why it could not be loaded; empty if it could.
        code: of the error, as gRPC names it; OK without one.
    """

    version: int
    state: str
    error: str = ""
    code: str = "OK"


def prediction(
    answer: messages.PredictResponse,
    metadata: Mapping[str, str | bytes],
    total_us: int,
    attempts: int,
) -> Prediction:
    """Returns an answer.

    Args:
        answer: the server's message.
        metadata: that came with it.
        total_us: microseconds the call took.
        attempts: how often it was tried.

    Raises:
        RequestError: INTERNAL, for an answer that makes no sense.
    """
    try:
        return _prediction(answer, metadata, total_us, attempts)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise RequestError("INTERNAL", f"cannot read the answer's metadata: {exc!r}") from exc


def _prediction(
    answer: messages.PredictResponse,
    metadata: Mapping[str, str | bytes],
    total_us: int,
    attempts: int,
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
        attempts=attempts,
        digest=said.get("edged-model-digest", ""),
        request_id=said.get("edged-request-id", ""),
    )


def only(outputs: Outputs) -> Array | Outputs:
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


def metadata(answer: messages.GetModelMetadataResponse) -> ModelMetadata:
    """Returns what a server says of a model.

    Raises:
        RequestError: INTERNAL, for an answer that makes no sense.
    """
    known = messages.SignatureDefMap()
    try:
        told = answer.metadata["signature_def"].Unpack(known)
    except DecodeError:
        told = False
    if not told or SIGNATURE not in known.signature_def:
        raise RequestError("INTERNAL", f"cannot read the answer: it has no signature {SIGNATURE!r}")
    signature, spec = known.signature_def[SIGNATURE], answer.model_spec
    return ModelMetadata(
        spec.name,
        spec.version.value if spec.HasField("version") else None,
        {name: _info(info) for name, info in sorted(signature.inputs.items())},
        {name: _info(info) for name, info in sorted(signature.outputs.items())},
    )


def _info(info: messages.TensorInfo) -> TensorInfo:
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
    return TensorInfo(info.name, TYPES.get(info.dtype, f"number {info.dtype}"), sizes)


def version_status(status: messages.ModelVersionStatus) -> VersionStatus:
    """Returns what a server says of one version."""
    return VersionStatus(
        status.version,
        _name(messages.VersionState, status.state),
        status.status.error_message,
        _name(messages.ErrorCode, status.status.error_code),
    )


def _name(kind: type[IntEnum], number: int) -> str:
    try:
        return kind(number).name
    except ValueError:
        return "UNKNOWN"
