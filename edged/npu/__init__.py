"""The NPU: programs, the device that runs them, and the definition of what it must answer.

- ``chains``, ``listing``, ``program``: what a program is; ``isa``, ``fileform``: how it is written;
  ``validate``: whether a device may run it; ``sku``, ``formats``: for which device and numbers.
- ``reference``: the definition, in NumPy.
- ``emulator``: the device, over the C extension ``_native``.
"""

from __future__ import annotations

from edged.npu import reference
from edged.npu.emulator import Device, open  # noqa: A004 - the package's verb, as in gzip.open
from edged.npu.formats import DEFAULT_FORMAT, FORMATS
from edged.npu.listing import Port
from edged.npu.program import Program

__all__ = ["DEFAULT_FORMAT", "FORMATS", "Device", "Port", "Program", "open", "reference"]
