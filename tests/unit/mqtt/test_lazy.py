"""Whoever has no controller pays nothing for MQTT."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["edged.daemon", "edged.cli.status", "edged.config"])
def test_paho_is_imported_only_where_there_is_a_link(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in sys.modules if m.split('.')[0] == 'paho' "
        "or m.startswith('edged.mqtt') or m == 'sqlite3'])"
    )
    # Coverage of child processes keeps its data in sqlite3, and would be what is found.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert done.stdout.strip() == "[]"
