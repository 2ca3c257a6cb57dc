"""TensorFlow Serving's errors, row by row, from a real daemon with the demo's model.

Each row is tried on a daemon that is lenient, as is the default, and on one with ``--strict``. What
must hold of every row: the code and the beginning of the message are TensorFlow Serving's, and the
next request is answered.

Of TensorFlow Serving's own errors one cannot come about here, "Model labels does not init yet.":
versions have no labels, which is known from the start.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from edged import messages
from edged.messages import (
    DataType,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelSpec,
    PredictRequest,
)
from edged.messages.calls import request_error
from tests.e2e import hostile
from tests.e2e.device import CALL_LIMIT, Device, raw

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
MODES = ("lenient", "strict")
OUTPUTS = "{output_alias,probabilities}"
INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        case: what is wrong.
        method: that is called.
        request: that has it wrong.
        code: name of the status; in ``strict`` mode only, where ``lenient`` is set.
        stem: what the message begins with.
        says: what else is in it: expected and got.
        lenient: the request is answered by a daemon that is not strict.
    """

    case: str
    method: str
    request: Message
    code: str
    stem: str
    says: tuple[str, ...] = ()
    lenient: bool = False


def spec(
    name: str = "surface", version: int | None = None, label: str = "", signature: str = ""
) -> ModelSpec:
    made = ModelSpec(name=name, signature_name=signature)
    if version is not None:
        made.version.value = version
    if label:
        made.version_label = label
    return made


def predict(
    named: ModelSpec | None, *outputs: str, inputs: dict[str, Any] | None = None
) -> PredictRequest:
    """A request; inputs are fields of a tensor by name, one good picture if None."""
    made = PredictRequest(output_filter=outputs)
    if named is not None:
        made.model_spec.CopyFrom(named)
        made.model_spec.SetInParent()
    for name, fields in ({"images": {}} if inputs is None else inputs).items():
        given = {"dtype": DataType.DT_STRING, "string_val": [hostile.GOOD], "shape": [1], **fields}
        shape = given.pop("shape")
        made.inputs[name].CopyFrom(messages.TensorProto(**given))
        for size in shape:
            made.inputs[name].tensor_shape.dim.add(size=size)
    return made


def metadata(named: ModelSpec | None, *fields: str) -> GetModelMetadataRequest:
    made = GetModelMetadataRequest(metadata_field=fields)
    if named is not None:
        made.model_spec.CopyFrom(named)
        made.model_spec.SetInParent()
    return made


def status(named: ModelSpec | None) -> GetModelStatusRequest:
    made = GetModelStatusRequest()
    if named is not None:
        made.model_spec.CopyFrom(named)
        made.model_spec.SetInParent()
    return made


FLOAT = {"dtype": DataType.DT_FLOAT, "string_val": [], "float_val": [1.0]}
NOT_IN_SIGNATURE = "output tensor alias not found in signature: "
LATEST, SPECIFIC = (
    "Servable not found for request: Latest(",
    "Servable not found for request: Specific(",
)

