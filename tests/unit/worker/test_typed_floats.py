"""150,528 floats in ``float_val`` cost about what raw bytes do: no loop ever sees them.

No timers: times are compared with others of the same run. The loop that is avoided, NumPy's
``fromiter``, takes about 3 ms for as many floats, which is the most that a request may cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from edged.manifest import Manifest, Signature, TensorSpec
from edged.messages import DataType, PredictRequest
from edged.messages.arrays import to_array, to_tensor
from edged.worker import signature
from tests.fakes import images

SHAPE = (1, 224, 224, 3)
VALUES = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


def best(run: Callable[[], object], times: int = 7) -> float:
    """Returns the least seconds that it takes: what else the machine does only adds to it."""

    def once() -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    return min(once() for _ in range(times))


@pytest.fixture
def manifest() -> Manifest:
    spec = TensorSpec("x", (), "float32", (-1, *SHAPE[1:]))
    outputs = images.manifest().signature.outputs
    return images.manifest(signature=Signature((spec,), outputs))


@pytest.fixture
def typed() -> PredictRequest:
    request = PredictRequest()
    tensor = request.inputs["x"]
    tensor.dtype = DataType.DT_FLOAT
    for size in SHAPE:
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend(VALUES.ravel().tolist())
    return request


def test_a_request_of_typed_floats_is_read_without_a_loop(
    manifest: Manifest, typed: PredictRequest
) -> None:
    body = typed.SerializeToString()
    raw = PredictRequest(inputs={"x": to_tensor(VALUES)}).SerializeToString()
    for each in (body, raw):
        np.testing.assert_array_equal(signature.parse(each, manifest).inputs["x"], VALUES)
    loop = best(lambda: np.fromiter(typed.inputs["x"].float_val, np.float32))
    assert best(lambda: signature.parse(body, manifest)) < loop / 2
    assert best(lambda: signature.parse(raw, manifest)) < loop / 2


def test_the_client_reads_an_answer_of_typed_floats_without_a_loop(typed: PredictRequest) -> None:
    tensor = typed.inputs["x"]
    np.testing.assert_array_equal(to_array(tensor), VALUES)
    loop = best(lambda: np.fromiter(tensor.float_val, np.float32))
    assert best(lambda: to_array(tensor)) < loop / 2
