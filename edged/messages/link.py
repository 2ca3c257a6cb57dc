"""Frames between the daemon and the worker, over one socketpair.

A frame is a fixed header, a small JSON document and opaque bytes::

    header  20 bytes, little-endian:
            magic b"eL" | kind u16 | meta length u32 | body length u32 | id u64
    meta    JSON object, UTF-8, at most META_LIMIT bytes
    body    bytes, at most BODY_LIMIT; a PredictRequest or PredictResponse as it came off the wire

Kinds (``meta`` in braces; ``id`` pairs an answer with its question, 0 where there is no question):

========  ======  ===============================================================================
kind      from    meaning
========  ======  ===============================================================================
HELLO     worker  loaded and encoded, off the NPU {name, version, pid, isa, format, sku, ...}
ACTIVATE  daemon  take the NPU; answered by ACTIVE {} or ERROR
LEAVE     daemon  leave the NPU; answered by LEFT {}
PROBE     daemon  run the golden test; answered by PROBED {ok, reason}
PREDICT   daemon  body = PredictRequest {remaining_us: int | None, at_us, top, tensor_content,
                  original, strict}; remaining_us was so at at_us of CLOCK_MONOTONIC, as the worker
                  may read a question only after it answered the one before
RESULT    worker  body = PredictResponse {times_us: {stage: int}, top: [{index, label, score}]}
ERROR     worker  {code: gRPC status name, message}; to the question with the same id, or with id 0
                  instead of HELLO: why the model cannot be loaded
STOP      daemon  finish the running request, answer it, exit 0
========  ======  ===============================================================================

``top`` of PREDICT is how many classes the caller wants to see named, best first, 1 if it is absent;
``tensor_content`` whether the answer's tensors are to be raw bytes, ``original`` whether the caller
is a client of the original service, ``strict`` whether to refuse what TensorFlow Serving would
refuse; all false if absent.
``top`` of RESULT may also be one such object, or null where the model has no classes.

The module does no I/O. Both ends treat the other as untrusted: a frame that breaks a limit raises
``ProtocolError`` and the link is given up.
"""

from __future__ import annotations

import enum
import json
import struct
from dataclasses import dataclass, field
from typing import Any

from edged.errors import DeviceError

HEADER = struct.Struct("<2sHIIQ")
MAGIC = b"eL"
META_LIMIT = 64 * 1024
BODY_LIMIT = 64 * 1024 * 1024 + 64 * 1024  # one gRPC message of the default limit, and its envelope


class ProtocolError(DeviceError):
    """The other end sent something that is not a frame of this protocol."""


class Kind(enum.IntEnum):
    """What a frame is; see the module's table."""

    HELLO = 1
    ACTIVATE = 2
    ACTIVE = 3
    LEAVE = 4
    LEFT = 5
    PROBE = 6
    PROBED = 7
    PREDICT = 8
    RESULT = 9
    ERROR = 10
    STOP = 11


@dataclass(frozen=True)
class Frame:
    """One message on the link."""

    kind: Kind
    id: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""


def encode(frame: Frame) -> tuple[bytes, bytes]:
    """Returns header with meta, and the body apart so that large bodies are not copied."""
    meta = json.dumps(frame.meta, separators=(",", ":")).encode()
    if len(meta) > META_LIMIT:
        raise ProtocolError(f"cannot send frame: meta is {len(meta)} bytes, limit {META_LIMIT}")
    if len(frame.body) > BODY_LIMIT:
        raise ProtocolError(
            f"cannot send frame: body is {len(frame.body)} bytes, limit {BODY_LIMIT}"
        )
    return HEADER.pack(MAGIC, frame.kind, len(meta), len(frame.body), frame.id) + meta, frame.body


def parse_header(header: bytes) -> tuple[Kind, int, int, int]:
    """Returns kind, id, meta length and body length of a 20-byte header.

    Raises:
        ProtocolError: wrong magic, unknown kind or a length over its limit.
    """
    magic, kind, meta_length, body_length, frame_id = HEADER.unpack(header)
    if magic != MAGIC:
        raise ProtocolError(f"cannot read frame: magic is {magic!r}, expected {MAGIC!r}")
    if meta_length > META_LIMIT or body_length > BODY_LIMIT:
        raise ProtocolError(
            f"cannot read frame: lengths {meta_length}, {body_length} over the limit"
        )
    try:
        return Kind(kind), frame_id, meta_length, body_length
    except ValueError as exc:
        raise ProtocolError(f"cannot read frame: unknown kind {kind}") from exc


def parse_meta(meta: bytes) -> dict[str, Any]:
    """Returns the meta object.

    Raises:
        ProtocolError: not a JSON object.
    """
    try:
        value = json.loads(meta) if meta else {}
    except (ValueError, RecursionError) as exc:
        raise ProtocolError("cannot read frame: meta is not JSON") from exc
    if not isinstance(value, dict):
        raise ProtocolError("cannot read frame: meta is not an object")
    return value
