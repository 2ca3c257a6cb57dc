"""What only a real model shows over MQTT: times on the NPU, its golden test, a loaded restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edged import oci
from edged.npu import Program
from edged.npu.timing import predicted_us
from tests.e2e.device import Device
from tests.e2e.hostile import GOOD, PICTURES, request
from tests.e2e.mqtt import ways
from tests.e2e.mqtt.conftest import Configure
from tests.fakes.broker import Broker
from tests.fakes.plant import Plant

BODY = request(GOOD).SerializeToString()


@pytest.fixture
def real(short_folder: Path) -> Iterator[Device]:
    device = Device(short_folder, "edged")
    yield device
    device.close()


def ended(plant: Plant, name: str) -> dict[str, Any]:
    """Calls a method and returns its task when that has ended."""
    answer = plant.call(name)
    assert answer["status"] == 202, answer
    correlation = {"correlationId": answer["payload"]["correlationId"]}
    while True:
        task: dict[str, Any] = plant.call("GetTaskStatus", correlation)["payload"]
        if task["status"] != "Running":
            return task


@pytest.mark.long
def test_times_results_and_the_golden_test_of_a_real_model(
    real: Device,
    configure: Configure,
    broker: Broker,
    plant: Plant,
    surface_image: str,
    tmp_path: Path,
) -> None:
    settings = {"results": True, "results_rate": 50, "telemetry_interval": 1}
    configure(real, {**ways.plain_settings(broker), **settings})
    real.start()
    plant.desired({"image": surface_image})
    plant.until(lambda: plant.reported().get("desired", {}).get("outcome") == "applied", 60)
    oci.open_image(surface_image).unpack_model(tmp_path / "model")
    board_us = sum(predicted_us(Program.load(tmp_path / "model" / "program.npu")))
    for _ in range(3):
        real.predict(BODY)

    # A report that follows has the times of here beside those of the board, and never mixed.
    assert ended(plant, "RunSelfTest")["status"] == "Completed"
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(real.predict, BODY) for _ in range(40)]
        assert ended(plant, "RestartModule")["status"] == "Completed"
        assert len({each.result() for each in answers}) >= 1, "no request is lost by a restart"
    wanted = {"predicted_ms", "measured_ms"}  # not while its process is started anew
    plant.until(lambda: wanted <= set(plant.reported().get("npu", {})), 60)
    npu = next(each["npu"] for each in plant.reports()[::-1] if wanted <= set(each["npu"]))
    assert npu["predicted_ms"] == pytest.approx(board_us / 1e3, abs=1e-3)
    assert npu["measured_ms"] > 0
    assert npu["sku"] == "bw-cnn-a10"
    assert npu["isa"]

    results = plant.until(lambda: plant.heard("result"), 60)
    first = json.loads(results[0].payload)
    assert PICTURES[0].name.startswith(first["top"][0]["label"])
    assert first["times_us"]["npu"] > 0
    counted = plant.until(
        lambda: (
            sum(each.json()["counts"]["answered"] for each in plant.heard("telemetry")) == 43
            and [each.json() for each in plant.heard("telemetry")]
        ),
        60,
    )
    assert any(each["latency_us"]["p99"] > 0 for each in counted)
    assert any(each["stages_us"].get("npu", 0) > 0 for each in counted)
