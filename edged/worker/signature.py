"""A PredictRequest's bytes to the pipeline's inputs, and its outputs to a PredictResponse's bytes.

Invariants:
- Errors have the codes and the beginnings of TensorFlow Serving's, then what is expected and got.
- An input may be given by its name or an alias. An answer has the outputs that the request's filter
  names, under those names; without a filter every output, under its name and each alias, because
  the predecessor's clients look for theirs without asking for it.

As those clients leave ``model_spec`` out, or its name empty, both are accepted unless ``strict``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from edged.errors import RequestError
from edged.manifest import Manifest, TensorSpec
from edged.messages import ModelSpec, PredictRequest, PredictResponse, TensorProto
from edged.messages.spec import check, cut, number
from edged.worker import tensors, wire
from edged.worker.tensors import Array, Value

SIGNATURE = "serving_default"
DEFAULT_INPUT, DEFAULT_OUTPUT = "images", "output_alias"  # of the original service's clients


@dataclass(frozen=True)
class Question:
    """What a request asks.

    Attributes:
        inputs: by the signature's names.
        outputs: for each key of the answer the signature's name of the output.
    """

    inputs: Mapping[str, Value]
    outputs: Mapping[str, str]


def parse(
    body: bytes, manifest: Manifest, *, strict: bool = False, original: bool = False
) -> Question:
    """Returns what a PredictRequest asks.

    Args:
        body: the message's bytes.
        manifest: of the model.
        strict: refuse requests without a model's name, as TensorFlow Serving does.
        original: the caller is a client of the original service. With its default names, ``images``
            and no filter, it takes the only output of an answer and fails on more than one.

    Raises:
        RequestError: the request does not fit the model.
    """
    wire.check(body)
    try:
        request = PredictRequest.FromString(body)
    except DecodeError as exc:
        raise RequestError("INVALID_ARGUMENT", f"cannot parse PredictRequest: {exc}") from exc
    _check_model(request, manifest, strict=strict)
    inputs = _inputs(request.inputs, manifest.signature.inputs)
    outputs = _outputs(request.output_filter, manifest.signature.outputs)
    defaults = DEFAULT_INPUT in request.inputs and not request.output_filter
    if original and defaults and DEFAULT_OUTPUT in outputs:
        outputs = {DEFAULT_OUTPUT: outputs[DEFAULT_OUTPUT]}
    return Question(inputs, outputs)


def answer(
    manifest: Manifest,
    question: Question,
    outputs: Mapping[str, Array],
    *,
    content: bool = False,
) -> bytes:
    """Returns a PredictResponse's bytes.

    Args:
        manifest: of the model.
        question: that is answered.
        outputs: by the signature's names.
        content: write values as ``tensor_content`` instead of typed fields.
    """
    response = PredictResponse(model_spec=_model_spec(manifest))
    encoded = {  # once, whatever the number of its aliases
        name: tensors.encode(outputs[name], content=content)
        for name in dict.fromkeys(question.outputs.values())
    }
    for key, name in question.outputs.items():
        response.outputs[key].MergeFromString(encoded[name])
    return response.SerializeToString()


def _model_spec(manifest: Manifest) -> ModelSpec:
    named = ModelSpec(name=manifest.name, signature_name=SIGNATURE)
    version = number(manifest.version)
    if version is not None:
        named.version.value = version
    return named


def _check_model(request: PredictRequest, manifest: Manifest, *, strict: bool) -> None:
    asked = request.model_spec if request.HasField("model_spec") else None
    check(asked, manifest.name, manifest.version, strict=strict)
    if request.model_spec.signature_name not in ("", SIGNATURE):
        raise RequestError(
            "FAILED_PRECONDITION",
            f'Serving signature key "{cut(request.model_spec.signature_name)}" not found. '
            f'Expected "{SIGNATURE}".',
        )


def _inputs(sent: Mapping[str, TensorProto], specs: Sequence[TensorSpec]) -> dict[str, Value]:
    known = {name for spec in specs for name in spec.names}
    given = {spec: [name for name in spec.names if name in sent] for spec in specs}
    if len(sent) != len(specs):
        missing = [spec.name for spec in specs if not given[spec]]
        raise RequestError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(sent)}!={len(specs)} "
            f"len({_set(sent)}) != len({_set(spec.name for spec in specs)}). "
            f"Sent extra: {_set(set(sent) - known)}. Missing but required: {_set(missing)}.",
        )
    for spec, names in given.items():
        if len(names) != 1:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Signature input alias: {spec.name}(feed name: {spec.name}:0) "
                f"not found in request and no default value provided. Inputs sent: {_set(sent)}. "
                f"Inputs expected to be in the set {_set(known, 400)}.",
            )
    return {
        spec.name: tensors.decode(names[0], sent[names[0]], spec) for spec, names in given.items()
    }


def _outputs(asked: Iterable[str], specs: Sequence[TensorSpec]) -> dict[str, str]:
    known = {name: spec.name for spec in specs for name in spec.names}
    chosen: dict[str, str] = {}
    for name in asked:
        if name not in known:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {cut(name)} "
                f"Outputs expected to be in the set {_set(known, 700)}.",
            )
        if name in chosen:
            raise RequestError("INVALID_ARGUMENT", f"duplicate output tensor alias: {name}")
        chosen[name] = known[name]
    return chosen or known


def _set(names: Iterable[str], room: int = 220) -> str:
    """Returns names for an error, cut so that what the error says behind them is seen too."""
    ordered = sorted(names)
    shown: list[str] = []
    for name in ordered:
        room -= len(name) + 1
        if room < 0 and shown:
            break
        shown.append(cut(name))
    more = len(ordered) - len(shown)
    return "{" + ",".join(shown) + (f",... and {more} more" if more else "") + "}"
