"""Types of the messages in protos/; a test compares the names and fields with descriptors.bin."""

from collections.abc import Iterable, Mapping, MutableMapping
from enum import IntEnum
from typing import Literal

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.containers import (
    MessageMap,
    RepeatedCompositeFieldContainer,
    RepeatedScalarFieldContainer,
)
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int64Value

class DataType(IntEnum):
    DT_INVALID = 0
    DT_FLOAT = 1
    DT_DOUBLE = 2
    DT_INT32 = 3
    DT_UINT8 = 4
    DT_INT16 = 5
    DT_INT8 = 6
    DT_STRING = 7
    DT_COMPLEX64 = 8
    DT_INT64 = 9
    DT_BOOL = 10
    DT_QINT8 = 11
    DT_QUINT8 = 12
    DT_QINT32 = 13
    DT_BFLOAT16 = 14
    DT_QINT16 = 15
    DT_QUINT16 = 16
    DT_UINT16 = 17
    DT_COMPLEX128 = 18
    DT_HALF = 19
    DT_RESOURCE = 20
    DT_VARIANT = 21
    DT_UINT32 = 22
    DT_UINT64 = 23

class TensorShapeProto(Message):
    class Dim(Message):
        size: int
        name: str
        def __init__(self, *, size: int = ..., name: str = ...) -> None: ...

    unknown_rank: bool
    @property
    def dim(self) -> RepeatedCompositeFieldContainer[TensorShapeProto.Dim]: ...
    def __init__(
        self, *, dim: Iterable[TensorShapeProto.Dim] = ..., unknown_rank: bool = ...
    ) -> None: ...

class TensorProto(Message):
    # The type is an int: a peer may send a number that DataType does not have.
    dtype: int
    version_number: int
    tensor_content: bytes
    @property
    def tensor_shape(self) -> TensorShapeProto: ...
    @property
    def float_val(self) -> RepeatedScalarFieldContainer[float]: ...
    @property
    def double_val(self) -> RepeatedScalarFieldContainer[float]: ...
    @property
    def int_val(self) -> RepeatedScalarFieldContainer[int]: ...
    @property
    def string_val(self) -> RepeatedScalarFieldContainer[bytes]: ...
    @property
    def scomplex_val(self) -> RepeatedScalarFieldContainer[float]: ...
    @property
    def int64_val(self) -> RepeatedScalarFieldContainer[int]: ...
    @property
    def bool_val(self) -> RepeatedScalarFieldContainer[bool]: ...
    @property
    def dcomplex_val(self) -> RepeatedScalarFieldContainer[float]: ...
    @property
    def half_val(self) -> RepeatedScalarFieldContainer[int]: ...
    @property
    def uint32_val(self) -> RepeatedScalarFieldContainer[int]: ...
    @property
    def uint64_val(self) -> RepeatedScalarFieldContainer[int]: ...
    def __init__(
        self,
        *,
        dtype: int = ...,
        tensor_shape: TensorShapeProto = ...,
        version_number: int = ...,
        tensor_content: bytes = ...,
        float_val: Iterable[float] = ...,
        double_val: Iterable[float] = ...,
        int_val: Iterable[int] = ...,
        string_val: Iterable[bytes] = ...,
        scomplex_val: Iterable[float] = ...,
        int64_val: Iterable[int] = ...,
        bool_val: Iterable[bool] = ...,
        dcomplex_val: Iterable[float] = ...,
        half_val: Iterable[int] = ...,
        uint32_val: Iterable[int] = ...,
        uint64_val: Iterable[int] = ...,
    ) -> None: ...

class TensorInfo(Message):
    name: str
    dtype: int
    @property
    def tensor_shape(self) -> TensorShapeProto: ...
    def __init__(
        self, *, name: str = ..., dtype: int = ..., tensor_shape: TensorShapeProto = ...
    ) -> None: ...

class SignatureDef(Message):
    method_name: str
    @property
    def inputs(self) -> MessageMap[str, TensorInfo]: ...
    @property
    def outputs(self) -> MessageMap[str, TensorInfo]: ...
    @property
    def defaults(self) -> MessageMap[str, TensorProto]: ...
    def __init__(
        self,
        *,
        inputs: Mapping[str, TensorInfo] = ...,
        outputs: Mapping[str, TensorInfo] = ...,
        method_name: str = ...,
        defaults: Mapping[str, TensorProto] = ...,
    ) -> None: ...

