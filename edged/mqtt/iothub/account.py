"""Who a device or a module is at a hub, and what that makes of user names, topics and signatures.

After "Communicate with an IoT hub using the MQTT protocol". Names stand in topics as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

API = "2021-04-12"


@dataclass(frozen=True)
class Account:
    """One identity at a hub.

    Attributes:
        hub: the hub's host name.
        device: name of the device.
        module: name of the module; empty for the device itself.
        key: symmetric, in Base64; empty if it is known by its certificate.
        gateway: a host to connect to in place of the hub.
    """

    hub: str
    device: str
    module: str = ""
    key: str = field(default="", repr=False)
    gateway: str = ""

    @property
    def host(self) -> str:
        """Where to connect."""
        return self.gateway or self.hub

    @property
    def client_id(self) -> str:
        """The client identifier, of which there is one connection at a time."""
        return f"{self.device}/{self.module}" if self.module else self.device

    @property
    def username(self) -> str:
        """For CONNECT."""
        return f"{self.hub}/{self.client_id}/?api-version={API}"

    @property
    def resource(self) -> str:
        """What signatures are of."""
        return f"{self.hub}/{self._path}"

    @property
    def events(self) -> str:
        """The topic of telemetry, before its properties."""
        return f"{self._path}/messages/events/"

    @property
    def _path(self) -> str:
        module = f"/modules/{self.module}" if self.module else ""
        return f"devices/{self.device}{module}"