TABLE = [
    # -- the model
    Row("no model_spec", PREDICT, predict(None), INVALID, "Missing ModelSpec", lenient=True),
    Row(
        "empty name",
        PREDICT,
        predict(spec("")),
        INVALID,
        "ModelSpec has no name specified.",
        lenient=True,
    ),
    Row(
        "unknown model", PREDICT, predict(spec("other")), NOT_FOUND, LATEST + "other)", ("surface",)
    ),
    Row(
        "unknown version",
        PREDICT,
        predict(spec(version=9)),
        NOT_FOUND,
        SPECIFIC + "surface, 9)",
        ("version '1'",),
    ),
    Row(
        "version of another model",
        PREDICT,
        predict(spec("other", 1)),
        NOT_FOUND,
        SPECIFIC + "other, 1)",
    ),
    Row(
        "unknown label",
        PREDICT,
        predict(spec(label="canary")),
        INVALID,
        "Unrecognized servable version label: canary",
    ),
    Row(
        "unknown signature",
        PREDICT,
        predict(spec(signature="regress")),
        "FAILED_PRECONDITION",
        'Serving signature key "regress" not found.',
        ("serving_default",),
    ),
    # -- inputs
    Row(
        "too many inputs",
        PREDICT,
        predict(spec(), inputs={"images": {}, "more": {}}),
        INVALID,
        "input size does not match signature: 2!=1 len({images,more}) != len({images}). "
        "Sent extra: {more}. Missing but required: {}.",
    ),
    Row(
        "no inputs",
        PREDICT,
        predict(spec(), inputs={}),
        INVALID,
        "input size does not match signature: 0!=1 len({}) != len({images}). "
        "Sent extra: {}. Missing but required: {images}.",
    ),
    Row(
        "right count, wrong name",
        PREDICT,
        predict(spec(), inputs={"pictures": {}}),
        INVALID,
        "Signature input alias: images(feed name: images:0) not found in request and no default "
        "value provided.",
        ("{pictures}", "Inputs expected to be in the set {Placeholder:0,images}"),
    ),
    Row(
        "unparsable tensor",
        PREDICT,
        predict(spec(), inputs={"images": {"shape": [3]}}),
        INVALID,
        "tensor parsing error: images",
        ("1 strings", "expected 3"),
    ),
    Row(
        "strings as raw bytes",
        PREDICT,
        predict(spec(), inputs={"images": {"string_val": [], "tensor_content": b"x"}}),
        INVALID,
        "tensor parsing error: images",
    ),
    Row(
        "wrong type",
        PREDICT,
        predict(spec(), inputs={"images": FLOAT}),
        INVALID,
        "input 'images' is of type DT_FLOAT, expected DT_STRING",
    ),
    Row(
        "wrong shape",
        PREDICT,
        predict(spec(), inputs={"images": {"shape": [1, 1]}}),
        INVALID,
        "input 'images' has shape [1, 1], expected [-1]",
    ),
    # -- outputs
    Row(
        "unknown output",
        PREDICT,
        predict(spec(), "nope"),
        INVALID,
        NOT_IN_SIGNATURE + f"nope Outputs expected to be in the set {OUTPUTS}.",
    ),
    Row(
        "empty output",
        PREDICT,
        predict(spec(), ""),
        INVALID,
        NOT_IN_SIGNATURE + f" Outputs expected to be in the set {OUTPUTS}.",
    ),
    Row(
        "output twice",
        PREDICT,
        predict(spec(), "probabilities", "probabilities"),
        INVALID,
        "duplicate output tensor alias: probabilities",
    ),
    # -- GetModelStatus
    Row("status: no model_spec", STATUS, status(None), INVALID, "Missing ModelSpec", lenient=True),
    Row(
        "status: empty name",
        STATUS,
        status(spec("")),
        INVALID,
        "ModelSpec has no name specified.",
        lenient=True,
    ),
    Row(
        "status: unknown model",
        STATUS,
        status(spec("other")),
        NOT_FOUND,
        "Could not find any versions of model other",
        ("surface",),
    ),
    Row(
        "status: unknown version",
        STATUS,
        status(spec(version=9)),
        NOT_FOUND,
        "Could not find version 9 of model surface",
        ("version '1'",),
    ),
    # -- GetModelMetadata
    Row(
        "metadata: no model_spec",
        METADATA,
        metadata(None, "signature_def"),
        INVALID,
        "Missing ModelSpec",
        lenient=True,
    ),
    Row(
        "metadata: empty name",
        METADATA,
        metadata(spec(""), "signature_def"),
        INVALID,
        "ModelSpec has no name specified.",
        lenient=True,
    ),
    Row(
        "metadata: no field",
        METADATA,
        metadata(spec()),
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    Row(
        "metadata: other field",
        METADATA,
        metadata(spec(), "weights"),
        INVALID,
        "Metadata field weights is not supported",
        ("signature_def",),
    ),
    Row(
        "metadata: unknown model",
        METADATA,
        metadata(spec("other"), "signature_def"),
        NOT_FOUND,
        LATEST + "other)",
    ),
    Row(
        "metadata: unknown version",
        METADATA,
        metadata(spec(version=9), "signature_def"),
        NOT_FOUND,
        SPECIFIC + "surface, 9)",
    ),
    Row(
        "metadata: unknown label",
        METADATA,
        metadata(spec(label="canary"), "signature_def"),
        INVALID,
        "Unrecognized servable version label: canary",
    ),
]

# What TensorFlow Serving says when the model is there in its configuration and not loaded; here,
# when none is deployed.
NO_MODEL = [
    Row("predict", PREDICT, predict(spec()), NOT_FOUND, "Servable not found for request: "),
    Row(
        "metadata",
        METADATA,
        metadata(spec(), "signature_def"),
        NOT_FOUND,
        LATEST + "surface)",
        ("edged deploy",),
    ),
    Row(
        "status",
        STATUS,
        status(spec()),
        NOT_FOUND,
        "Could not find any versions of model surface",
        ("edged deploy",),
    ),
]


class Daemon:
    """A daemon in one mode, and a connection to it."""

    def __init__(self, device: Device, *, strict: bool) -> None:
        self.device = device
        self.strict = strict
        self._channel = grpc.insecure_channel(device.address)

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, request: Message) -> tuple[str, str]:
        """Returns the status and the message that a request is answered with."""
        try:
            raw(self._channel, method)(request.SerializeToString(), timeout=CALL_LIMIT)
        except grpc.RpcError as exc:
            error = request_error(exc, "device", "no daemon")
            return error.code, str(error)
        return "OK", ""

    def holds(self, row: Row) -> None:
        """Asserts what the row says."""
        code, text = self.call(row.method, row.request)
        if row.lenient and not self.strict:
            assert (code, text) == ("OK", "")
            return
        assert code == row.code, text
        assert text.startswith(row.stem), text
        for each in row.says:
            assert each in text


