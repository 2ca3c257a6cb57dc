"""The reported state of an IoT Edge agent, for a device whose one module is the model.

Operators' tools take a deployment for done when ``lastDesiredVersion`` is the desired one, the code
is 200, every module's ``runtimeStatus`` is its desired ``status`` and the images are equal. So
these are echoed as they were desired, and say so only when it is true.

``edgeAgent`` and ``edgeHub`` are not run: edged stands in for the one, and speaks to the hub
itself. The report says that of them.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from edged.deploy.types import Fault
from edged.mqtt import codes
from edged.mqtt.bounded import encode, fit
from edged.mqtt.control import AGENT_LIMIT
from edged.mqtt.device import Snapshot
from edged.mqtt.edge.manifest import Deployment, Module
from edged.mqtt.report import rfc3339
from edged.mqtt.standing import APPLIED, APPLYING, INVALID, WAITING, Standing, Verdict

KEY_LIMIT = 128
_BAD_IN_KEYS = ".$# "  # which a hub takes in no key of a reported property
_STANDS_IN = {
    "edgeAgent": "edged stands in for it; this image is not run",
    "edgeHub": "edged speaks to the hub itself; this image is not run",
}


def build(
    now: Snapshot,
    standing: Standing,
    deployment: Deployment | None,
    *,
    stopping: bool = False,
) -> dict[str, Any]:
    """Returns the reported state.

    Args:
        now: how the device is.
        standing: how it stands with the manifest.
        deployment: the manifest; None if it could not be used, or is gone.
        stopping: whether edged is about to end.
    """
    document: dict[str, Any] = {
        "schemaVersion": "1.1" if deployment is None else deployment.schema,
        "version": {"version": now.version, "build": "edged", "commit": ""},
        "lastDesiredVersion": standing.version,
        "lastDesiredStatus": _status(standing, deployment, stopping=stopping),
        "runtime": {
            "type": "docker",
            "platform": {
                "os": "linux",
                "architecture": platform.machine(),
                "version": f"edged {now.version}",
            },
        },
    }
    modules = deployment.modules if deployment else ()
    system = deployment.system if deployment else {}
    echoed = sum(
        len(text) for each in modules for text in (*each.options, *each.env, *each.env.values())
    )
    for detail in (_full, _short, _least) if echoed < AGENT_LIMIT else (_short, _least):
        document["systemModules"] = {name: _stand_in(name, system.get(name, "")) for name in system}
        document["modules"] = {
            module.name: detail(module, _facts(module, now, standing))
            for module in modules
            if _is_key(module.name)
        }
        fitting = fit(document, AGENT_LIMIT)
        if len(encode(fitting)) <= AGENT_LIMIT and not _is_cut(fitting, modules):
            return fitting
    document["modules"] = {}
    document["lastDesiredStatus"] = {
        "code": codes.BAD,
        "description": "the manifest has more in it than a report can hold; make it smaller",
    }
    return fit(document, AGENT_LIMIT)


def _is_cut(document: Mapping[str, Any], modules: tuple[Module, ...]) -> bool:
    """Whether an image's name had to be cut: then it would not be equal to the desired one."""
    shown = document["modules"]
    return any(
        shown[each.name]["settings"]["image"] != each.image
        for each in modules
        if each.name in shown
    )


def _status(standing: Standing, deployment: Deployment | None, *, stopping: bool) -> dict[str, Any]:
    code, text = standing.code, standing.error
    if stopping:
        code, text = codes.UNKNOWN, "edged is stopping"
    elif standing.outcome == INVALID:
        pass
    elif deployment is None:
        code, text = codes.EMPTY, "there is no deployment manifest"
    elif standing.outcome == APPLYING:
        code, text = codes.UNKNOWN, "being applied"
    elif code != codes.OK and not _is_refused(standing):
        code = codes.FAILED
    if standing.fix and code not in (codes.OK, codes.UNKNOWN, codes.EMPTY):
        text = f"{text}; {standing.fix}" if standing.fix not in text else text
    return {"code": code, "description": text}


