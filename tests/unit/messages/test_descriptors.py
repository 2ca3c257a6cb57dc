"""The wire is upstream's, descriptors.bin is current, TensorFlow may live in the same process."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.message import Message

import edged.messages
from edged import messages

ROOT = Path(__file__).resolve().parents[3]
STUB = Path(edged.messages.__file__).with_name("__init__.pyi")


def test_descriptor_set_is_made_from_the_protos_beside_it() -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools is not installed: cannot compare descriptors.bin with protos/")
    command = [sys.executable, str(ROOT / "protos" / "generate"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_request_has_upstreams_bytes() -> None:
    request = messages.PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.version.value = 7
    request.model_spec.signature_name = "s"
    tensor = request.inputs["x"]
    tensor.dtype = messages.DataType.DT_FLOAT
    tensor.tensor_shape.dim.add(size=1)
    tensor.float_val.append(1.0)
    request.output_filter.append("y")
    # Written down from the field numbers of TensorFlow Serving's predict.proto, model.proto and
    # TensorFlow's tensor.proto: tag = number * 8 + wire type.
    spec = b"\x0a\x01m" + b"\x12\x02\x08\x07" + b"\x1a\x01s"
    shape = b"\x12\x02\x08\x01"
    value = b"\x08\x01" + b"\x12" + bytes([len(shape)]) + shape + b"\x2a\x04\x00\x00\x80\x3f"
    entry = b"\x0a\x01x" + b"\x12" + bytes([len(value)]) + value
    expected = b"\x0a" + bytes([len(spec)]) + spec
    expected += b"\x12" + bytes([len(entry)]) + entry + b"\x1a\x01y"
    assert request.SerializeToString(deterministic=True) == expected


def field(number: int, value: bytes) -> bytes:
    """Returns a length-delimited field of fewer than 128 bytes."""
    return bytes([number * 8 + 2, len(value)]) + value


def test_what_is_said_about_a_model_has_upstreams_bytes() -> None:
    known = messages.SignatureDefMap()
    signature = known.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    signature.inputs["x"].name = "x:0"
    signature.inputs["x"].dtype = messages.DataType.DT_FLOAT
    signature.inputs["x"].tensor_shape.dim.add(size=2)
    # TensorInfo: name 1, dtype 2, tensor_shape 3; SignatureDef: inputs 1, method_name 3.
    info = field(1, b"x:0") + b"\x10\x01" + field(3, b"\x12\x02\x08\x02")
    inputs = field(1, field(1, b"x") + field(2, info))
    entry = inputs + field(3, b"tensorflow/serving/predict")
    expected = field(1, field(1, b"serving_default") + field(2, entry))
    assert known.SerializeToString(deterministic=True) == expected

    reply = messages.GetModelMetadataResponse()
    reply.model_spec.name = "m"
    reply.metadata["signature_def"].Pack(messages.SignatureDefMap())
    packed = field(1, b"type.googleapis.com/tensorflow.serving.SignatureDefMap")
    assert reply.SerializeToString(deterministic=True) == (
        field(1, b"\x0a\x01m") + field(2, field(1, b"signature_def") + field(2, packed))
    )


def test_a_versions_status_has_upstreams_bytes() -> None:
    status = messages.StatusProto(error_code=messages.ErrorCode.UNAVAILABLE, error_message="e")
    version = messages.ModelVersionStatus(version=7, state=messages.VersionState.END, status=status)
    reply = messages.GetModelStatusResponse(model_version_status=[version])
    expected = b"\x08\x07\x10\x32" + field(3, b"\x08\x0e" + field(2, b"e"))
    assert reply.SerializeToString() == field(1, expected)


def test_fields_of_newer_peers_are_kept() -> None:
    unknown = b"\xba\x3e\x01z"  # field 999
    assert messages.PredictRequest.FromString(unknown).SerializeToString() == unknown


def stub_fields() -> dict[str, set[str]]:
    """Returns the annotated names and properties of each class in the type stub."""
    classes = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names = set()
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    names.add(item.target.id)
                if isinstance(item, ast.FunctionDef) and item.decorator_list:
                    names.add(item.name)
                if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
                    names.add(item.targets[0].id)
            classes[node.name] = names
    return classes


def test_type_stub_has_the_fields_that_the_messages_have() -> None:
    for name, fields in stub_fields().items():
        cls = getattr(messages, name)
        if issubclass(cls, Message):
            assert fields == set(cls.DESCRIPTOR.fields_by_name), name
        else:
            assert fields == set(cls.__members__), name


RIVAL = """
from google.protobuf import descriptor_pb2, descriptor_pool
def rival():
    # What importing tensorflow does: another file that defines tensorflow.TensorProto.
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow/core/framework/tensor.proto", package="tensorflow", syntax="proto3")
    file.message_type.add(name="TensorProto").field.add(
        name="other", number=99, type=5, label=1)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
def ours():
    from edged import messages
    assert messages.TensorProto(version_number=3).version_number == 3
"""


@pytest.mark.parametrize("order", ["rival(); ours()", "ours(); rival()"])
def test_a_process_may_define_the_same_names_in_the_default_pool(order: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", RIVAL + order], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