@pytest.fixture(scope="module", params=MODES)
def daemon(request: pytest.FixtureRequest, surface_image: str) -> Iterator[Daemon]:
    """A daemon with the demo's model."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))  # short, for the sockets in it
    device = Device(folder, "edged")
    strict = request.param == "strict"
    try:
        device.start(*(["--strict"] if strict else []))
        assert device.deploy(surface_image)[-1].state == "committed"
        daemon = Daemon(device, strict=strict)
        yield daemon
        daemon.close()
    finally:
        device.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.case)
def test_every_row_has_its_code_and_its_words(daemon: Daemon, row: Row) -> None:
    daemon.holds(row)
    assert daemon.call(PREDICT, predict(spec())) == ("OK", "")


@pytest.mark.parametrize("named", [spec(), spec(version=1), spec(signature="serving_default")])
def test_what_names_the_model_is_answered_in_either_mode(daemon: Daemon, named: ModelSpec) -> None:
    for method, request in (
        (PREDICT, predict(named)),
        (STATUS, status(named)),
        (METADATA, metadata(named, "signature_def", "signature_def")),
    ):
        assert daemon.call(method, request) == ("OK", "")


@pytest.mark.parametrize(
    "method",
    [
        *(f"/tensorflow.serving.PredictionService/{name}" for name in ("Classify", "Regress")),
        "/tensorflow.serving.PredictionService/MultiInference",
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    ],
)
def test_the_services_other_methods_are_not_implemented(daemon: Daemon, method: str) -> None:
    assert daemon.call(method, PredictRequest())[0] == "UNIMPLEMENTED"


def test_the_state_of_the_model_is_said_in_one_voice(daemon: Daemon) -> None:
    with daemon.device.client() as client:
        (version,) = client.status("surface")
        assert (version.version, version.state, version.error) == (1, "AVAILABLE", "")
        known = client.metadata("surface")
        assert (known.model, known.version) == ("surface", 1)
        assert known.inputs["images"].type == "string"
        assert set(known.outputs) == {"probabilities", "output_alias"}
        assert known.outputs["probabilities"].shape == (-1, 5)


@pytest.mark.parametrize("row", NO_MODEL, ids=lambda row: row.case)
def test_a_model_that_is_not_there_is_not_found(short_folder: Path, row: Row) -> None:
    device = Device(short_folder, "edged")
    try:
        device.start()
        daemon = Daemon(device, strict=False)
        daemon.holds(row)
        daemon.close()
    finally:
        device.close()
