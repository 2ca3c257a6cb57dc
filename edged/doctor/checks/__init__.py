"""The checks, by group, in the order they are shown.

A new check is a function of the ``World`` in the module of its group and a line in its ``GROUP``; a
new group is a module and a line here.
"""

from __future__ import annotations

from edged.doctor.check import Group
from edged.doctor.checks import (
    callers,
    certificates,
    clock,
    configuration,
    host,
    keys,
    network,
    npu,
    sandbox,
    service,
    store,
)

GROUPS: tuple[Group, ...] = (
    configuration.GROUP,
    clock.GROUP,
    certificates.GROUP,
    callers.GROUP,
    keys.GROUP,
    npu.GROUP,
    store.GROUP,
    sandbox.GROUP,
    service.GROUP,
    network.GROUP,
    host.GROUP,
)
