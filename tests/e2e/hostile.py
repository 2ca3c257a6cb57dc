"""A device under attack: every request is counted, and after each the next one must be served."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

import edged
from edged import messages
from edged.errors import RequestError
from edged.messages import DataType, PredictRequest
from edged.messages.arrays import to_array
from tests.e2e.device import CALL_LIMIT, ROOT, Device, call

DEMO = ROOT / "packaging" / "demo"
PICTURES = sorted((DEMO / "pictures").glob("*.jpg"))
GOOD = PICTURES[0].read_bytes()
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


def build(reference: str, *, pictures: bool = True) -> str:
    """Builds the demo's model, for pictures or for tensors; returns the reference."""
    edged.build(
        DEMO / "surface.onnx",
        reference,
        name="surface",
        version="1",
        labels=DEMO / "labels.txt",
        preprocess=DEMO / "preprocess.json" if pictures else None,
    )
    return reference


def request(*pictures: bytes, name: str = "images") -> PredictRequest:
    """A request to classify pictures."""
    made = PredictRequest()
    sent = made.inputs[name]
    sent.dtype = DataType.DT_STRING
    sent.tensor_shape.dim.add(size=len(pictures))
    sent.string_val.extend(pictures)
    return made


def scores(answer: bytes) -> npt.NDArray[Any]:
    """The probabilities in an answer."""
    response = messages.PredictResponse.FromString(answer)
    array = to_array(response.outputs["probabilities"])
    assert isinstance(array, np.ndarray)
    return array


class Target:
    """A device that serves a model, and what it did so far.

    Args:
        device: with a model in service.
        good: a request that the model serves.
    """

    def __init__(self, device: Device, good: PredictRequest) -> None:
        self.device = device
        self.good = good.SerializeToString()
        self._channel = grpc.insecure_channel(device.address, options=UNLIMITED)
        self.expected = call(self._channel, self.good)
        self.worker = device.status().model.worker_pid

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def send(self, body: PredictRequest | bytes, timeout: float = CALL_LIMIT) -> bytes:
        """Sends a request and returns the answer."""
        raw = body if isinstance(body, bytes) else body.SerializeToString()
        return call(self._channel, raw, timeout)

    def served(self, body: PredictRequest | bytes) -> bytes:
        """Sends a request that must be served; returns the answer."""
        answer = self._counted("answered", body)
        assert isinstance(answer, bytes), answer
        return answer

    def refused(
        self, body: PredictRequest | bytes, *says: str, code: str = "INVALID_ARGUMENT"
    ) -> str:
        """Sends a request that must be refused, and one after it that must be served as ever.

        Args:
            body: the request.
            says: what the error must name: what was expected, and what came.
            code: of the error.
        """
        error = self._counted("failed", body)
        assert isinstance(error, RequestError), error
        assert error.code == code, error
        for each in says:
            assert each in str(error)
        assert len(str(error)) <= 1024 + len("...TRUNCATED")
        self.serves_on()
        return str(error)

    def serves_on(self) -> None:
        """Asserts that the same process serves the next request, with the answer it always gave."""
        assert self.send(self.good) == self.expected
        status = self.device.status()
        assert (status.state, status.model.worker_pid) == ("serving", self.worker)

    def _counted(self, outcome: str, body: PredictRequest | bytes) -> bytes | RequestError:
        before = self.device.status().counters
        try:
            result: bytes | RequestError = self.send(body)
        except RequestError as exc:
            result = exc
        after = self.device.status().counters
        changed = {
            field.name: getattr(after, field.name) - getattr(before, field.name)
            for field in after.DESCRIPTOR.fields
            if getattr(after, field.name) != getattr(before, field.name)
        }
        assert changed == {outcome: 1}, (changed, result)
        return result
