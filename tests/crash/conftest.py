"""A plant with signed images, in memory where there is room for them."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.plant import Plant


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Thousands of starts on damaged disks have a lot to say."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder in memory where there is one: what is tried here does not depend on the disk."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edged-crash-", dir=place) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def plant(base: Path) -> Plant:
    return Plant(base)