class ErrorCode(IntEnum):
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

class ModelSpec(Message):
    name: str
    version_label: str
    signature_name: str
    @property
    def version(self) -> Int64Value: ...
    def __init__(
        self, *, name: str = ..., version_label: str = ..., signature_name: str = ...
    ) -> None: ...
    def WhichOneof(  # noqa: N802
        self, oneof_group: Literal["version_choice"] | bytes | str
    ) -> Literal["version", "version_label"] | None: ...

class PredictRequest(Message):
    @property
    def model_spec(self) -> ModelSpec: ...
    @property
    def inputs(self) -> MessageMap[str, TensorProto]: ...
    @property
    def output_filter(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(
        self,
        *,
        model_spec: ModelSpec = ...,
        inputs: Mapping[str, TensorProto] = ...,
        output_filter: Iterable[str] = ...,
    ) -> None: ...

class PredictResponse(Message):
    @property
    def outputs(self) -> MessageMap[str, TensorProto]: ...
    @property
    def model_spec(self) -> ModelSpec: ...
    def __init__(
        self, *, outputs: Mapping[str, TensorProto] = ..., model_spec: ModelSpec = ...
    ) -> None: ...

class SignatureDefMap(Message):
    @property
    def signature_def(self) -> MessageMap[str, SignatureDef]: ...
    def __init__(self, *, signature_def: Mapping[str, SignatureDef] = ...) -> None: ...

class GetModelMetadataRequest(Message):
    @property
    def model_spec(self) -> ModelSpec: ...
    @property
    def metadata_field(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(
        self, *, model_spec: ModelSpec = ..., metadata_field: Iterable[str] = ...
    ) -> None: ...

class GetModelMetadataResponse(Message):
    @property
    def model_spec(self) -> ModelSpec: ...
    @property
    def metadata(self) -> MessageMap[str, Any]: ...
    def __init__(
        self, *, model_spec: ModelSpec = ..., metadata: Mapping[str, Any] = ...
    ) -> None: ...

class StatusProto(Message):
    error_code: int
    error_message: str
    def __init__(self, *, error_code: int = ..., error_message: str = ...) -> None: ...

class VersionState(IntEnum):
    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50

class ModelVersionStatus(Message):
    version: int
    state: int
    @property
    def status(self) -> StatusProto: ...
    def __init__(
        self, *, version: int = ..., state: int = ..., status: StatusProto = ...
    ) -> None: ...

class GetModelStatusRequest(Message):
    @property
    def model_spec(self) -> ModelSpec: ...
    def __init__(self, *, model_spec: ModelSpec = ...) -> None: ...

class GetModelStatusResponse(Message):
    @property
    def model_version_status(self) -> RepeatedCompositeFieldContainer[ModelVersionStatus]: ...
    def __init__(self, *, model_version_status: Iterable[ModelVersionStatus] = ...) -> None: ...

class HealthCheckRequest(Message):
    service: str
    def __init__(self, *, service: str = ...) -> None: ...

class ServingStatus(IntEnum):
    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3

class HealthCheckResponse(Message):
    status: int
    def __init__(self, *, status: int = ...) -> None: ...

class HealthListRequest(Message):
    def __init__(self) -> None: ...

class HealthListResponse(Message):
    @property
    def statuses(self) -> MessageMap[str, HealthCheckResponse]: ...
    def __init__(self, *, statuses: Mapping[str, HealthCheckResponse] = ...) -> None: ...

class RpcStatus(Message):
    code: int
    message: str
    @property
    def details(self) -> RepeatedCompositeFieldContainer[Any]: ...
    def __init__(
        self, *, code: int = ..., message: str = ..., details: Iterable[Any] = ...
    ) -> None: ...

class RetryInfo(Message):
    @property
    def retry_delay(self) -> Duration: ...
    def __init__(self, *, retry_delay: Duration = ...) -> None: ...

class DeployRequest(Message):
    reference: str
    force: bool
    allow_downgrade: bool
    origin: str
    def __init__(
        self,
        *,
        reference: str = ...,
        force: bool = ...,
        allow_downgrade: bool = ...,
        origin: str = ...,
    ) -> None: ...

class Outcome(IntEnum):
    OUTCOME_UNSPECIFIED = 0
    COMMITTED = 1
    REVERTED = 2
    FAILED = 3
    CANCELLED = 4

class DeployEvent(Message):
    state: str
    digest: str
    detail: str
    elapsed_us: int
    bytes_done: int
    bytes_total: int
    outcome: int
    error: str
    parked_us: int
    @property
    def phases_us(self) -> MutableMapping[str, int]: ...
    def __init__(
        self,
        *,
        state: str = ...,
        digest: str = ...,
        detail: str = ...,
        elapsed_us: int = ...,
        bytes_done: int = ...,
        bytes_total: int = ...,
        outcome: int = ...,
        error: str = ...,
        parked_us: int = ...,
        phases_us: Mapping[str, int] = ...,
    ) -> None: ...

class UndeployRequest(Message):
    force: bool
    def __init__(self, *, force: bool = ...) -> None: ...

class UndeployReply(Message):
    digest: str
    def __init__(self, *, digest: str = ...) -> None: ...

class StatusRequest(Message):
    def __init__(self) -> None: ...

class Model(Message):
    digest: str
    reference: str
    name: str
    version: str
    format: str
    sku: str
    memory_bytes: int
    isa: str
    worker_pid: int
    deployed_unix_us: int
    def __init__(
        self,
        *,
        digest: str = ...,
        reference: str = ...,
        name: str = ...,
        version: str = ...,
        format: str = ...,  # noqa: A002
        sku: str = ...,
        memory_bytes: int = ...,
        isa: str = ...,
        worker_pid: int = ...,
        deployed_unix_us: int = ...,
    ) -> None: ...

class Counters(Message):
    answered: int
    failed: int
    refused: int
    expired: int
    cancelled: int
    queued: int
    queued_bytes: int
    worker_deaths: int
    deployments: int
    reverts: int
    def __init__(
        self,
        *,
        answered: int = ...,
        failed: int = ...,
        refused: int = ...,
        expired: int = ...,
        cancelled: int = ...,
        queued: int = ...,
        queued_bytes: int = ...,
        worker_deaths: int = ...,
        deployments: int = ...,
        reverts: int = ...,
    ) -> None: ...

class RollbackRequest(Message):
    force: bool
    def __init__(
        self,
        *,
        force: bool = ...,
    ) -> None: ...

class Held(Message):
    owner: str
    reason: str
    left_s: float
    until_unix_us: int
    def __init__(
        self,
        *,
        owner: str = ...,
        reason: str = ...,
        left_s: float = ...,
        until_unix_us: int = ...,
    ) -> None: ...

class HoldRequest(Message):
    owner: str
    reason: str
    ttl_s: float
    force: bool
    def __init__(
        self,
        *,
        owner: str = ...,
        reason: str = ...,
        ttl_s: float = ...,
        force: bool = ...,
    ) -> None: ...

class ReleaseRequest(Message):
    def __init__(self) -> None: ...

class HoldReply(Message):
    @property
    def hold(self) -> Held: ...
    def __init__(
        self,
        *,
        hold: Held | None = ...,
    ) -> None: ...

class HistoryRequest(Message):
    limit: int
    def __init__(
        self,
        *,
        limit: int = ...,
    ) -> None: ...

class Record(Message):
    number: int
    cause: str
    reference: str
    digest: str
    name: str
    version: str
    outcome: str
    reason: str
    before: str
    began_unix_us: int
    dated: bool
    boot: str
    began_up_us: int
    elapsed_us: int
    blackout_us: int
    window: str
    window_blackout_us: int
    attempts: int
    forced: str
    @property
    def phases_us(self) -> MutableMapping[str, int]: ...
    def __init__(
        self,
        *,
        number: int = ...,
        cause: str = ...,
        reference: str = ...,
        digest: str = ...,
        name: str = ...,
        version: str = ...,
        outcome: str = ...,
        reason: str = ...,
        before: str = ...,
        began_unix_us: int = ...,
        dated: bool = ...,
        boot: str = ...,
        began_up_us: int = ...,
        elapsed_us: int = ...,
        blackout_us: int = ...,
        window: str = ...,
        window_blackout_us: int = ...,
        attempts: int = ...,
        forced: str = ...,
        phases_us: Mapping[str, int] = ...,
    ) -> None: ...

class HistoryReply(Message):
    @property
    def records(self) -> RepeatedCompositeFieldContainer[Record]: ...
    def __init__(
        self,
        *,
        records: Iterable[Record] = ...,
    ) -> None: ...

class SelfTestRequest(Message):
    def __init__(self) -> None: ...

class SelfTestReply(Message):
    passed: bool
    reason: str
    digest: str
    elapsed_us: int
    def __init__(
        self,
        *,
        passed: bool = ...,
        reason: str = ...,
        digest: str = ...,
        elapsed_us: int = ...,
    ) -> None: ...

class QuarantineRequest(Message):
    clear: str
    def __init__(
        self,
        *,
        clear: str = ...,
    ) -> None: ...

class Quarantined(Message):
    digest: str
    name: str
    version: str
    reason: str
    since_unix_us: int
    def __init__(
        self,
        *,
        digest: str = ...,
        name: str = ...,
        version: str = ...,
        reason: str = ...,
        since_unix_us: int = ...,
    ) -> None: ...

class QuarantineReply(Message):
    @property
    def images(self) -> RepeatedCompositeFieldContainer[Quarantined]: ...
    def __init__(
        self,
        *,
        images: Iterable[Quarantined] = ...,
    ) -> None: ...

class Link(Message):
    dialect: str
    device: str
    host: str
    up: bool
    reason: str
    fix: str
    since_us: int
    attempts: int
    next_try_us: int
    connections: int
    pending: int
    dropped: int
    outbox_fault: str
    clock_doubt: str
    skew_s: float
    desired: str
    desired_error: str
    def __init__(
        self,
        *,
        dialect: str = ...,
        device: str = ...,
        host: str = ...,
        up: bool = ...,
        reason: str = ...,
        fix: str = ...,
        since_us: int = ...,
        attempts: int = ...,
        next_try_us: int = ...,
        connections: int = ...,
        pending: int = ...,
        dropped: int = ...,
        outbox_fault: str = ...,
        clock_doubt: str = ...,
        skew_s: float = ...,
        desired: str = ...,
        desired_error: str = ...,
    ) -> None: ...

class StatusReply(Message):
    version: str
    pid: int
    uptime_us: int
    state: str
    reason: str
    runtime: str
    previous_digest: str
    deployment: str
    deployments_waiting: int
    verify: str
    sandbox: str
    worst_blackout_us: int
    window_left_us: int
    standby_digest: str
    quarantined: int
    heartbeat_age_us: int
    p99_us: int
    @property
    def store_faults(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def link(self) -> Link: ...
    @property
    def hold(self) -> Held: ...
    @property
    def previous(self) -> Model: ...
    @property
    def last_deployment(self) -> Record: ...
    @property
    def listen(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def model(self) -> Model: ...
    @property
    def counters(self) -> Counters: ...
    def __init__(
        self,
        *,
        version: str = ...,
        pid: int = ...,
        uptime_us: int = ...,
        state: str = ...,
        reason: str = ...,
        runtime: str = ...,
        listen: Iterable[str] = ...,
        model: Model | None = ...,
        previous_digest: str = ...,
        deployment: str = ...,
        deployments_waiting: int = ...,
        counters: Counters = ...,
        verify: str = ...,
        sandbox: str = ...,
        hold: Held | None = ...,
        previous: Model | None = ...,
        last_deployment: Record | None = ...,
        worst_blackout_us: int = ...,
        window_left_us: int = ...,
        standby_digest: str = ...,
        quarantined: int = ...,
        store_faults: Iterable[str] = ...,
        link: Link | None = ...,
        heartbeat_age_us: int = ...,
        p99_us: int = ...,
    ) -> None: ...
