"""The hub's side of the dialect ``iothub``, on a real mosquitto.

From the outside in: ``front`` lets devices in and keeps the rules, ``identities`` knows who they
are, ``packets`` reads MQTT for it; ``hub`` answers them and is what tests speak with; ``twins`` and
``provisioning`` are what it answers from. That all this is so with the real one too is checked with
Microsoft's own client in tests/clients/test_azure.py.
"""

from tests.fakes.hub.hub import Hub, HubError, Patch, Telemetry

__all__ = ["Hub", "HubError", "Patch", "Telemetry"]
