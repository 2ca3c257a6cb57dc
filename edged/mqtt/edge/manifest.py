"""IoT Edge deployment manifests, as controllers of the original service send them.

What is read is the agent's desired properties: schema, registry credentials, modules. edged stands
in for the agent, and the one module whose image is an edged model image is what it deploys; which
one that is, the images' own manifests say, so here nothing is decided yet.

Whatever is asked of Docker for a module (``createOptions``) edged cannot give, since a model runs
in edged's own sandbox. What the original service's models asked for is understood: devices
``/dev/catapult0`` and ``1``, port 50051, ``/etc/hosts``, privileges. Other devices and ports are
refused, since the module could not work; the rest is passed over, and said.

Source: the public schema of the agent's twin (azureiotedge-deployment), versions 1.0 and 1.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edged.errors import ConfigError, RequestError
from edged.mqtt.fields import Fields, wrong
from edged.oci.reference import check_host
from edged.oci.registries import Credentials

MODULES_LIMIT = 50
REGISTRIES_LIMIT = 16
NAME_LIMIT = 128  # characters of a module's name, as the hub has it
OPTIONS_LIMIT = 32 * 1024  # characters of createOptions, joined
CHUNKS_LIMIT = 100  # createOptions, createOptions01 ... createOptions99
PASSWORD_LIMIT = 16 * 1024  # characters; some registries' passwords are signed tokens
PORT = 50051
STATUSES = ("running", "stopped")
POLICIES = ("never", "on-failure", "on-unhealthy", "always")
PULL_POLICIES = ("on-create", "never")
SHAPE = ("modulesContent", "schemaVersion", "runtime", "systemModules", "modules")
_DEVICE = re.compile(r"/dev/catapult[01]")
_NAME = re.compile(r"[A-Za-z0-9$_][A-Za-z0-9+%_#*?!(),:=@$'-]*")


@dataclass(frozen=True)
class Module:
    """One module that is desired.

    Attributes:
        name: of the module.
        image: its image, as it is written there.
        status: running or stopped.
        version: whatever the controller calls it.
        restart_policy, pull_policy: as the schema has them.
        order: of its start; the lowest is first.
        options: createOptions, in the chunks that came.
        env: environment variables.
        refusal: why edged cannot do what createOptions ask for; empty if it can.
        notes: what of them is passed over.
    """

    name: str
    image: str
    status: str = "running"
    version: str = ""
    restart_policy: str = "always"
    pull_policy: str = "on-create"
    order: int = 0
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """A manifest that was understood.

    Attributes:
        schema: its version.
        modules: in the order of their start.
        system: images of the agent and the hub of the edge, by name: edged stands in for them.
        credentials: by registry; never kept.
    """

    schema: str
    modules: tuple[Module, ...] = ()
    system: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, Credentials] = field(default_factory=dict, repr=False)

    def meaning(self) -> dict[str, Any]:
        """Returns what makes it another manifest than before, without secrets."""
        modules = {
            each.name: [each.image, each.status, each.pull_policy, each.order, each.refusal]
            for each in self.modules
        }
        return {"schema": self.schema, "modules": modules}


def is_one(document: Mapping[str, Any]) -> bool:
    """Whether a document has the shape of a manifest, if not of a good one."""
    return any(key in document for key in SHAPE)


def parse(document: Mapping[str, Any]) -> Deployment:
    """Returns the manifest in a document: the agent's properties, or a file with all modules'.

    Raises:
        RequestError: it cannot be used; FAILED_PRECONDITION if its schema is not known.
    """
    fields = _agent(document)
    schema = fields.text("schemaVersion", "", 16)
    if not schema:
        raise RequestError("INVALID_ARGUMENT", f"cannot use {fields.where}: no schemaVersion in it")
    if schema.partition(".")[0] != "1":
        raise RequestError(
            "FAILED_PRECONDITION",
            f"cannot use {fields.where}: schemaVersion {schema!r}, expected 1.0 or 1.1",
        )
    runtime = fields.fields("runtime")
    runtime.choice("type", ("docker",), "docker")
    credentials = runtime.fields("settings").fields("registryCredentials")
    modules = fields.fields("modules")
    if len(list(modules)) > MODULES_LIMIT:
        raise wrong(modules.where, f"at most {MODULES_LIMIT} modules", len(list(modules)))
    found = [_module(_named(name), modules.fields(name)) for name in modules]
    return Deployment(
        schema,
        tuple(sorted(found, key=lambda each: (each.order, each.name))),
        dict(_system(fields.fields("systemModules"))),
        dict(_credentials(credentials)),
    )


def _agent(document: Mapping[str, Any]) -> Fields:
    """Returns the agent's desired properties."""
    fields = Fields(document, "the manifest")
    if "modulesContent" not in fields:
        return fields
    return fields.fields("modulesContent").fields("$edgeAgent").fields("properties.desired")


def _named(name: str) -> str:
    if len(name) > NAME_LIMIT or not _NAME.fullmatch(name):
        raise wrong("the manifest: modules", f"names of at most {NAME_LIMIT} letters", name)
    return name


