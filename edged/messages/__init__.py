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

ModelSpec = _pool.message(_messages, "tensorflow.serving.ModelSpec")
PredictRequest = _pool.message(_messages, "tensorflow.serving.PredictRequest")
PredictResponse = _pool.message(_messages, "tensorflow.serving.PredictResponse")

HealthCheckRequest = _pool.message(_messages, "grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = _pool.message(_messages, "grpc.health.v1.HealthCheckResponse")
ServingStatus = _pool.enumeration(_messages, "grpc.health.v1.HealthCheckResponse.ServingStatus")

DeployRequest = _pool.message(_messages, "edged.control.v1.DeployRequest")
DeployEvent = _pool.message(_messages, "edged.control.v1.DeployEvent")
Outcome = _pool.enumeration(_messages, "edged.control.v1.DeployEvent.Outcome")
UndeployRequest = _pool.message(_messages, "edged.control.v1.UndeployRequest")
UndeployReply = _pool.message(_messages, "edged.control.v1.UndeployReply")
StatusRequest = _pool.message(_messages, "edged.control.v1.StatusRequest")
StatusReply = _pool.message(_messages, "edged.control.v1.StatusReply")
Model = _pool.message(_messages, "edged.control.v1.Model")
Counters = _pool.message(_messages, "edged.control.v1.Counters")
