"""The original service's clients whose packages are gone, rewritten after what they do on the wire.

- The C# sample: no deadline; ModelSpec there but empty; a route and a key in the metadata; reads
  ``float_val`` alone, of every output in the answer, all of which must have the rank it expects;
  tries ten times without a pause after DEADLINE_EXCEEDED, UNAVAILABLE, ABORTED and INTERNAL.
- The preview's Python client: no metadata, no ModelSpec, 10 s a try, five tries with pauses that
  double; ``images`` in, ``output_alias`` out, whatever else there is.

There is no dotnet where these tests usually run; the wire is what the C# client would see.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from tests.clients import wire
from tests.clients.conftest import device_with
from tests.clients.models import ORIGINAL_NAMES, PICTURES
from tests.e2e.device import Device, raw

Array = npt.NDArray[np.float32]
TRANSIENT = (
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
)


class CSharpClient:
    """The C# sample's ScoringClient. ``tries`` counts what it sent."""

    def __init__(self, channel: grpc.Channel, key: str = "", service: str = "") -> None:
        self._call = raw(channel, wire.PREDICT)
        route = ("x-ms-aml-grpc-service-route", f"/api/v1/service/{service}")
        self._metadata = (("authorization", f"bearer {key}"), route) if key else (route,)
        self.tries = 0

    def score(
        self,
        inputs: Mapping[str, bytes],
        output_name: str = "output_alias",
        *,
        rank: int = 2,
        retries: int = 10,
    ) -> Array:
        body = wire.predict_request(inputs, spec=wire.model_spec())
        while True:
            self.tries += 1
            try:
                answer = wire.answer(self._call(body, metadata=self._metadata))
                break
            except grpc.RpcError as exc:
                retries -= 1
                if exc.code() not in TRANSIENT or retries <= 0:
                    raise
        outputs = {name: self._convert(value, rank) for name, value in answer.outputs.items()}
        return outputs[output_name]

    @staticmethod
    def _convert(tensor: wire.Tensor, rank: int) -> Array:
        assert len(tensor.shape) == rank, f"expected rank {rank}, got shape {tensor.shape}"
        count = math.prod(tensor.shape)
        return np.array([tensor.float_val[i] for i in range(count)], np.float32).reshape(
            tensor.shape
        )


class PreviewClient:
    """The preview's PredictionClient; ``pause`` stands in for sleeping."""

    def __init__(self, channel: grpc.Channel, pause: Callable[[float], object]) -> None:
        self._call = raw(channel, wire.PREDICT)
        self._pause = pause

    def score_image(self, path: Path) -> Array:
        scores: Array = self._score(wire.strings([path.read_bytes()]), 10.0)[0]
        return scores

    def score_images(self, paths: Sequence[Path]) -> Array:
        return self._score(wire.strings([path.read_bytes() for path in paths]), 10.0)

    def _score(self, tensor: bytes, timeout: float) -> Array:
        body = wire.predict_request({"images": tensor})
        delay = 1.0
        for left in range(4, -1, -1):
            try:
                answer = wire.answer(self._call(body, timeout=timeout))
            except grpc.RpcError:
                if left == 0:
                    raise
                self._pause(delay)
                delay *= 2
            else:
                output = answer.outputs["output_alias"]
                return np.array(output.float_val, np.float32).reshape(output.shape)
        raise AssertionError


def no_pause(seconds: float) -> None:
    """For clients that must not have to try again."""
    raise AssertionError(f"the client waits {seconds} s to try again")


def picture(path: Path) -> dict[str, bytes]:
    return {"images": wire.strings([path.read_bytes()])}


@pytest.fixture
def csharp(surface: Device) -> Iterator[CSharpClient]:
    with surface.channel() as channel:
        yield CSharpClient(channel, key="some-key", service="my-service")


def test_the_csharp_client_reads_every_output_it_gets(csharp: CSharpClient) -> None:
    scores = csharp.score(picture(PICTURES[0]))
    assert scores.shape == (1, 5)
    assert scores.sum() == pytest.approx(1.0, abs=1e-3)


def test_the_csharp_client_sends_several_pictures(csharp: CSharpClient) -> None:
    paths = PICTURES[:3]
    together = csharp.score({"images": wire.strings([path.read_bytes() for path in paths])})
    alone = np.concatenate([csharp.score(picture(path)) for path in paths])
    np.testing.assert_array_equal(together, alone)


def test_what_is_the_callers_fault_is_not_tried_again(csharp: CSharpClient) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        csharp.score({"images": wire.strings([b"no picture"])})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert csharp.tries == 1


def test_the_preview_client_finds_its_output(surface: Device) -> None:
    with surface.channel() as channel:
        client = PreviewClient(channel, pause=no_pause)
        scores = client.score_image(PICTURES[0])
        rows = client.score_images(PICTURES[:2])
    assert scores.shape == (5,)
    np.testing.assert_array_equal(rows[0], scores)


def test_a_swap_under_load_costs_the_original_clients_not_one_retry(
    image: Callable[[str], str], tmp_path: Path
) -> None:
    # Both wait for what the swap parks: the one has no deadline, the other ten seconds.
    done = threading.Event()
    body = picture(PICTURES[0])

    def csharp(device: Device) -> tuple[int, int]:
        with device.channel() as channel:
            client, answers = CSharpClient(channel, service="line-1"), 0
            while not done.is_set():
                client.score(body)
                answers += 1
        return answers, client.tries

    def preview(device: Device) -> int:
        answers = 0
        with device.channel() as channel:
            client = PreviewClient(channel, pause=no_pause)
            while not done.is_set():
                client.score_image(PICTURES[0])
                answers += 1
        return answers

    with device_with(image("surface")) as device, ThreadPoolExecutor(4) as pool:
        ones = [pool.submit(csharp, device) for _ in range(2)]
        others = [pool.submit(preview, device) for _ in range(2)]
        events = [device.deploy(image(name))[-1] for name in ("surface-ms-fp11", "surface")]
        done.set()
        assert [event.state for event in events] == ["committed"] * 2
        for one in ones:
            answers, tries = one.result(30)
            assert answers == tries > 0
        assert all(other.result(30) > 0 for other in others)


def test_retries_without_a_pause_survive_a_dead_worker(image: Callable[[str], str]) -> None:
    with device_with(image("surface")) as device, device.channel() as channel:
        client = CSharpClient(channel)
        before = client.score(picture(PICTURES[0]))
        os.kill(device.status().model.worker_pid, signal.SIGKILL)
        np.testing.assert_array_equal(client.score(picture(PICTURES[0])), before)


@pytest.mark.long
@pytest.mark.parametrize(("input_name", "output_name"), ORIGINAL_NAMES)
def test_the_zoos_resnet50_has_the_names_of_the_original_samples(
    resnet50: Device, input_name: str, output_name: str
) -> None:
    with resnet50.channel() as channel:
        inputs = {input_name: wire.strings([PICTURES[0].read_bytes()])}
        scores = CSharpClient(channel).score(inputs, output_name)
    assert scores.shape == (1, 1000)
    assert scores.sum() == pytest.approx(1.0, abs=1e-3)