def _module(name: str, fields: Fields) -> Module:
    fields.choice("type", ("docker",), "docker")
    settings = fields.fields("settings")
    image = settings.text("image").strip()
    if not image:
        raise RequestError("INVALID_ARGUMENT", f"cannot use {settings.where}: no image in it")
    options = tuple(_chunks(settings))
    refusal, notes = _wishes(Fields(_joined(options, settings.where), settings.where))
    env = fields.fields("env")
    return Module(
        name,
        image,
        fields.choice("status", STATUSES, "running"),
        fields.text("version", "", 256),
        fields.choice("restartPolicy", POLICIES, "always"),
        fields.choice("imagePullPolicy", PULL_POLICIES, "on-create"),
        _order(fields),
        options,
        {key: env.fields(key).text("value", "", 4096) for key in env},
        refusal,
        tuple(notes),
    )


def _order(fields: Fields) -> int:
    most = (1 << 32) - 1
    order = fields.number("startupOrder", 0, most)
    return most if order is None else order


def _chunks(settings: Fields) -> Iterator[str]:
    """Yields createOptions, createOptions01 and so on; tools cut them after 512 characters."""
    chunks = [key for key in settings if key.startswith("createOptions")]
    names = ["createOptions", *(f"createOptions{number:02}" for number in range(1, CHUNKS_LIMIT))]
    wanted = names[: len(chunks)]
    if sorted(chunks) != sorted(wanted):
        odd = next(iter(sorted(set(chunks) ^ set(wanted))))
        raise wrong(settings.where, "createOptions, createOptions01, ... without a gap", odd)
    left = OPTIONS_LIMIT
    for name in wanted:
        text = settings.raw(name)
        if text is None:
            continue
        if not isinstance(text, str) or len(text) > left:
            raise wrong(
                f"{settings.where}: {name}", f"a text, all at most {OPTIONS_LIMIT} long", text
            )
        left -= len(text)
        yield text


def _joined(chunks: tuple[str, ...], where: str) -> object:
    text = "".join(chunks).strip()
    try:
        return json.loads(text) if text else {}
    except (ValueError, RecursionError) as exc:
        raise RequestError(
            "INVALID_ARGUMENT", f"cannot use {where}: createOptions are no JSON: {str(exc)[:80]}"
        ) from exc


def _wishes(options: Fields) -> tuple[str, list[str]]:
    """Returns why a module's createOptions cannot be met, and which of them are passed over."""
    host = options.fields("HostConfig")
    passed = sorted({key for key in options if key != "HostConfig"} | set(host))
    for given in (host, options):
        if device := _other_device(given):
            return f"it asks for the device {device}, and edged has /dev/catapult0 and 1 only", []
        if port := _other_port(given):
            return f"it asks for port {port}, and edged serves on {PORT} only", []
    shown = [key[:40] for key in passed if key.isascii() and key.isprintable()][:16]
    return "", [f"createOptions passed over: {', '.join(shown)}"] if shown else []


def _other_device(given: Fields) -> str:
    devices = given.raw("Devices") or []
    if not isinstance(devices, list):
        raise wrong(f"{given.where}: Devices", "a list", devices)
    for each in devices:
        path = Fields(each, f"{given.where}: Devices").text("PathOnHost")
        if not _DEVICE.fullmatch(path):
            return ascii(path[:80])
    return ""


def _other_port(given: Fields) -> str:
    bindings = given.fields("PortBindings")
    for port in bindings:
        hosts = bindings.raw(port) or []
        if not isinstance(hosts, list):
            raise wrong(f"{bindings.where}: {port[:40]}", "a list", hosts)
        wanted = [
            str(Fields(each, f"{bindings.where}: {port[:40]}").raw("HostPort") or PORT)
            for each in hosts
        ]
        for number in [port.partition("/")[0], *wanted]:
            if number != str(PORT):
                return ascii(number[:40])
    return ""


def _system(modules: Fields) -> Iterator[tuple[str, str]]:
    for name in ("edgeAgent", "edgeHub"):
        if name in modules:
            yield name, modules.fields(name).fields("settings").text("image")


def _credentials(fields: Fields) -> Iterator[tuple[str, Credentials]]:
    for number, name in enumerate(fields):
        if number >= REGISTRIES_LIMIT:
            raise wrong(fields.where, f"at most {REGISTRIES_LIMIT} registries", number + 1)
        each = fields.fields(name)
        for key in ("username", "password"):
            # Not shown, whatever it is.
            if not isinstance(each.raw(key), str) or len(each.raw(key)) > PASSWORD_LIMIT:
                raise RequestError(
                    "INVALID_ARGUMENT", f"cannot use {each.where}: expected a text as {key}"
                )
        address = each.text("address").partition("://")[2] or each.text("address")
        try:
            host = check_host(address.partition("/")[0], address)
        except ConfigError as exc:
            raise RequestError("INVALID_ARGUMENT", f"cannot use {each.where}: {exc}") from exc
        yield host, Credentials(each.raw("username"), each.raw("password"))
