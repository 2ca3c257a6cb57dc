"""What this device can run: its NPU by its shipped SKU, and the host's memory.

The SKU's document is the one ``edged.npu.sku`` reads; it is read here by its path, because the
daemon imports nothing of the NPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edged.errors import ConfigError, DeviceError, ModelError
from edged.oci.facts import ModelFacts

SKUS = Path(__file__).resolve().parents[1] / "npu" / "skus"
DEFAULT_SKU = "bw-cnn-a10"
# Of a worker without a model: Python, NumPy, onnxruntime, buffers for a picture; measured.
WORKER_BYTES = 96 * 1024 * 1024
# What loading a model takes for each byte of its folder at most: as a file, and encoded.
BYTES_PER_BYTE = 2


@dataclass(frozen=True)
class Npu:
    """The accelerator that models have to fit.

    Attributes:
        sku: its name.
        formats: names of the number formats it runs.
        memory: bytes for weights and activations together.
    """

    sku: str
    formats: tuple[str, ...]
    memory: int

    @classmethod
    def named(cls, sku: str = DEFAULT_SKU) -> Npu:
        """Returns the shipped SKU of that name.

        Raises:
            ConfigError: it is not shipped.
        """
        shipped = sorted(path.stem for path in SKUS.glob("*.json"))
        if sku not in shipped:
            raise ConfigError(f"cannot use sku {sku!r}: expected one of {', '.join(shipped)}")
        document = json.loads((SKUS / f"{sku}.json").read_bytes())
        return cls(document["name"], tuple(document["formats"]), document["memory_bytes"])

    def check(self, facts: ModelFacts) -> None:
        """Raises if a model is for another NPU.

        Raises:
            ModelError: names what this one is and what the model needs.
        """
        named = f"cannot run {facts.name!r} {facts.version}"
        if facts.sku != self.sku:
            raise ModelError(f"{named}: it is for SKU {facts.sku!r}, this device is {self.sku!r}")
        if facts.format not in self.formats:
            raise ModelError(
                f"{named}: it has format {facts.format!r}, SKU {self.sku} runs "
                f"{', '.join(self.formats)}"
            )
        if facts.memory > self.memory:
            raise ModelError(
                f"{named}: it needs {facts.memory} bytes on the NPU, SKU {self.sku} has "
                f"{self.memory}"
            )


def memory_needed(folder: Path) -> int:
    """Returns about how many bytes a worker takes that has the model in ``folder``."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return WORKER_BYTES + BYTES_PER_BYTE * size


def memory_available() -> int | None:
    """Returns the bytes that can still be had without swapping; None if the host does not say.

    Source: MemAvailable of proc(5), and the limit of our own control group where there is one.
    """
    found = [each for each in (_host(), _group()) if each is not None]
    return min(found) if found else None


def check_memory(needed: int, available: int | None) -> None:
    """Raises if another worker would not fit beside the one that serves.

    Raises:
        DeviceError: with both numbers.
    """
    if available is not None and available < needed:
        raise DeviceError(
            f"cannot load the model beside the one in service: it needs about {needed} bytes of "
            f"memory, {available} are available; free some, or 'edged undeploy' first"
        )


def _host() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _group() -> int | None:
    """Returns what is left of our control group's limit, version 2 or 1."""
    for limit, usage, stat, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        root = Path("/sys/fs/cgroup")
        try:
            allowed = int((root / limit).read_text(encoding="ascii"))
            used = int((root / usage).read_text(encoding="ascii"))
            counts = (root / stat).read_text(encoding="ascii").split()
            free = int(dict(zip(counts[::2], counts[1::2], strict=True)).get(cache, 0))
        except (OSError, ValueError):  # no such version here, or "max"
            continue
        return max(allowed - used + free, 0)
    return None
