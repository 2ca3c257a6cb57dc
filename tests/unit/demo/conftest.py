"""Imports the demo's scripts from their own folder: they are no part of the package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).resolve().parents[3] / "packaging" / "demo"
SCRIPTS = ("draw", "defects", "materials", "measure", "preprocess")


@pytest.fixture(scope="session")
def demo() -> Path:
    return DEMO


@pytest.fixture(scope="module")
def scripts() -> Iterator[None]:
    """The demo's folder on sys.path, and nothing of it left in sys.modules afterwards."""
    sys.path.insert(0, str(DEMO))
    try:
        yield
    finally:
        sys.path.remove(str(DEMO))
        for name in SCRIPTS:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def draw(scripts: None) -> ModuleType:
    return importlib.import_module("draw")


@pytest.fixture(scope="module")
def measure(scripts: None) -> ModuleType:
    return importlib.import_module("measure")


@pytest.fixture(scope="module")
def preprocess(scripts: None) -> ModuleType:
    return importlib.import_module("preprocess")
