"""Models that many tests only read, built once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.worker.pipeline import Pipeline
from tests.unit.worker import models


@pytest.fixture(scope="session")
def built_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that takes pictures; not to be changed."""
    return models.write(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def tensor_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same model for tensors; not to be changed."""
    return models.write(tmp_path_factory.mktemp("tensors"), pictures=False)


@pytest.fixture
def model(built_model: Path, tmp_path: Path) -> Path:
    """A copy of the model that takes pictures, to damage."""
    return Path(shutil.copytree(built_model, tmp_path / "model"))


@pytest.fixture(scope="session")
def pipeline(built_model: Path) -> Iterator[Pipeline]:
    """The model that takes pictures, ready to run."""
    opened = Pipeline.open(built_model, threads=1)
    yield opened
    opened.close()
