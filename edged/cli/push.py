"""``edged push REF``: has a device far away bring a model into service, over a plant's broker."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli import _progress
from edged.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from edged.mqtt.dialect import Endpoint

HELP = "have a device bring a model into service, over an MQTT broker, and follow it"
PORTS = {"mqtt": 1883, "mqtts": 8883}
PATIENCE = 30.0
SECRET_LIMIT = 4096  # bytes of a password's line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "reference",
        metavar="REF",
        nargs="?",
        help="docker://HOST/NAME:TAG|@DIGEST, as the device can reach it",
    )
    parser.add_argument(
        "--broker", metavar="URL", required=True, help="mqtts://HOST[:PORT], or mqtt:// without TLS"
    )
    parser.add_argument(
        "--device", metavar="ID", required=True, help="as its edged.toml calls it ([mqtt] device)"
    )
    parser.add_argument("--undeploy", action="store_true", help="no model instead of REF")
    parser.add_argument("--digest", metavar="SHA256", help="which image it has to be")
    parser.add_argument("--counter", type=int, metavar="N", help="which the image has to announce")
    parser.add_argument("--force", action="store_true", help="although the device is held")
    parser.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="although one of the same name and key with a higher counter was in service",
    )
    parser.add_argument("--ca-file", type=Path, metavar="PEM", help="authorities to trust, too")
    parser.add_argument("--cert-file", type=Path, metavar="PEM", help="our own certificate")
    parser.add_argument("--key-file", type=Path, metavar="PEM", help="its private key")
    parser.add_argument("--username", metavar="NAME", default="", help="at the broker")
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="has the password in its first line"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"to wait for the device's first answer; {PATIENCE:g} by default",
    )
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the device")
    parser.add_argument("--json", action="store_true", help="one JSON object per report")


def run(arguments: argparse.Namespace) -> int:
    """Pushes and shows the progress; returns 0 when the device is as it was asked to be."""
    document = _document(arguments)
    endpoint = _endpoint(arguments)
    return asyncio.run(_push(arguments, endpoint, document))


async def _push(arguments: argparse.Namespace, endpoint: Endpoint, document: dict[str, Any]) -> int:
    from edged.mqtt.push import Pusher

    pusher = Pusher(arguments.device, arguments.timeout)
    shown = _progress.Progress(sys.stderr)
    last: dict[str, Any] | None = None
    async for last in pusher.push(endpoint, document, wait=not arguments.no_wait):
        if arguments.json:
            print(json.dumps(last), flush=True)
        else:
            deployment = last.get("deployment")
            shown.show(deployment if isinstance(deployment, dict) else {})
    shown.end()
    if last is None:
        if arguments.json:
            print(json.dumps({"published": True, "device": arguments.device}))
        else:
            print(f"set for {arguments.device}; it is not known what the device makes of it")
        return 0
    _raise_unless_applied(arguments, last["desired"])
    if not arguments.json:
        print(_done(arguments, last))
    return 0


def _raise_unless_applied(arguments: argparse.Namespace, desired: dict[str, Any]) -> None:
    """Raises if the device did not do it.

    Raises:
        DeviceError: says why, in the device's words.
    """
    outcome = str(desired.get("outcome"))
    if outcome == "applied":
        return
    why = _printable(desired.get("error") or "it does not say why")
    fix = _printable(desired.get("fix") or "")
    kept = "what served before serves on" if outcome in ("failed", "invalid") else ""
    parts = [why, fix if fix and fix not in why else "", kept]
    raise DeviceError(f"cannot push to {arguments.device}: {'; '.join(p for p in parts if p)}")


def _done(arguments: argparse.Namespace, report: dict[str, Any]) -> str:
    if arguments.undeploy:
        return f"{arguments.device} has no model in service"
    model = report.get("model")
    if not isinstance(model, dict):
        return f"done at {arguments.device}"
    named = f"{model.get('name', '')} {model.get('version', '')}".strip()
    return (
        _printable(f"{named} is in service at {arguments.device}")
        + "\n"
        + _printable(model.get("digest", ""))
    )


def _document(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what the device is to have, checked as the device will check it.

    Raises:
        ConfigError: it makes no sense.
    """
    from edged.errors import RequestError
    from edged.mqtt import desired

    if (arguments.reference is None) != arguments.undeploy:
        raise ConfigError("cannot push: give either REF or --undeploy")
    document: dict[str, Any] = {"status": "stopped" if arguments.undeploy else "running"}
    if arguments.reference is not None:
        document["image"] = arguments.reference
    if arguments.digest is not None:
        document["digest"] = arguments.digest
    if arguments.counter is not None:
        document["counter"] = arguments.counter
    if arguments.force or arguments.allow_downgrade:
        document["policy"] = {
            "force": arguments.force,
            "allowDowngrade": arguments.allow_downgrade,
        }
    try:
        desired.own(document)
    except RequestError as exc:
        raise ConfigError(str(exc).replace("the desired document", "what is to be pushed")) from exc
    return document


def _endpoint(arguments: argparse.Namespace) -> Endpoint:
    """Returns how to reach the broker.

    Raises:
        ConfigError: a flag makes no sense, or a file cannot be read.
    """
    import secrets

    from edged.mqtt import tls
    from edged.mqtt.dialect import Endpoint
    from edged.mqtt.plain import check_device

    check_device(arguments.device)
    if not 0 < arguments.timeout <= 86400:
        raise ConfigError(f"cannot use --timeout {arguments.timeout:g}: expected 0 to 86400")
    scheme, host, port = _split(arguments.broker)
    files = (arguments.ca_file, arguments.cert_file, arguments.key_file)
    if scheme == "mqtt" and any(files):
        raise ConfigError("cannot use certificates without TLS: say mqtts:// in --broker")
    return Endpoint(
        host,
        port,
        f"edged-push-{secrets.token_hex(6)}",
        arguments.username,
        _password(arguments.password_file),
        tls.context(*files) if scheme == "mqtts" else None,
    )


def _split(url: str) -> tuple[str, str, int]:
    try:
        parts = urllib.parse.urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    odd = scheme not in PORTS or not host or parts.path not in ("", "/") or parts.query
    if odd or parts.username is not None:
        shown = _printable(url.rpartition("@")[2])[:200]  # a password may come before it
        raise ConfigError(
            f"cannot use --broker {shown}: expected mqtts://HOST[:PORT] or "
            "mqtt://HOST[:PORT]; --username and --password-file say who you are"
        )
    return scheme, str(host), port or PORTS[scheme]


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.readline(SECRET_LIMIT).rstrip(b"\r\n").decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read password {path}: {exc}") from exc


def _printable(text: object) -> str:
    """Returns what a device says as a terminal may have it."""
    return "".join(char if char.isprintable() else "?" for char in str(text))
