"""The command line: what is printed, where to, and with which exit status."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged import __main__, cli, messages
from edged.cli import _handover, predict, status
from edged.client import Class, Prediction
from edged.errors import ConfigError, DeviceError
from edged.oci import Reference


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edged ")
    with pytest.raises(SystemExit) as caught:
        __main__.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"\n    {verb}\s", text) for verb in cli.verbs())
    assert {"run", "deploy", "undeploy", "status", "predict"} <= set(cli.verbs())


@pytest.mark.parametrize(
    "arguments", [[], ["no-such-verb"], ["deploy"], ["predict", "--top", "99", "x"]]
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        __main__.main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err


def test_each_verb_has_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in cli.verbs():
        with pytest.raises(SystemExit) as caught:
            __main__.main([verb, "--help"])
        assert caught.value.code == 0
        assert f"usage: edged {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("cannot use x:\n  wrong"), 2, "edged: cannot use x: wrong\n"),
        (DeviceError("cannot do y"), 1, "edged: cannot do y\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: Any) -> int:
        raise error

    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setattr(sys, "argv", ["edged", "status"])
    assert __main__.main() == code
    assert capsys.readouterr().err == text


def test_no_daemon_is_said_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["status"], ["undeploy"], ["deploy", "oci:x"]):
        assert __main__.main([*verb, "--run-dir", str(tmp_path)]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"edged: cannot reach edged at unix:{tmp_path}/control.sock")
        assert "--run-dir" in error
    assert __main__.main(["status", "--target", "127.0.0.1:1"]) == 1
    assert "cannot reach edged at 127.0.0.1:1" in capsys.readouterr().err
    assert __main__.main(["status", "--target", "192.0.2.1:1"]) == 2
    assert "in the clear" in capsys.readouterr().err


def test_no_server_for_predict_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    files = [str(tmp_path / "a.jpg")] * 3
    assert __main__.main(["predict", *files, "--run-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("cannot reach unix:") == 1


def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_being_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(tmp_path / "none.jpg"), str(tmp_path), "--run-dir", str(tmp_path)]
    assert __main__.main(arguments) == 1
    text = capsys.readouterr().out
    assert "none.jpg: cannot read it: No such file" in text
    assert "cannot read it: Is a directory" in text
    assert __main__.main([*arguments, "--json"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [set(json.loads(line)) for line in lines] == [{"file", "error"}] * 2


def answer(*classes: Class, **times: int) -> Prediction:
    return Prediction({}, top=classes, times_us=times, total_us=2500)


def detection(*classes: Class) -> Prediction:
    boxes = np.zeros((1, 5, 4), np.float32)
    boxes[0, :2] = [[0.25, 0.5, 0.75, 1.0], [0, 0, 0.125, 0.5]]
    outputs = {"boxes": boxes, "scores": boxes[..., 0], "classes": boxes[..., 0]}
    return Prediction(dict(outputs), top=classes, times_us={"npu": 900}, total_us=2500)


def test_a_detectors_boxes_have_a_row_each() -> None:
    found = detection(Class(15, "person", 0.75), Class(2, "", 0.5))
    lines = predict.table([(Path("x/a.jpg"), found), (Path("b.jpg"), detection())]).splitlines()
    assert lines[0].split()[:7] == ["file", "class", "confidence", "top", "left", "bottom", "right"]
    assert lines[1].split()[:7] == ["a.jpg", "person", "0.750", "0.250", "0.500", "0.750", "1.000"]
    assert lines[2].split()[:7] == ["class", "2", "0.500", "0.000", "0.000", "0.125", "0.500"]
    assert lines[3].split()[:6] == ["b.jpg", "-", "-", "-", "-", "-"]


def test_a_classifier_and_a_detector_share_a_table() -> None:
    found = [(Path("a.jpg"), detection(Class(1, "x", 0.5))), (Path("b.jpg"), answer())]
    assert [line.split()[0] for line in predict.table(found).splitlines()[1:]] == ["a.jpg", "b.jpg"]


class Asked:
    """A client that notes what it is asked and answers the same."""

    def __init__(self, answer: Prediction) -> None:
        self.answer = answer
        self.top = 0

    def __call__(self, *_: object, **__: object) -> Asked:
        return self

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def predict(self, _: object, top: int, timeout: float) -> Prediction:
        self.top = top
        return dataclasses.replace(self.answer, top=self.answer.top[:top])


@pytest.mark.parametrize(
    ("arguments", "classes", "boxes"), [([], [15, 2], 2), (["--top", "3"], [15, 2, 7], 3)]
)
def test_unless_told_how_many_the_sure_boxes_are_shown(
    arguments: list[str],
    classes: list[int],
    boxes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    found = detection(Class(15, "a", 0.75), Class(2, "", 0.5), Class(7, "b", 0.49))
    monkeypatch.setattr("edged.client.Client", Asked(found))
    assert __main__.main(["predict", str(tmp_path / "a.jpg"), "--json", *arguments]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [each["index"] for each in facts["top"]] == classes
    assert len(facts["boxes"]) == boxes
    assert facts["boxes"][0] == [0.25, 0.5, 0.75, 1.0]


def test_of_a_classifier_the_best_class_is_shown_unless_more_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    monkeypatch.setattr(
        "edged.client.Client", Asked(answer(Class(1, "dent", 0.4), Class(0, "ok", 0.3)))
    )
    for arguments, count in (([], 1), (["--top", "2"], 2)):
        assert __main__.main(["predict", str(tmp_path / "a.jpg"), "--json", *arguments]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert len(facts["top"]) == count
        assert "boxes" not in facts


def test_the_table_has_a_column_for_each_stage_and_a_row_for_each_class() -> None:
    lines = predict.table(
        [
            (
                Path("x/a.jpg"),
                answer(Class(1, "dent", 0.5), Class(0, "", 0.25), image=400, npu=900),
            ),
            (Path("b.jpg"), answer(Class(0, "o\x1b[2Jk", 1.0), npu=1000)),
            (Path("c.jpg"), answer()),
            (Path("d.jpg"), "INVALID_ARGUMENT: no picture"),
        ]
    ).splitlines()
    assert lines[0].split() == [
        "file",
        "class",
        "confidence",
        "image",
        "ms",
        "npu",
        "ms",
        "total",
        "ms",
    ]
    assert lines[1].split() == ["a.jpg", "dent", "0.500", "0.400", "0.900", "2.500"]
    assert lines[2].split()[:3] == ["class", "0", "0.250"]
    assert lines[3].split() == ["b.jpg", "o?[2Jk", "1.000", "-", "1.000", "2.500"]
    assert lines[4].split() == ["c.jpg", "-", "-", "-", "-", "2.500"]
    assert lines[5].split() == ["d.jpg", "-", "-", "-", "-", "-"]
    assert lines[6] == "d.jpg: INVALID_ARGUMENT: no picture"


def test_predict_asks_the_socket_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import argparse

    monkeypatch.setenv("EDGED_RUN_DIR", str(tmp_path))
    arguments = argparse.Namespace(target=None, run_dir=None)
    assert predict._target(arguments) == "127.0.0.1:50051"
    (tmp_path / "grpc.sock").touch()
    assert predict._target(arguments) == f"unix:{tmp_path}/grpc.sock"
    arguments.target = "127.0.0.1:7"
    assert predict._target(arguments) == "127.0.0.1:7"


def reply(**changes: Any) -> messages.StatusReply:
    return messages.StatusReply(
        version="1", pid=7, state="serving", runtime="process", listen=["a", "b"], **changes
    )


def test_status_without_a_model_says_why() -> None:
    text = status.table(reply(reason="no model", deployment="fetch"))
    assert "serving: no model" in text
    assert "deploying   fetch" in text
    assert "digest" not in text
    facts = status.facts(reply())
    assert facts["model"] is None
    assert facts["counters"]["answered"] == 0
    json.dumps(facts)


def test_status_with_a_model_names_it() -> None:
    model = messages.Model(name="m", version="2", digest="sha256:1", isa="avx2", worker_pid=9)
    previous = messages.Model(name="m", version="1", digest="sha256:0")
    text = status.table(reply(model=model, previous=previous, standby_digest="sha256:0"))
    assert "model       m 2" in text
    assert "worker      process 9" in text
    assert "previous    m 1 sha256:0, still loaded" in text
    assert status.facts(reply(model=model))["model"]["isa"] == "avx2"
    assert "not loaded" in status.table(reply(model=messages.Model(digest="sha256:1")))


def test_a_reference_is_sent_with_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def sent(text: str) -> str:
        with _handover.readable(Reference.parse(text), None) as there:
            return str(there)

    assert sent("oci:images/m:v1") == f"oci:{tmp_path}/images/m:v1"
    assert sent("m.tar") == f"oci-archive:{tmp_path}/m.tar"
    assert sent("docker://host/name:tag") == "docker://host/name:tag"


class Control:
    """A daemon whose deployments go as the test says."""

    events: tuple[messages.DeployEvent, ...] = ()
    socket = None

    def __init__(self, arguments: object) -> None:
        pass

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def deploy(self, request: messages.DeployRequest) -> tuple[messages.DeployEvent, ...]:
        return self.events


@pytest.mark.parametrize(
    ("events", "code", "error"),
    [
        ((("fetch", 0), ("committed", 1)), 0, ""),
        ((("fetch", 0), ("failed", 3)), 1, "cannot deploy oci:/x: because"),
        ((("probe", 0), ("reverted", 2)), 1, "because; what served before serves on"),
        ((), 1, "without an outcome"),
    ],
)
def test_deploy_ends_with_what_came_of_it(
    events: tuple[tuple[str, int], ...],
    code: int,
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Control.events = tuple(
        messages.DeployEvent(state=s, outcome=o, error="because" if o > 1 else "", bytes_total=9)
        for s, o in events
    )
    monkeypatch.setattr("edged.cli._control.Control", Control)
    assert __main__.main(["deploy", "oci:/x"]) == code
    assert error in capsys.readouterr().err
    assert __main__.main(["deploy", "oci:/x", "--json"]) == code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines] == [s for s, _ in events]
