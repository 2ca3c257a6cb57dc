"""Messages of almost 64 MiB both ways, with a real model, as arrays and as typed floats."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.client import Client
from edged.errors import RequestError
from tests.clients import models
from tests.clients.models import INPUT, INPUT_SHAPE, MAPS, SCORES
from tests.e2e.device import CALL_LIMIT, Device

MESSAGE_LIMIT = 64 * 1024 * 1024
ITEM = int(np.prod(INPUT_SHAPE)) * 4  # bytes; the output MAPS has as many
FITS = MESSAGE_LIMIT // ITEM


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """Serves a net of 150,528 floats, with an output of the same size."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    reference = models.build_net(tmp_path_factory.mktemp("images"))
    folder = Path(tempfile.mkdtemp(prefix="edged-"))  # short, for the sockets in it
    device = Device(folder, "edged")
    try:
        device.start()
        assert device.deploy(reference)[-1].state == "committed"
        yield device
    finally:
        device.close()
        shutil.rmtree(folder)


def pixels(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    one = np.random.default_rng(2).normal(size=(1, *INPUT_SHAPE)).astype(np.float32)
    return np.repeat(one, count, axis=0)


def test_almost_64_mib_go_in_and_come_back(net: Device) -> None:
    batch = pixels(FITS)
    assert batch.nbytes > 0.98 * MESSAGE_LIMIT
    with Client(net.address) as client:
        maps = client.score_numpy_arrays({INPUT: batch}, outputs=MAPS, timeout=CALL_LIMIT)
        assert isinstance(maps, np.ndarray)
        assert (maps.shape, maps.nbytes) == (batch.shape, batch.nbytes)
        np.testing.assert_array_equal(maps, np.repeat(maps[:1], FITS, axis=0))


def test_one_picture_more_is_refused_and_the_next_request_served(net: Device) -> None:
    with Client(net.address) as client:
        with pytest.raises(RequestError) as caught:
            client.predict({INPUT: pixels(FITS + 1)}, outputs=SCORES, timeout=CALL_LIMIT)
        assert caught.value.code == "RESOURCE_EXHAUSTED"
        assert client.predict({INPUT: pixels(1)}, outputs=SCORES).attempts == 1
