"""edged's client in one process with TensorFlow, its serving stubs, gRPC health and google.rpc."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import foreign
from tests.clients.environments import TENSORFLOW
from tests.clients.models import PICTURES
from tests.e2e.device import Device

pytestmark = pytest.mark.long

OURS = ["edged", "edged.client", "edged.messages"]
STUBS = ["tensorflow_serving.apis.prediction_service_pb2_grpc"]
HEALTH = ["grpc_health.v1.health_pb2_grpc", "google.rpc.error_details_pb2"]
TF = ["tensorflow"]
ORDERS = {
    "edged first": [*OURS, *TF, *STUBS, *HEALTH],
    "edged last": [*HEALTH, *TF, *STUBS, *OURS],
    "messages alone first": ["edged.messages", *STUBS, *TF, *HEALTH, *OURS],
    "between TensorFlow and the stubs": [*TF, *OURS, *STUBS, *HEALTH],
    "between the stubs and TensorFlow": [*STUBS, *OURS, *HEALTH, *TF],
    "after health": [*HEALTH, *OURS, *STUBS, *TF],
}


@pytest.mark.parametrize("order", ORDERS)
def test_all_of_them_work_whatever_is_imported_first(
    surface: Device, tmp_path: Path, order: str
) -> None:
    given = {
        "order": ORDERS[order],
        "target": surface.address,
        "picture": str(PICTURES[0]),
    }
    outcomes = foreign.run(TENSORFLOW.python(), "imports", given, tmp_path)
    assert not [outcome for outcome in outcomes.values() if outcome.error]
    scores = outcomes["by_the_stubs"].value
    assert sum(scores[0]) == pytest.approx(1.0, abs=1e-3)
    assert outcomes["by_edgeds_client"].value == scores
    assert outcomes["by_edgeds_messages"].value == scores
    known = [["output_alias", "probabilities"], ["AVAILABLE"]]
    assert outcomes["what_edgeds_client_knows"].value == known
    assert outcomes["health"].value == 1  # SERVING
    assert all(outcomes["pools"].value.values()), outcomes["pools"].value
