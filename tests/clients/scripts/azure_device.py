"""A device on Microsoft's own client (azure-iot-device).

Arguments: ``ca``, the file of whom to trust; ``host``; and one of

- ``connection_string``, of a device or, with ModuleId, of a module;
- ``device``, ``certificate``, ``key``: by its certificate;
- ``scope``, ``registration`` with ``symmetric_key``, or with ``certificate`` and ``key``: it asks
  the provisioning service first.

It connects, and then says what its handlers hear, one line each; it sends what ``send`` lists, as
pairs of a kind (``report``, ``message``, ``twin``) and a value. A call that does not end in time is
told like an error: the client itself waits for ever.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azure.iot.device import (
    X509,
    IoTHubDeviceClient,
    IoTHubModuleClient,
    Message,
    MethodResponse,
    ProvisioningDeviceClient,
)

from tests.clients.scripts.lines import arguments, tell

LIMIT = 30.0  # seconds for one call
ARGUMENTS = arguments()
TRUST = {"server_verification_cert": Path(ARGUMENTS["ca"]).read_text()}


def limited(what: str, call: Callable[[], Any]) -> Any:
    """Runs a call on a thread and tells what came of it; returns its value, or None."""
    facts: dict[str, Any] = {"error": f"not within {LIMIT} s"}

    def run() -> None:
        try:
            facts["value"] = call()
            facts["error"] = ""
        except Exception as exc:  # noqa: BLE001 - whatever it is, the test is to see it
            causes = [exc, exc.__cause__]
            facts["error"] = "; ".join(f"{type(each).__name__}: {each}" for each in causes if each)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    value = facts.get("value")
    shown = value if isinstance(value, dict | str | None) else str(value)
    tell(step=what, error=facts["error"], value=shown)
    return value


def certificate() -> X509:
    return X509(ARGUMENTS["certificate"], ARGUMENTS["key"])


def provision() -> tuple[str, str]:
    """Returns hub and device as the service says."""
    given = (ARGUMENTS["host"], ARGUMENTS["registration"], ARGUMENTS["scope"])
    if key := ARGUMENTS.get("symmetric_key"):
        client = ProvisioningDeviceClient.create_from_symmetric_key(*given, key, **TRUST)
    else:
        client = ProvisioningDeviceClient.create_from_x509_certificate(
            *given, certificate(), **TRUST
        )
    result = limited("register", client.register)
    tell(step="assigned", status=result.status)
    state = result.registration_state
    return state.assigned_hub, state.device_id


def make() -> Any:
    """Returns a client that is not connected yet."""
    if text := ARGUMENTS.get("connection_string"):
        kind = IoTHubModuleClient if "ModuleId=" in text else IoTHubDeviceClient
        return kind.create_from_connection_string(text, **TRUST)
    if "registration" in ARGUMENTS:
        hub, device = provision()
        if key := ARGUMENTS.get("symmetric_key"):
            return IoTHubDeviceClient.create_from_symmetric_key(key, hub, device, **TRUST)
    else:
        hub, device = ARGUMENTS["host"], ARGUMENTS["device"]
    return IoTHubDeviceClient.create_from_x509_certificate(certificate(), hub, device, **TRUST)


def message(given: dict[str, Any]) -> Message:
    made = Message(given["body"], content_encoding="utf-8", content_type="application/json")
    made.custom_properties.update(given.get("properties", {}))
    return made


def listen(client: Any) -> None:
    """Has everything that comes told; a method is answered with what it was given."""

    def called(request: Any) -> None:
        tell(heard="method", name=request.name, payload=request.payload)
        answer = MethodResponse.create_from_method_request(
            request, 207, {"name": request.name, "payload": request.payload}
        )
        client.send_method_response(answer)

    def state() -> None:
        tell(heard="state", connected=client.connected)

    client.on_twin_desired_properties_patch_received = lambda patch: tell(
        heard="patch", patch=patch
    )
    client.on_method_request_received = called
    client.on_connection_state_change = state


def main() -> None:
    client = make()
    limited("connect", client.connect)
    if not client.connected:
        return
    listen(client)
    sends = {
        "report": client.patch_twin_reported_properties,
        "message": lambda given: client.send_message(message(given)),
        "twin": lambda _: client.get_twin(),
    }
    for kind, value in ARGUMENTS.get("send", []):
        limited(kind, functools.partial(sends[kind], value))
    tell(step="ready")
    threading.Event().wait()  # until the test ends us


if __name__ == "__main__":
    main()
