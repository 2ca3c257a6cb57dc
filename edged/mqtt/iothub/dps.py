"""The device provisioning service: which hub a device belongs to, and as whom.

After "Use the DPS MQTT interface": a registration is asked for, and polled until it is assigned.

Invariants:
- The answer is remembered in ``assigned.json``, so that the service is needed once; it is asked
  again when the hub did not let us in as what it said.
- The key never leaves this process: a signature goes out, a device's own key is derived from its
  group's and not written anywhere.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edged.errors import ConfigError, LinkError, StoreError
from edged.mqtt.dialect import Endpoint, Message
from edged.mqtt.iothub import credentials, sas
from edged.mqtt.iothub.account import Account
from edged.mqtt.iothub.connection_string import check_host, check_name
from edged.mqtt.iothub.credentials import Files, Login
from edged.mqtt.iothub.topics import properties
from edged.mqtt.session import Session
from edged.mqtt.wallclock import Wallclock
from edged.osutil import atomic

logger = logging.getLogger(__name__)

API = "2019-03-31"
FILE = "assigned.json"
SUBSCRIPTION = "$dps/registrations/res/#"
SIGNED_FOR = 600.0  # seconds
ANSWER_LIMIT = 30.0  # seconds
PAUSES = (1.0, 30.0)  # seconds between two questions, whatever the service asks for
_ANSWER = re.compile(r"\$dps/registrations/res/([0-9]{3})/\?(.*)")


@dataclass(frozen=True)
class Registration:
    """How a device is known to the service.

    Attributes:
        scope: of the service (``id_scope``).
        name: of the registration.
        key: the device's own, in Base64; empty for a certificate.
        host: of the service.
        port: of it.
    """

    scope: str
    name: str
    key: str = field(default="", repr=False)
    host: str = "global.azure-devices-provisioning.net"
    port: int = 8883

    @property
    def login(self) -> Login:
        """Whom to be there."""
        resource = f"{self.scope}/registrations/{self.name}"
        return Login(
            host=self.host,
            port=self.port,
            client_id=self.name,
            username=f"{resource}/api-version={API}",
            resource=resource,
            key=self.key,
            policy="registration",
            hint="check id_scope, registration and the key or certificate in [mqtt], that the "
            "enrolment is enabled",
        )


class Provisioning:
    """Finds out which hub a device belongs to.

    Args:
        registration: how it is known.
        files: certificates.
        clock: for signatures.
        folder: for what is remembered.
    """

    def __init__(
        self, registration: Registration, files: Files, clock: Wallclock, folder: Path
    ) -> None:
        self._registration = registration
        self._files = files
        self._clock = clock
        self._path = folder / FILE

    async def account(self) -> Account:
        """Who the device is, as it was told or as it is told now.

        Raises:
            LinkError: it cannot be found out now.
        """
        known = await asyncio.to_thread(self._read)
        if known is not None:
            return known
        account = await self._register()
        await asyncio.to_thread(self._write, account)
        return account

    def forget(self) -> None:
        """The hub did not let us in: the service is asked again. Writes to the disk."""
        try:
            atomic.unlink(self._path, missing_ok=True)
        except StoreError as exc:
            logger.warning("%s", exc)

    async def _register(self) -> Account:
        where = await asyncio.to_thread(self._endpoint)
        answers: asyncio.Queue[Message] = asyncio.Queue()
        session = Session(where, (SUBSCRIPTION,), answers.put_nowait)
        logger.info("asking %s for our hub", where.host, extra={"event": "provision"})
        try:
            await session.open()
            return await _Talk(session, answers, self._registration, self._clock).register()
        finally:
            await session.close()

    def _endpoint(self) -> Endpoint:
        return credentials.endpoint(
            self._registration.login, self._files, self._clock, ttl=SIGNED_FOR
        )

    def _read(self) -> Account | None:
        mine = self._registration
        try:
            kept = json.loads(self._path.read_bytes()[:10_000])
            if (kept["scope"], kept["registration"]) != (mine.scope, mine.name):
                return None
            return _account(kept["hub"], kept["device"], mine.key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, ConfigError) as exc:
            logger.warning("cannot use %s: %s; the service is asked again", self._path, exc)
            return None

    def _write(self, account: Account) -> None:
        mine = self._registration
        kept = {"scope": mine.scope, "registration": mine.name}
        kept |= {"hub": account.hub, "device": account.device}
        try:
            atomic.write_file(self._path, json.dumps(kept, indent=2).encode() + b"\n")
        except StoreError as exc:
            logger.warning("our hub is not remembered: %s", exc)


class _Talk:
    """One registration over one session."""

    def __init__(
        self,
        session: Session,
        answers: asyncio.Queue[Message],
        registration: Registration,
        clock: Wallclock,
    ) -> None:
        self._session = session
        self._answers = answers
        self._registration = registration
        self._clock = clock
        self._request = 0

    async def register(self) -> Account:
        name = self._registration.name
        topic = "$dps/registrations/PUT/iotdps-register/?$rid={}"
        asked = json.dumps({"registrationId": name}).encode()
        status, said, pause = await self._ask(topic, asked)
        while status == 202:
            operation = said.get("operationId")
            if not isinstance(operation, str) or not re.fullmatch(r"[\w.:-]{1,200}", operation):
                raise self._failed("it names no operation to wait for")
            await asyncio.sleep(pause)
            topic = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid={}&operationId="
            status, said, pause = await self._ask(topic + operation, b"")
        return self._assigned(status, said, pause)

    async def _ask(self, topic: str, payload: bytes) -> tuple[int, Mapping[str, Any], float]:
        """Returns status, body, and the seconds to wait that came with it."""
        self._request += 1
        request = str(self._request)
        await self._session.publish(topic.format(request), payload)
        while True:
            message = await self._next()
            match = _ANSWER.fullmatch(message.topic)
            said = properties(match[2]) if match else {}
            if match is None or said.get("$rid") != request:
                continue
            after = said.get("retry-after", "")
            least, most = PAUSES
            pause = min(max(float(after) if after.isdigit() else least, least), most)
            return int(match[1]), _object(message.payload), pause

    async def _next(self) -> Message:
        coming = asyncio.ensure_future(self._answers.get())
        try:
            ends: set[asyncio.Future[Any]] = {coming, self._session.ended}
            await asyncio.wait(ends, timeout=ANSWER_LIMIT, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
        finally:
            coming.cancel()
        if self._session.ended.done() and (why := self._session.ended.result()) is not None:
            raise why
        raise self._failed(f"no answer within {ANSWER_LIMIT:g} s")

    def _assigned(self, status: int, said: Mapping[str, Any], pause: float) -> Account:
        state = said.get("registrationState")
        state = state if isinstance(state, Mapping) else {}
        if status == 429 or status >= 500:
            raise self._failed(f"it is busy ({status})", "wait", after=pause)
        if status != 200:
            raise self._failed(f"{status}: {said.get('message') or said.get('errorCode') or ''}")
        if said.get("status") != "assigned":
            cause = state.get("errorMessage") or state.get("errorCode") or ""
            raise self._failed(f"the registration is {said.get('status')!s:.40} {cause!s:.200}")
        self._note_time(state)
        try:
            return _account(state["assignedHub"], state["deviceId"], self._registration.key)
        except (KeyError, TypeError, ConfigError) as exc:
            raise self._failed(f"it names no hub: {exc}") from exc

    def _note_time(self, state: Mapping[str, Any]) -> None:
        """The service's clock was there already when it wrote this."""
        written = _unix(state.get("lastUpdatedDateTimeUtc"))
        if written is not None:
            self._clock.seen(written, at_least=True)

    def _failed(self, cause: str, fix: str = "", after: float = 0.0) -> LinkError:
        name, host = self._registration.name, self._registration.host
        fix = fix or "check id_scope, registration and the enrolment at the provisioning service"
        return LinkError(f"cannot provision {name!r} at {host}: {cause.strip()}", fix, after=after)


def _account(hub: object, device: object, key: str) -> Account:
    if not isinstance(hub, str) or not isinstance(device, str):
        raise TypeError("expected texts")
    return Account(check_host(hub, "assignedHub"), check_name(device, "deviceId"), key=key)


def _object(payload: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(payload) if payload else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _unix(text: object) -> float | None:
    """Seconds since 1970 of a time as the service writes it: 2026-01-31T12:00:00.1234567Z."""
    if not isinstance(text, str):
        return None
    try:
        at = dt.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=dt.timezone.utc)
    except ValueError:
        return None
    return at.timestamp()


def own_key(key: str, group_key: str, name: str) -> str:
    """The device's own key, from its group's if only that is given; empty for a certificate.

    Raises:
        ConfigError: what is given is no key.
    """
    if group_key:
        return sas.derive(sas.check_key(group_key, "group_key"), name)
    return key and sas.check_key(key, "shared_key")
