"""Which module of an IoT Edge manifest is the model to deploy; what becomes of the others.

The images' own manifests say which of them are edged's, so the registries are asked. One that
cannot be reached is no verdict: it is asked again, and nothing that serves is touched for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edged.deploy.types import Options
from edged.errors import ConfigError, EdgedError, ModelError, RequestError, VerifyError
from edged.mqtt import codes, desired
from edged.mqtt.desired import Target
from edged.mqtt.device import Device
from edged.mqtt.edge.manifest import Deployment, Module
from edged.mqtt.standing import Verdict
from edged.oci import Digest


@dataclass
class Choice:
    """What a manifest comes to.

    Attributes:
        target: what the device is to have; None to leave it as it is.
        verdicts: by module.
        refused: the first module that cannot be run here, in words; empty if there is none.
        unknown: why a module could not be judged; None if all were.
    """

    target: Target | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    refused: str = ""
    unknown: EdgedError | None = None


async def choose(deployment: Deployment, device: Device) -> Choice:
    """Returns what a manifest comes to; asks registries, so it takes its time."""
    choice, model = Choice(), ""
    for module in deployment.modules:
        if module.status == "stopped":
            verdict = Verdict(codes.OK, "stopped, as desired")
        else:
            verdict, target = await _judge(module, deployment, device, choice)
            if target is not None and model:
                verdict = Verdict(
                    codes.UNSUITABLE,
                    f"edged runs one model at a time, and this manifest has {model} before it",
                )
            elif target is not None:
                choice.target, model = target, module.name
        choice.verdicts[module.name] = verdict
        if verdict.code == codes.UNSUITABLE and not choice.refused:
            choice.refused = f"module {module.name}: {verdict.text}"
    if all(module.status == "stopped" for module in deployment.modules):
        choice.target = Target()
    return choice


async def _judge(
    module: Module, deployment: Deployment, device: Device, choice: Choice
) -> tuple[Verdict, Target | None]:
    """Returns what becomes of a module that is to run, and its target if it is a model."""
    if module.refusal:
        return Verdict(codes.UNSUITABLE, module.refusal), None
    try:
        reference = desired.reference(module.image, None, f"image of module {module.name}")
        serving = device.snapshot().model
        if module.pull_policy == "never":
            if serving is None or serving.reference.partition("@")[0] != str(reference):
                text = "imagePullPolicy is never, and the image is not in service here"
                return Verdict(codes.UNSUITABLE, text), None
            digest = serving.digest
        else:
            digest, _ = await device.look_up(str(reference), deployment.credentials)
    except (ModelError, ConfigError, RequestError, VerifyError) as exc:
        text = f"only images of edged models run here: {exc}"
        return Verdict(codes.UNSUITABLE, text[:400]), None
    except EdgedError as exc:
        choice.unknown = choice.unknown or exc
        return Verdict(codes.UNAVAILABLE, str(exc)[:400]), None
    options = Options(credentials=deployment.credentials)
    if reference.remote:
        # What was judged is what is deployed, whatever the tag means by then.
        reference = replace(reference, digest=Digest.parse(digest))
    else:
        options = replace(options, digest=digest)
    return Verdict(codes.OK, "", digest), Target(str(reference), options)
