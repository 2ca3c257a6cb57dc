"""What every test may rely on: the --long option, hypothesis profiles and the shared pictures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports onnxruntime: some builds of it upload telemetry unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

ROOT = Path(__file__).resolve().parent.parent
# Python 3.10 has none after 1.23. Before 1.29 an average pool that counts its padding counted the
# overhang of ceil_mode too.
ONNXRUNTIME = tuple(int(part) for part in metadata.version("onnxruntime").split(".")[:2])

# No deadlines anywhere: machines that run this are small, shared and sometimes emulated, and a
# slow example is no bug. Time limits that matter are asserted by the tests that mean them.
settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=25)
settings.register_profile("long", settings.get_profile("default"), max_examples=400)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--hypothesis-profile", default=None):
        return
    if config.getoption("--long"):
        settings.load_profile("long")
    else:
        settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes long: run with --long")
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(skip)


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder where syncing costs nothing, if the machine has one: for thousands of writes."""
    shared = Path("/dev/shm")
    usable = os.access(shared, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="edged-", dir=shared if usable else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of pictures and reference models that are too large, or not ours, to keep here.

    ``EDGED_TEST_DATA`` names it; otherwise it is looked for beside the repository.
    """
    given = os.environ.get("EDGED_TEST_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared test data at {folder}: set EDGED_TEST_DATA to its folder")
    return folder
