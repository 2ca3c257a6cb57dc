"""What edged says to applications and operators: protobuf messages with upstream's wire format.

The types a checker sees are in ``__init__.pyi``; ``pool`` makes the classes, ``link`` holds the
frames between daemon and worker.
"""

from __future__ import annotations

from edged.messages import pool as _pool

_messages = _pool.load()

DataType = _pool.enumeration(_messages, "tensorflow.DataType")
TensorProto = _pool.message(_messages, "tensorflow.TensorProto")
TensorShapeProto = _pool.message(_messages, "tensorflow.TensorShapeProto")

TensorInfo = _pool.message(_messages, "tensorflow.TensorInfo")
SignatureDef = _pool.message(_messages, "tensorflow.SignatureDef")
ErrorCode = _pool.enumeration(_messages, "tensorflow.error.Code")

ModelSpec = _pool.message(_messages, "tensorflow.serving.ModelSpec")
PredictRequest = _pool.message(_messages, "tensorflow.serving.PredictRequest")
PredictResponse = _pool.message(_messages, "tensorflow.serving.PredictResponse")
SignatureDefMap = _pool.message(_messages, "tensorflow.serving.SignatureDefMap")
GetModelMetadataRequest = _pool.message(_messages, "tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _pool.message(_messages, "tensorflow.serving.GetModelMetadataResponse")
StatusProto = _pool.message(_messages, "tensorflow.serving.StatusProto")
ModelVersionStatus = _pool.message(_messages, "tensorflow.serving.ModelVersionStatus")
VersionState = _pool.enumeration(_messages, "tensorflow.serving.ModelVersionStatus.State")
GetModelStatusRequest = _pool.message(_messages, "tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _pool.message(_messages, "tensorflow.serving.GetModelStatusResponse")

HealthCheckRequest = _pool.message(_messages, "grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = _pool.message(_messages, "grpc.health.v1.HealthCheckResponse")
HealthListRequest = _pool.message(_messages, "grpc.health.v1.HealthListRequest")
HealthListResponse = _pool.message(_messages, "grpc.health.v1.HealthListResponse")
ServingStatus = _pool.enumeration(_messages, "grpc.health.v1.HealthCheckResponse.ServingStatus")

RpcStatus = _pool.message(_messages, "google.rpc.Status")
RetryInfo = _pool.message(_messages, "google.rpc.RetryInfo")

DeployRequest = _pool.message(_messages, "edged.control.v1.DeployRequest")
DeployEvent = _pool.message(_messages, "edged.control.v1.DeployEvent")
Outcome = _pool.enumeration(_messages, "edged.control.v1.DeployEvent.Outcome")
RollbackRequest = _pool.message(_messages, "edged.control.v1.RollbackRequest")
UndeployRequest = _pool.message(_messages, "edged.control.v1.UndeployRequest")
UndeployReply = _pool.message(_messages, "edged.control.v1.UndeployReply")
StatusRequest = _pool.message(_messages, "edged.control.v1.StatusRequest")
StatusReply = _pool.message(_messages, "edged.control.v1.StatusReply")
Link = _pool.message(_messages, "edged.control.v1.Link")
Model = _pool.message(_messages, "edged.control.v1.Model")
Counters = _pool.message(_messages, "edged.control.v1.Counters")
Held = _pool.message(_messages, "edged.control.v1.Held")
HoldRequest = _pool.message(_messages, "edged.control.v1.HoldRequest")
HoldReply = _pool.message(_messages, "edged.control.v1.HoldReply")
ReleaseRequest = _pool.message(_messages, "edged.control.v1.ReleaseRequest")
HistoryRequest = _pool.message(_messages, "edged.control.v1.HistoryRequest")
HistoryReply = _pool.message(_messages, "edged.control.v1.HistoryReply")
Record = _pool.message(_messages, "edged.control.v1.Record")
SelfTestRequest = _pool.message(_messages, "edged.control.v1.SelfTestRequest")
SelfTestReply = _pool.message(_messages, "edged.control.v1.SelfTestReply")
QuarantineRequest = _pool.message(_messages, "edged.control.v1.QuarantineRequest")
QuarantineReply = _pool.message(_messages, "edged.control.v1.QuarantineReply")
Quarantined = _pool.message(_messages, "edged.control.v1.Quarantined")
