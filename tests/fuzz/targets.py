"""What is called with hostile bytes, and what must hold: an answer that is right, or an error.

Each target is called with any bytes. It returns whether they were accepted, and raises nothing at
all: a ``RequestError`` or ``ModelError`` of edged is caught and checked here, anything else is what
the fuzzer is after. Crashes, time and memory are the fuzzer's to watch.

Limits that keep a single input from taking long are set lower here than in the product, where
tests of their own hold them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from edged import npu
from edged.errors import ModelError, RequestError
from edged.manifest import Preprocess, TensorSpec
from edged.messages import DataType, PredictRequest, PredictResponse, TensorProto, link
from edged.messages.arrays import NUMBERS
from edged.npu.chains import AveragePool, Chain, Convolution, MaxPool
from edged.worker import service, signature, tensors
from edged.worker.pipeline import Pipeline
from edged.worker.stages import image
from edged.worker.stages.image import ImageStage
from tests.fuzz import seeds
from tests.unit.worker import models

CODES = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
TENSOR_LIMIT = 1 << 18  # bytes
PIXEL_LIMIT = 1 << 18
SCANNED_LIMIT = 1 << 22
WORK_LIMIT = 1 << 18  # multiplications and other steps of a program
MEMORY_LIMIT = 1 << 22  # bytes of a program on the device


def check_error(error: RequestError) -> None:
    """An error must be one that a caller can be told."""
    assert error.code in CODES, error
    text = str(error)
    assert text.strip(), "an error that says nothing"
    frame = service.error(error.code, text)
    link.encode(frame)
    assert len(frame.meta["message"].encode()) < 1100, "an error too long for a header"


class Requests:
    """PredictRequest bytes to a model that takes pictures, one that takes tensors, and any type."""

    def __init__(self) -> None:
        tensors.SIZE_LIMIT = TENSOR_LIMIT
        image.MAX_PIXELS = PIXEL_LIMIT
        folder = tempfile.TemporaryDirectory(prefix="edged-fuzz-")
        # Loaded once and for all; the files are not needed after that.
        with folder as name:
            paths = (Path(name, "pictures"), Path(name, "tensors"))
            models.write(paths[0])
            models.write(paths[1], pictures=False)
            self._models = [Pipeline.open(path, threads=1) for path in paths]

    def seeds(self) -> Iterable[bytes]:
        """Returns requests of each kind."""
        return seeds.requests()

    def __call__(self, data: bytes) -> bool:
        """Asks all of them."""
        answered = [self._ask(model, data) for model in self._models]
        try:
            request = PredictRequest.FromString(data)
        except DecodeError:
            assert not any(answered)
            return False
        read = [_read(name, request.inputs[name]) for name in sorted(request.inputs)[:4]]
        return any(answered) or any(read)

    def _ask(self, model: Pipeline, data: bytes) -> bool:
        try:
            asked = signature.parse(data, model.manifest, strict=len(data) % 2 == 0)
            names = tuple(dict.fromkeys(asked.outputs.values()))
            outputs = model.run(asked.inputs, names).outputs
        except RequestError as exc:
            check_error(exc)
            return False
        size = len(next(iter(asked.inputs.values())))
        body = signature.answer(model.manifest, asked, outputs, content=len(data) % 3 == 0)
        response = PredictResponse.FromString(body)
        assert set(response.outputs) == set(asked.outputs)
        for tensor in response.outputs.values():
            assert [dim.size for dim in tensor.tensor_shape.dim] == [size, 5]
        return True


def _read(name: str, tensor: TensorProto) -> bool:
    """Reads a tensor as a signature with its own type would, and writes it again."""
    try:
        kind = (
            "string" if tensor.dtype == DataType.DT_STRING else NUMBERS[DataType(tensor.dtype)][0]
        )
    except (KeyError, ValueError):
        kind = "float32"
    rank = min(len(tensor.tensor_shape.dim), 16)
    try:
        value = tensors.decode(name, tensor, TensorSpec(name, (), kind, (-1,) * rank))
    except RequestError as exc:
        check_error(exc)
        return False
    if isinstance(value, list):
        return True
    again = TensorProto.FromString(tensors.encode(value, content=True))
    got = tensors.decode(name, again, TensorSpec(name, (), kind, value.shape))
    assert isinstance(got, np.ndarray)
    assert got.dtype == value.dtype == np.dtype(kind)
    assert got.tobytes() == value.tobytes()
    return True


class Pictures:
    """Pictures to the tensors of several preprocessings."""

    def __init__(self) -> None:
        image.MAX_PIXELS = PIXEL_LIMIT
        image.MAX_SCANNED = SCANNED_LIMIT
        self._stages = [
            ImageStage(each)
            for each in (
                Preprocess(size=(12, 12), scale=1 / 255, mean=(0.5,) * 3, std=(0.25,) * 3),
                Preprocess(size=(7, 9), resize="shorter", to=11, crop=True, order="bgr"),
                Preprocess(size=(8, 8), resize="none", crop=True, layout="nhwc"),
            )
        ]

    def seeds(self) -> Iterable[bytes]:
        """Returns a picture of each kind."""
        return seeds.pictures()

    def __call__(self, data: bytes) -> bool:
        """Decodes the picture and makes each tensor."""
        try:
            picture = image.decode(data)
        except RequestError as exc:
            check_error(exc)
            return False
        for stage in self._stages:
            try:
                tensor = stage.transform(picture)
            except RequestError as exc:
                check_error(exc)
            else:
                assert tensor.shape == stage._preprocess.shape
                assert np.isfinite(tensor).all()
        return True


class Programs:
    """The file form of a program; what is accepted runs, with the bits of the definition."""

    def __init__(self) -> None:
        self._device = npu.open(threads=1, isa="portable")
        self._random = np.random.default_rng(0)

    def seeds(self) -> Iterable[bytes]:
        """Returns programs that have every kind of chain between them."""
        return seeds.programs()

    def __call__(self, data: bytes) -> bool:
        """Reads the program and, if it is small, runs it."""
        try:
            program = npu.Program.from_bytes(data)
        except ModelError as exc:
            _check_model_error(exc)
            return False
        # What is between the constants may differ: nothing reads it.
        again = program.to_bytes()
        assert npu.Program.from_bytes(again).to_bytes() == again
        assert len(again) == len(data)
        if program.memory_bytes <= MEMORY_LIMIT and work(program) <= WORK_LIMIT:
            self._run(program)
        return True

    def _run(self, program: npu.Program) -> None:
        values = {
            port.name: self._random.normal(0, 1, port.shape).astype(np.float32)
            for port in program.inputs
        }
        self._device.load(program)
        got = self._device.run(values)
        with np.errstate(all="ignore"):
            expected = npu.reference.run(program, values)
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array)


def _check_model_error(error: ModelError) -> None:
    assert str(error).startswith("cannot "), error


def work(program: npu.Program) -> int:
    """Returns about how many steps a run takes."""

    def steps(chain: Chain) -> int:
        target = program.tensors[chain.target]
        each = target.height * target.width * target.channels
        if isinstance(chain, Convolution):
            return each * int(np.prod(chain.weights.shape[1:]))
        if isinstance(chain, MaxPool | AveragePool):
            return each * chain.window.kernel[0] * chain.window.kernel[1]
        return each

    return sum(map(steps, program.chains))


TARGETS: dict[str, Callable[[], Any]] = {
    "request": Requests,
    "picture": Pictures,
    "program": Programs,
}
