"""Swaps under load, again and again: no request is lost, and nothing is left of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import swaps
from tests.e2e.device import ROOT, Device
from tests.fakes import images


@pytest.fixture
def real(short_folder: Path) -> Iterator[Device]:
    """A device with edged's own worker; its daemon is not started yet."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    short_folder.chmod(0o711)  # a container's user passes through
    device = Device(short_folder, "edged")
    yield device
    device.close()


def test_no_request_is_lost_and_each_answer_is_one_of_the_two_models(
    real: Device, tmp_path: Path
) -> None:
    references = swaps.build(tmp_path, "surface")
    real.start()
    outcome = swaps.run(real, references, requests=800, swaps=5)
    facts = outcome.facts()
    assert (facts["errors"], facts["wrong"]) == (0, 0), outcome.errors[:3]
    assert len(outcome.answers) >= 800
    assert outcome.failures == []
    assert len({each.digest for each in outcome.answers}) == 2
    assert len(outcome.blackouts) == 5
    # The figure itself is for a machine that does nothing else; see README.md.
    assert max(outcome.blackouts) < 2.0


@pytest.mark.long
def test_ten_thousand_requests_and_twenty_swaps_of_resnet50(real: Device, tmp_path: Path) -> None:
    references = swaps.build(tmp_path, "resnet50")
    runs = [sys.executable, "-m", "edged.containers.runc.probe", str(real.folder / "run")]
    (real.folder / "run").mkdir()
    runc = subprocess.run(runs, cwd=ROOT, capture_output=True, timeout=60, check=False)
    real.start("--runtime", "runc" if runc.returncode == 0 else "process")
    outcome = swaps.run(real, references, requests=10_000, swaps=20)
    facts = outcome.facts()
    assert (facts["errors"], facts["wrong"]) == (0, 0), outcome.errors[:3]
    assert len(outcome.answers) >= 10_000
    assert facts["swaps"] == 20
    assert float(str(facts["worst_blackout_ms"])) <= 150, facts
    assert float(str(facts["p99_ratio"])) <= 2.0, facts


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.long)])
def test_swaps_leave_nothing_behind(device: Device, count: int) -> None:
    """Neither memory nor files nor processes: after many swaps all is as after a few."""
    device.start("--window", "0.05")
    references = [images.write(device.folder / name, name, padding=100_000) for name in "ab"]
    bad = images.write(device.folder / "bad", "bad", behaviour={"probe": "fail"})

    def swap(times: int) -> tuple[int, int, int]:
        resident = []
        for number in range(times):
            events = device.deploy(references[number % 2])
            assert events[-1].state == "committed", events[-1].error
            assert device.predict(b"x")
            resident.append(resources(device)[0])
        device.deploy(bad)
        settle(device)
        # What the allocator holds goes up and down; what leaks is in the least of it too.
        return min(resident[-20:]), *resources(device)[1:]

    warm = 150 if count > 100 else 10
    memory, files, processes = swap(warm)  # the history is full then, or the sizes grow with it
    later, files_later, processes_later = swap(count)
    deadline = time.monotonic() + 30  # gRPC takes its time with the callers' connections
    while files_later > files and time.monotonic() < deadline:
        _, files_later, processes_later = resources(device)
    assert files_later <= files
    assert processes_later == processes == 1
    assert later <= memory * (1.01 if count > 100 else 1.15), f"{memory} bytes, then {later}"


def settle(device: Device) -> None:
    """Returns when the window of the last swap has passed and the model before has left."""
    deadline = time.monotonic() + 30
    while device.status().window_left_us or resources(device)[2] > 1:
        assert time.monotonic() < deadline, (device.status(), resources(device))


def resources(device: Device) -> tuple[int, int, int]:
    """Returns the daemon's resident bytes, open files, and the processes below it."""
    assert device.daemon is not None
    pid = device.daemon.pid
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (
        int(resident.split()[1]) * 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(children),
    )


def test_a_second_model_that_does_not_fit_into_memory_is_refused_with_the_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edged.deploy import device as host
    from edged.errors import DeviceError

    (tmp_path / "program.npu").write_bytes(bytes(50_000_000))
    needed = host.memory_needed(tmp_path)
    assert needed == host.WORKER_BYTES + 100_000_000
    host.check_memory(needed, None)
    host.check_memory(needed, needed)
    with pytest.raises(DeviceError, match=f"about {needed} bytes of memory, 1000 are available"):
        host.check_memory(needed, 1000)
    available = host.memory_available()
    assert available is not None
    assert available > 0
