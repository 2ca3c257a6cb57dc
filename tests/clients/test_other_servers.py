"""edged's client asks a server that is not edged's: one of tensorflow-serving-api's stubs."""

from __future__ import annotations

import pytest

from tests.clients import foreign
from tests.clients.environments import TENSORFLOW
from tests.clients.foreign import Outcome

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    outcomes = foreign.run(TENSORFLOW.python(), "server", {}, tmp_path_factory.mktemp("server"))
    assert not [outcome for outcome in outcomes.values() if outcome.error], outcomes
    return outcomes


def test_a_server_without_health_is_ready_when_it_can_be_reached(
    outcomes: dict[str, Outcome],
) -> None:
    assert outcomes["ready"].value


@pytest.mark.parametrize("case", ["arrays", "arrays_of_one_value"])
def test_arrays_of_every_type_come_back(outcomes: dict[str, Outcome], case: str) -> None:
    assert len(outcomes[case].value) == 12
    assert all(outcomes[case].value.values()), outcomes[case].value


def test_an_empty_array_comes_back(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["an_empty_array"].value


def test_strings_come_back(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["strings"].value == ["echo", [b"one".hex(), "", "ff00"]]
