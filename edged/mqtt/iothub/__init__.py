"""The dialect ``iothub``: Azure IoT Hub, or what speaks as it does, as a device or as a module.

``account`` says who we are and what that makes of names; ``credentials`` lets us in;
``dps`` finds out who we are where only a registration is given; ``topics`` and ``twin`` are the
hub's grammar, without any input or output; ``dialect`` speaks it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edged.mqtt.control import Control
from edged.mqtt.wallclock import Wallclock

if TYPE_CHECKING:
    from edged.config.mqtt import Mqtt
    from edged.mqtt.iothub.dialect import IotHub


def make(settings: Mqtt, control: Control, clock: Wallclock, folder: Path) -> IotHub:
    """Returns the dialect as it is configured.

    Args:
        settings: with ``dialect = "iothub"``.
        control: of the device.
        clock: the wall clock.
        folder: for what is remembered; there already.
    """
    from edged.mqtt.iothub.dialect import IotHub
    from edged.mqtt.iothub.source import Source

    return IotHub(control, clock, Source(settings, clock, folder))
