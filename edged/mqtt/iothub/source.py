"""Who the device is, as the configuration has it; asked before each connection.

So secrets and certificates can be changed without a restart.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from edged.config.mqtt import Mqtt
from edged.errors import ConfigError
from edged.mqtt.dialect import Endpoint, Will
from edged.mqtt.iothub import connection_string, credentials, sas
from edged.mqtt.iothub.account import Account
from edged.mqtt.iothub.credentials import Files, Login
from edged.mqtt.iothub.dps import Provisioning, Registration, own_key
from edged.mqtt.wallclock import Wallclock


class Source:
    """Where accounts come from.

    Args:
        settings: of MQTT.
        clock: the wall clock.
        folder: for what is remembered.
    """

    def __init__(self, settings: Mqtt, clock: Wallclock, folder: Path) -> None:
        self._settings = settings
        self._clock = clock
        self._folder = folder

    @property
    def files(self) -> Files:
        """Certificates."""
        return Files(self._settings.ca_file, self._settings.cert_file, self._settings.key_file)

    async def account(self) -> Account:
        """Who the device is; may have it provisioned.

        Raises:
            ConfigError: what is configured cannot be used.
            LinkError: it cannot be found out now.
        """
        if not self._settings.id_scope:
            return await asyncio.to_thread(self._configured)
        account = await (await asyncio.to_thread(self._provisioning)).account()
        return dataclasses.replace(account, module=self._settings.module)

    async def endpoint(self, account: Account, will: Will) -> Endpoint:
        """Where to connect now.

        Raises:
            ConfigError: what is configured cannot be used.
            LinkError: there is no connecting now.
        """
        settings = self._settings
        login = Login(
            host=account.host,
            port=settings.port or credentials.PORT,
            client_id=account.client_id,
            username=account.username,
            resource=account.resource,
            key=account.key,
            hint="check the key or certificate in [mqtt], that the device is known to the hub and "
            "enabled",
        )
        return await asyncio.to_thread(
            credentials.endpoint,
            login,
            self.files,
            self._clock,
            ttl=settings.sas_ttl,
            keepalive=settings.keepalive,
            will=will,
        )

    def refused(self) -> None:
        """There is no such hub, or not for us: what the service said may be old. Writes."""
        if self._settings.id_scope:
            self._provisioning().forget()

    def _provisioning(self) -> Provisioning:
        settings = self._settings
        key = own_key(
            settings.secret("shared_key"), settings.secret("group_key"), settings.registration
        )
        registration = Registration(
            settings.id_scope,
            settings.registration,
            key,
            settings.provisioning_host,
            settings.provisioning_port,
        )
        return Provisioning(registration, self.files, self._clock, self._folder)

    def _configured(self) -> Account:
        settings = self._settings
        if text := settings.secret("connection_string"):
            account = connection_string.parse(text)
            if settings.module and settings.module != account.module:
                raise ConfigError(
                    f"cannot use module {settings.module!r} in [mqtt]: the connection string is "
                    f"that of {account.client_id!r}"
                )
            return account
        key = settings.secret("shared_key")
        return Account(
            connection_string.check_host(settings.host, "host in [mqtt]"),
            connection_string.check_name(settings.device, "device in [mqtt]"),
            settings.module and connection_string.check_name(settings.module, "module in [mqtt]"),
            key and sas.check_key(key, "shared_key"),
        )
