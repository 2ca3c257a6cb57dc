"""The reported documents: what they say, and that they stay small whatever texts are in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edged.deploy.clock import Moment
from edged.deploy.history import Record
from edged.deploy.hold import Hold
from edged.deploy.types import Fault, Progress, Slot, State
from edged.mqtt import report
from edged.mqtt.bounded import encode, shorten
from edged.mqtt.control import AGENT_LIMIT, OWN_LIMIT
from edged.mqtt.device import Npu, Snapshot
from edged.mqtt.edge import manifest
from edged.mqtt.edge import report as edge_report
from edged.mqtt.report import Stamp
from edged.mqtt.standing import Standing, Verdict

DIGEST = "sha256:" + "a" * 64
STAMP = Stamp("boot", 7, 120, 3.5, 1_800_000_000.25)
SLOT = Slot(DIGEST, "docker://h.example/n:1", Path("/m"), 1_799_999_000_000_000, "surface", "7", 3)
QUIET = Snapshot("1.2.3", "not_serving", Npu("bw-cnn-a10"), "no model is deployed")
SERVING = Snapshot(
    "1.2.3", "serving", Npu("bw-cnn-a10", "avx2", "ms-fp13", 1799.9, 5312.0), model=SLOT
)
APPLIED = Standing("own:x", "twin", 4, "push-1", "applied", Fault.NONE, 200, digest=DIGEST)


def test_a_reader_can_tell_whose_it_is_and_how_old_it_may_be() -> None:
    document = report.build(STAMP, QUIET, Standing())
    assert (document["boot_id"], document["seq"], document["ttl"]) == ("boot", 7, 120)
    assert document["time"] == "2027-01-15T08:00:00.250Z"
    assert document["state"] == "not_serving"
    assert document["desired"] == {"outcome": "none"}
    assert "model" not in document


def test_without_a_clock_there_is_no_time_in_it() -> None:
    assert "time" not in report.build(replace(STAMP, time=None), QUIET, Standing())


def test_it_says_what_serves_and_on_what() -> None:
    document = report.build(STAMP, SERVING, APPLIED)
    assert document["model"]["digest"] == DIGEST
    assert document["model"]["format"] == "ms-fp13"
    assert document["npu"] == {
        "sku": "bw-cnn-a10",
        "isa": "avx2",
        "predicted_ms": 1.8,
        "measured_ms": 5.312,
    }
    assert document["desired"]["id"] == "push-1"
    assert document["desired"]["code"] == 200


def test_it_says_how_far_a_deployment_is() -> None:
    progress = Progress(State.FETCH, DIGEST, bytes_done=50, bytes_total=100)
    now = replace(SERVING, progress=progress, reference="docker://h.example/n:2")
    deployment = report.build(STAMP, now, APPLIED)["deployment"]
    assert (deployment["phase"], deployment["percent"]) == ("fetch", 42)
    order = ["queued", "fetch", "verify", "store", "prepare", "park", "activate", "probe", "commit"]
    done = [report.percent(Progress(State(each), bytes_done=1, bytes_total=2)) for each in order]
    assert done == sorted(done)


def test_the_last_error_comes_with_what_to_do() -> None:
    text = "cannot use it: it is in quarantine; deploy a mended one"
    last = Record(3, "deploy", "docker://h.example/n:1", DIGEST, outcome="failed", reason=text)
    error = report.build(STAMP, replace(QUIET, last=last), Standing())["last_error"]
    assert error["error"] == "cannot use it: it is in quarantine"
    assert error["fix"] == "deploy a mended one"
    assert error["what"] == "deploy docker://h.example/n:1"


HOSTILE = [
    "x" * 100_000,
    "\x00\x1f" * 50_000,
    "\U0001f600" * 50_000,
    '"\\' * 50_000,
    "\ud800" * 9999,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_our_document_is_below_8_kib_whatever_the_texts_in_it_are(text: str) -> None:
    slot = Slot(text, text, Path("/m"), 1 << 62, text, text, 10**15, text)
    moment = Moment(0, "", 0)
    now = Snapshot(
        text, text, Npu(text, text, text, 1e300, 1e300), text, text, text, text, slot, slot,
        Progress(State.PREPARE, text, text, 1 << 62, 1 << 62, 1 << 62, text),
        text,
        Record(1, text, text, text, text, text, "failed", text, began_unix_us=1),
        Hold(text, text, 1e300, moment, 1e9),
        1e300,
        frozenset([text]),
    )  # fmt: skip
    standing = Standing(text, text, 1 << 62, text, text, Fault.MODEL, 999, text, text, text, text)
    slow = replace(
        now, model=replace(slot, deployed_unix_us=1), previous=replace(slot, deployed_unix_us=1)
    )
    document = report.build(STAMP, slow, standing)
    assert len(encode(document)) <= OWN_LIMIT < 8192
    assert json.loads(encode(document))["seq"] == 7
    assert all(len(encode({"": each})) <= 4096 for each in _texts(document))


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("limit", [10, 40, 80, 500])
@pytest.mark.parametrize("text", [*HOSTILE, "short"])
def test_a_text_that_is_cut_says_so(text: str, limit: int) -> None:
    cut = shorten(text, limit)
    assert len(encode({"": cut})) - len(encode({"": ""})) + 2 <= limit
    assert cut == text or cut.endswith("…") or "?" in cut


# -- in the shape of an agent


def deployment(*modules: dict[str, Any]) -> manifest.Deployment:
    return manifest.parse(
        {
            "schemaVersion": "1.1",
            "systemModules": {"edgeAgent": {"settings": {"image": "mcr.example/agent:1.4"}}},
            "modules": {f"m{number}": each for number, each in enumerate(modules)},
        }
    )


def module(image: str = "h.example/n:1", **more: Any) -> dict[str, Any]:
    settings = {"image": image, **more.pop("settings", {})}
    return {"status": "running", "restartPolicy": "always", "settings": settings, **more}


def succeeded(desired: manifest.Deployment, version: int, reported: dict[str, Any]) -> bool:
    """The operators' test of whether a deployment has arrived."""
    shown = reported["modules"]
    return (
        reported["lastDesiredVersion"] == version
        and reported["lastDesiredStatus"]["code"] == 200
        and all(
            shown[each.name]["runtimeStatus"] == each.status
            and shown[each.name]["settings"]["image"] == each.image
            for each in desired.modules
        )
    )


