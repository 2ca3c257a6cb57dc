"""Seeds and mutations of them, the same in every run: what the fuzzer does, for a few seconds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edged.worker import tensors
from edged.worker.stages import image
from tests.fuzz.mutate import MUTATIONS
from tests.fuzz.targets import TARGETS

# What Pillow warns of is no harm; the worker does not listen either.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MUTANTS = 10_000
HARDLY_ANY = {"request": 0.05, "picture": 0.05, "program": 0.01}


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[tuple[str, Callable[[bytes], bool]]]:
    with pytest.MonkeyPatch.context() as patch:
        # The targets set these lower; afterwards they are as they were.
        for module, name in (
            (tensors, "SIZE_LIMIT"),
            (image, "MAX_PIXELS"),
            (image, "MAX_SCANNED"),
        ):
            patch.setattr(module, name, getattr(module, name))
        yield request.param, TARGETS[request.param]()


def test_most_seeds_are_accepted(target: tuple[str, Any]) -> None:
    _, check = target
    accepted = [check(data) for data in check.seeds()]
    assert len(accepted) >= 5
    assert sum(accepted) >= 0.8 * len(accepted)


def test_no_mutant_does_harm_and_some_are_accepted(target: tuple[str, Any]) -> None:
    name, check = target
    seeds = list(check.seeds())
    choice = random.Random(name)
    accepted = 0
    for _ in range(MUTANTS):
        data = choice.choice(seeds)
        for _ in range(choice.choice((1, 1, 2))):
            data = MUTATIONS[name](data, choice)
        accepted += check(data)
    assert HARDLY_ANY[name] * MUTANTS < accepted < MUTANTS
