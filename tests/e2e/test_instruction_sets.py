"""A device with each set of kernels in place of the best: the same answers, or a word why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edged.npu import _native
from tests.e2e import hostile
from tests.e2e.device import Device

REQUEST = hostile.request(*(path.read_bytes() for path in hostile.PICTURES)).SerializeToString()
# No processor has both.
FOREIGN = "avx2" if "neon" in _native.available() else "neon"


@pytest.fixture
def edged_device(short_folder: Path) -> Iterator[Device]:
    device = Device(short_folder, "edged")
    yield device
    device.close()


@pytest.fixture(scope="module")
def portable_answer(surface_image: str, served: Callable[[str], Device]) -> npt.NDArray[Any]:
    """What the portable kernels make of the demo's pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGED_ISA", "portable")
        device = served(surface_image)
    assert device.status().model.isa == "portable"
    return hostile.scores(device.predict(REQUEST))


@pytest.mark.parametrize("isa", _native.available())
def test_a_device_serves_with_the_kernels_it_is_told_to_use(
    edged_device: Device, surface_image: str, portable_answer: npt.NDArray[Any], isa: str
) -> None:
    edged_device.start("--isa", isa)
    assert edged_device.deploy(surface_image)[-1].state == "committed"
    assert edged_device.status().model.isa == isa
    assert f"kernels '{isa}' event=loaded" in edged_device.log_text()
    assert np.array_equal(hostile.scores(edged_device.predict(REQUEST)), portable_answer)


def test_kernels_this_cpu_lacks_are_refused_with_those_it_has(
    edged_device: Device, surface_image: str
) -> None:
    edged_device.start("--isa", FOREIGN)
    last = edged_device.deploy(surface_image)[-1]
    assert last.state == "failed"
    assert f"this CPU has no kernels '{FOREIGN}', expected one of " in last.error
    assert ", ".join(_native.available()) in last.error