RUNS = replace(APPLIED, verdicts={"m0": Verdict(200, "", DIGEST)})


def test_the_operators_test_holds_when_the_model_serves_and_only_then() -> None:
    wanted = deployment(module(env={"K": {"value": "v"}}, version="1.0"))
    reported = edge_report.build(SERVING, RUNS, wanted)
    assert succeeded(wanted, 4, reported)
    assert reported["modules"]["m0"]["settings"]["imageHash"] == DIGEST
    assert reported["modules"]["m0"]["env"] == {"K": {"value": "v"}}
    assert "not run" in reported["systemModules"]["edgeAgent"]["statusDescription"]
    assert not succeeded(wanted, 5, reported)
    assert not succeeded(wanted, 4, edge_report.build(QUIET, RUNS, wanted))
    applying = replace(RUNS, outcome="applying", code=0)
    assert not succeeded(wanted, 4, edge_report.build(SERVING, applying, wanted))


@pytest.mark.parametrize(
    ("standing", "now", "status", "code"),
    [
        (RUNS, SERVING, "running", 200),
        (RUNS, replace(SERVING, state="starting"), "unhealthy", 200),
        (RUNS, replace(SERVING, state="not_serving"), "backoff", 200),
        (replace(RUNS, outcome="applying", code=0), QUIET, "unknown", 406),
        (replace(RUNS, outcome="waiting", code=503), QUIET, "backoff", 500),
        (replace(RUNS, outcome="waiting", code=423, fault=Fault.HELD), QUIET, "backoff", 500),
        (replace(RUNS, outcome="failed", code=412, fault=Fault.MODEL), QUIET, "failed", 500),
        (
            replace(RUNS, outcome="failed", code=412, verdicts={"m0": Verdict(412, "foreign")}),
            SERVING,
            "failed",
            412,
        ),
    ],
)
def test_each_state_has_its_word_and_its_code(
    standing: Standing, now: Snapshot, status: str, code: int
) -> None:
    reported = edge_report.build(now, standing, deployment(module()))
    assert reported["modules"]["m0"]["runtimeStatus"] == status
    assert reported["lastDesiredStatus"]["code"] == code


def test_bad_gone_and_ending_have_codes_of_their_own() -> None:
    invalid = Standing("x", "manifest", 9, "", "invalid", Fault.NONE, 400, "cannot use it")
    assert edge_report.build(QUIET, invalid, None)["lastDesiredStatus"]["code"] == 400
    gone = Standing("none", "manifest", 9, "", "applied", Fault.NONE, 200)
    assert edge_report.build(QUIET, gone, None)["lastDesiredStatus"]["code"] == 417
    ending = edge_report.build(SERVING, RUNS, deployment(module()), stopping=True)
    assert ending["lastDesiredStatus"]["code"] == 406


def test_create_options_are_reported_in_the_chunks_that_came() -> None:
    options = {"createOptions": '{"Cmd":', "createOptions01": '["x"]}'}
    wanted = deployment(module(settings=options))
    shown = edge_report.build(SERVING, RUNS, wanted)["modules"]["m0"]["settings"]
    assert {key: shown[key] for key in options} == options


@pytest.mark.parametrize("length", [10, 400, 900])
def test_the_agents_document_is_below_its_limit_whatever_is_desired(length: int) -> None:
    many = [
        module(
            "h.example/" + "n" * length + ":1",
            version="é" * 200,
            settings={"createOptions": json.dumps({"Labels": {"x": "é" * 4000}})},
            env={f"K{n}": {"value": "v" * 4096} for n in range(20)},
        )
        for _ in range(50)
    ]
    wanted = deployment(*many)
    verdicts = {f"m{n}": Verdict(412, "é" * 1024) for n in range(50)}
    standing = replace(APPLIED, verdicts=verdicts, code=412, error="e" * 1024, fix="f" * 1024)
    reported = edge_report.build(SERVING, standing, wanted)
    assert len(encode(reported)) <= AGENT_LIMIT
    own = report.build(STAMP, SERVING, standing)
    assert len(encode({"edged": own, **reported})) < 32 * 1024
    for name, each in reported["modules"].items():
        assert each["settings"]["image"] == wanted.modules[int(name[1:])].image or length == 900


def test_keys_are_those_that_a_hub_takes() -> None:
    wanted = deployment(
        module(env={"a.b": {"value": "1"}, "$c": {"value": "2"}, "d": {"value": "3"}})
    )
    entry = edge_report.build(SERVING, RUNS, wanted)["modules"]["m0"]
    assert entry["env"] == {"d": {"value": "3"}}
