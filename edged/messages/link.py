"""Frames between the daemon and the worker, over one socketpair.

A frame is a fixed header, a small document and opaque bytes::

    header  20 bytes, little-endian:
            magic b"eL" | kind u16 | meta length u32 | body length u32 | id u64
    meta    at most META_LIMIT bytes: an ``Ask`` of PREDICT, a ``Said`` of RESULT, else a JSON
            object in UTF-8
    body    bytes, at most BODY_LIMIT; a PredictRequest or PredictResponse as it came off the wire

Kinds (``meta`` in braces; ``id`` pairs an answer with its question, 0 where there is no question):

========  ======  ===============================================================================
kind      from    meaning
========  ======  ===============================================================================
HELLO     worker  loaded and encoded, off the NPU {name, version, pid, isa, format, sku, ...}
ACTIVATE  daemon  take the NPU; answered by ACTIVE {} or ERROR
LEAVE     daemon  leave the NPU; answered by LEFT {}
PROBE     daemon  run the golden test; answered by PROBED {ok, reason}
PREDICT   daemon  body = PredictRequest; meta is an ``Ask``
RESULT    worker  body = PredictResponse; meta is a ``Said``
ERROR     worker  {code: gRPC status name, message}; to the question with the same id, or with id 0
                  instead of HELLO: why the model cannot be loaded
STOP      daemon  finish the running request, answer it, exit 0
CANCEL    daemon  nobody waits for the PREDICT of this id: if it has not begun, the worker answers
                  it by ERROR with the code CANCELLED, else nothing changes; not answered itself
BEAT      daemon  are you there, and does the NPU answer? asked while nothing else is; answered by
                  ALIVE {runs: of the NPU since the model was loaded} or ERROR
========  ======  ===============================================================================

PREDICT and RESULT are on every request's way, in processes whose caches the model has just emptied:
there a JSON document read and written costs what ten of these do. An ``Ask`` is packed; a ``Said``
is two lines of ASCII that go to the caller as they are, which the daemon need not understand.

The module does no I/O. Both ends treat the other as untrusted: a frame that breaks a limit raises
``ProtocolError`` and the link is given up.
"""

from __future__ import annotations

import enum
import json
import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edged.errors import DeviceError

HEADER = struct.Struct("<2sHIIQ")
MAGIC = b"eL"
_ASK = struct.Struct("<QHH")  # deadline_us, top, flags
META_LIMIT = 64 * 1024
BODY_LIMIT = 64 * 1024 * 1024 + 64 * 1024  # one gRPC message of the default limit, and its envelope


to_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make one each time


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
    CANCEL = 12
    BEAT = 13
    ALIVE = 14


_KINDS = {int(kind): kind for kind in Kind}  # ``Kind(number)`` takes two calls to find it


class Ask(NamedTuple):
    """What goes with a PREDICT.

    Attributes:
        deadline_us: of the caller, in microseconds of CLOCK_MONOTONIC, which both ends read; 0 for
            a caller who waits for ever. As the worker may read a question only after it answered
            the one before, the time that is left would not do.
        top: how many classes the caller wants to see named, best first.
        tensor_content: the answer's tensors are to be raw bytes.
        original: the caller is a client of the original service.
        strict: refuse what TensorFlow Serving would refuse.
    """

    deadline_us: int = 0
    top: int = 1
    tensor_content: bool = False
    original: bool = False
    strict: bool = False


class Said(NamedTuple):
    """What a worker says beside a RESULT: one line each, of printable ASCII.

    Attributes:
        times: JSON object, microseconds by stage.
        top: JSON array of {index, label, score}, best first; empty where nothing was classified.
    """

    times: str = "{}"
    top: str = "[]"


NOTHING_ASKED = Ask()
NOTHING_SAID = Said()


@dataclass
class Frame:
    """One message on the link.

    Attributes:
        kind: see the module's table.
        id: pairs an answer with its question.
        meta: of all kinds but PREDICT and RESULT.
        body: of PREDICT and RESULT.
        ask: of PREDICT.
        said: of RESULT.
    """

    kind: Kind
    id: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    ask: Ask = NOTHING_ASKED
    said: Said = NOTHING_SAID


def encode(frame: Frame) -> tuple[bytes, bytes]:
    """Returns header with meta, and the body apart so that large bodies are not copied."""
    if frame.kind is Kind.PREDICT:
        ask = frame.ask
        flags = ask.tensor_content | ask.original << 1 | ask.strict << 2
        meta = _ASK.pack(ask.deadline_us, ask.top, flags)
    elif frame.kind is Kind.RESULT:
        meta = f"{frame.said.times}\n{frame.said.top}".encode("ascii")
    else:
        meta = to_json(frame.meta).encode()
    if len(meta) > META_LIMIT:
        raise ProtocolError(f"cannot send frame: meta is {len(meta)} bytes, limit {META_LIMIT}")
    if len(frame.body) > BODY_LIMIT:
        raise ProtocolError(
            f"cannot send frame: body is {len(frame.body)} bytes, limit {BODY_LIMIT}"
        )
    return HEADER.pack(MAGIC, frame.kind, len(meta), len(frame.body), frame.id) + meta, frame.body


def parse_header(data: bytes | bytearray, at: int = 0) -> tuple[Kind, int, int, int]:
    """Returns kind, id, meta length and body length of the 20-byte header that begins at ``at``.

    Raises:
        ProtocolError: wrong magic, unknown kind or a length over its limit.
    """
    magic, kind, meta_length, body_length, frame_id = HEADER.unpack_from(data, at)
    if magic != MAGIC:
        raise ProtocolError(f"cannot read frame: magic is {magic!r}, expected {MAGIC!r}")
    if meta_length > META_LIMIT or body_length > BODY_LIMIT:
        raise ProtocolError(
            f"cannot read frame: lengths {meta_length}, {body_length} over the limit"
        )
    known = _KINDS.get(kind)
    if known is None:
        raise ProtocolError(f"cannot read frame: unknown kind {kind}")
    return known, frame_id, meta_length, body_length


def decode(kind: Kind, number: int, meta: bytes, body: bytes) -> Frame:
    """Returns the frame of those parts; ``number`` is its id.

    Raises:
        ProtocolError: the meta is not that kind's.
    """
    if kind is Kind.PREDICT:
        return Frame(kind, number, body=body, ask=_ask(meta))
    if kind is Kind.RESULT:
        return Frame(kind, number, body=body, said=_said(meta))
    return Frame(kind, number, _object(meta), body)


def _ask(meta: bytes) -> Ask:
    if len(meta) != _ASK.size:
        raise ProtocolError(f"cannot read PREDICT: meta is {len(meta)} bytes, expected {_ASK.size}")
    deadline, top, flags = _ASK.unpack(meta)
    return Ask(deadline, top, bool(flags & 1), bool(flags & 2), bool(flags & 4))


def _said(meta: bytes) -> Said:
    text = meta.decode("latin-1")
    times, _, top = text.partition("\n")
    if not (text.isascii() and times.isprintable() and top.isprintable()):
        raise ProtocolError("cannot read RESULT: meta is not two lines of printable ASCII")
    return Said(times, top)


def _object(meta: bytes) -> dict[str, Any]:
    try:
        value = json.loads(meta) if meta else {}
    except (ValueError, RecursionError) as exc:
        raise ProtocolError("cannot read frame: meta is not JSON") from exc
    if not isinstance(value, dict):
        raise ProtocolError("cannot read frame: meta is not an object")
    return value
