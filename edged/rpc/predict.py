"""``tensorflow.serving.PredictionService``: bytes in, bytes out.

The daemon never parses a request or an answer. What it knows of an answer is what the worker said
beside it; callers find that in the trailing metadata:

====================  ==========================================================================
edged-request-id      names the call in the device's log
edged-model-digest    of the model that answered
edged-queued-us       microseconds until the NPU was free
edged-parked-us       the part of them in which no request was let through
edged-times-us        JSON object, microseconds per stage
edged-top             JSON array of {index, label, score}, best first, if the model classifies
====================  ==========================================================================

A caller's own metadata may have ``edged-top: K``, to see up to K classes instead of one, and
``edged-tensor-content: true``, for answers as raw bytes instead of one by one in typed fields.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Sequence

import grpc

from edged.errors import RequestError
from edged.rpc.failures import Failures
from edged.rpc.front import DEFAULTS, Answer, Front, Options
from edged.rpc.interceptors import Context, unary

SERVICE = "tensorflow.serving.PredictionService"
TOP_KEY = "edged-top"
CONTENT_KEY = "edged-tensor-content"
ORIGINAL_KEY = "x-ms-aml-grpc-service-route"  # the original service's clients send it
TOP_LIMIT = 16
# Clients take 8 KiB of metadata by default; times and classes share it with the rest.
FIELD_LIMIT = 3072  # bytes


def handlers(front: Front) -> grpc.GenericRpcHandler:
    """Returns the service, answering from ``front``."""
    # Tells this start's requests from another's.
    boot = secrets.token_hex(4)
    numbers = itertools.count(1)
    failures = Failures()

    async def predict(body: bytes, context: Context) -> bytes:
        request_id = ("edged-request-id", f"{boot}-{next(numbers)}")
        # The stubs say float, grpc says None for a caller who set no deadline.
        remaining: float | None = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        try:
            answer = await front.predict(body, deadline, _options(context))
        except RequestError as exc:
            context.set_trailing_metadata((request_id,))
            failures.note(request_id[1], exc)
            raise
        context.set_trailing_metadata((request_id, *_metadata(answer)))
        return answer.reply.body

    # No (de)serializers: the bytes pass as they are.
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        unary(predict)
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Predict": method})


def _options(context: Context) -> Options:
    top, content, original = "", "", False
    for key, value in context.invocation_metadata() or ():
        if key == TOP_KEY:
            top = str(value)
        elif key == CONTENT_KEY:
            content = str(value)
        elif key == ORIGINAL_KEY:
            original = True
    if not top and not content and not original:
        return DEFAULTS
    number = int(top[:4]) if top.isascii() and top.isdigit() else 1
    return Options(max(1, min(number, TOP_LIMIT)), content == "true", original)


def _metadata(answer: Answer) -> Sequence[tuple[str, str]]:
    """Returns what happened on the way; ASCII, as the values must be."""
    reply = answer.reply
    fields = [
        ("edged-model-digest", answer.digest),
        ("edged-queued-us", str(answer.queued_us)),
        ("edged-parked-us", str(answer.parked_us)),
    ]
    if len(reply.times) <= FIELD_LIMIT:
        fields.append(("edged-times-us", reply.times))
    if "{" in reply.top and len(reply.top) <= FIELD_LIMIT:
        fields.append(("edged-top", reply.top))
    return fields