def _is_refused(standing: Standing) -> bool:
    """Whether it is the manifest that asks for what cannot be; else what it asks for failed."""
    refused = any(each.code == codes.UNSUITABLE for each in standing.verdicts.values())
    chosen = any(each.digest for each in standing.verdicts.values())
    return refused and (standing.outcome == APPLIED or not chosen)


def _facts(module: Module, now: Snapshot, standing: Standing) -> dict[str, Any]:
    """Returns what is known of a module: its state, and why."""
    verdict = standing.verdicts.get(module.name, Verdict(codes.UNKNOWN, "not judged yet"))
    status, text = _runtime_status(module, verdict, now, standing)
    facts: dict[str, Any] = {
        "runtimeStatus": status,
        "statusDescription": "; ".join(part for part in (text, *module.notes) if part),
        "exitCode": 0,
        "restartCount": 0,
    }
    serves = now.model is not None and bool(verdict.digest) and now.model.digest == verdict.digest
    if serves and now.model is not None:
        facts["restartCount"] = now.counters.deaths
        facts["imageHash"] = now.model.digest
        if now.model.deployed_unix_us > 0:
            facts["lastStartTimeUtc"] = rfc3339(now.model.deployed_unix_us / 1e6)
    return facts


def _runtime_status(
    module: Module, verdict: Verdict, now: Snapshot, standing: Standing
) -> tuple[str, str]:
    """Returns one of the schema's words, and why it is that one."""
    if module.status == "stopped":
        return "stopped", ""
    if not verdict.digest:
        status = {codes.UNSUITABLE: "failed", codes.UNAVAILABLE: "backoff"}
        return status.get(verdict.code, "unknown"), f"{verdict.code}: {verdict.text}"
    return _model_status(verdict, now, standing)


def _model_status(verdict: Verdict, now: Snapshot, standing: Standing) -> tuple[str, str]:
    """The same for the module that is the model."""
    if now.model is not None and now.model.digest == verdict.digest:
        if now.state in ("serving", "swapping"):
            return "running", ""
        return ("unhealthy" if now.state == "starting" else "backoff"), now.reason
    if standing.outcome == APPLYING:
        phase = now.progress.state.value if now.progress else "queued"
        return "unknown", f"being deployed: {phase}"
    if standing.outcome == WAITING:
        return "backoff", standing.error
    return ("failed" if standing.fault is not Fault.OVERTAKEN else "stopped"), standing.error


def _full(module: Module, facts: dict[str, Any]) -> dict[str, Any]:
    entry = _short(module, facts)
    entry["settings"] |= {
        "createOptions" + (f"{number:02}" if number else ""): chunk
        for number, chunk in enumerate(module.options)
    }
    if module.env:
        entry["env"] = {key: {"value": value} for key, value in module.env.items() if _is_key(key)}
    return entry


def _short(module: Module, facts: dict[str, Any]) -> dict[str, Any]:
    entry = _least(module, facts)
    entry |= {
        "version": module.version,
        "restartPolicy": module.restart_policy,
        "imagePullPolicy": module.pull_policy,
        **{key: facts[key] for key in ("lastStartTimeUtc",) if key in facts},
        "restartCount": facts["restartCount"],
        "exitCode": facts["exitCode"],
    }
    if "imageHash" in facts:
        entry["settings"]["imageHash"] = facts["imageHash"]
    return entry


def _least(module: Module, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "docker",
        "status": module.status,
        "runtimeStatus": facts["runtimeStatus"],
        "statusDescription": facts["statusDescription"],
        "settings": {"image": module.image},
    }


def _stand_in(name: str, image: str) -> dict[str, Any]:
    return {
        "type": "docker",
        "runtimeStatus": "running",
        "statusDescription": _STANDS_IN[name],
        "settings": {"image": image},
    }


def _is_key(text: str) -> bool:
    return 0 < len(text) <= KEY_LIMIT and text.isprintable() and not set(text) & set(_BAD_IN_KEYS)
