"""The hub's side of the dialect ``iothub``, on a real mosquitto.

From the outside in: ``front`` lets devices in by the ``rules``, ``identities`` knows who they are,
``packets`` reads MQTT for it; ``service`` answers them, from ``twins`` and ``provisioning``;
``hub`` is what tests speak with. That all this is so with the real one too is checked with
Microsoft's own client in tests/clients/test_azure.py.
"""

from tests.fakes.hub.hub import Hub, HubError
from tests.fakes.hub.service import Patch, Report, Telemetry

__all__ = ["Hub", "HubError", "Patch", "Report", "Telemetry"]
