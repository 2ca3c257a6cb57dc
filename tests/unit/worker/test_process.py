"""The worker's process over its link: states, faults that it survives, and how it leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edged.messages import PredictResponse
from edged.messages.link import HEADER, MAGIC, Ask, Kind
from edged.npu import Program
from edged.npu.timing import predicted_us
from edged.worker.pipeline import Pipeline
from tests.unit.worker.daemon import Worker, predict
from tests.unit.worker.pictures import encoded, noise, with_cut_exif

PICTURE = encoded(noise(40, 30))


def in_us(microseconds: int) -> int:
    """A deadline so many microseconds from now."""
    return time.monotonic_ns() // 1000 + microseconds


@pytest.fixture
def worker(built_model: Path) -> Iterator[Worker]:
    started = Worker(built_model)
    hello = started.receive()
    assert hello.kind is Kind.HELLO
    yield started
    started.close()


def test_hello_says_what_was_loaded(built_model: Path) -> None:
    worker = Worker(built_model, "--isa", "portable")
    hello = worker.receive()
    assert (hello.kind, hello.id, hello.body) == (Kind.HELLO, 0, b"")
    assert hello.meta["name"] == "small"
    assert hello.meta["version"] == "3"
    assert hello.meta["pid"] == worker.process.pid
    assert hello.meta["isa"] == "portable"
    assert hello.meta["format"] == "ms-fp13"
    assert hello.meta["sku"] == "bw-cnn-a10"
    assert hello.meta["memory_bytes"] > 0
    program = Program.load(built_model / "program.npu")
    assert hello.meta["predicted_us"] == pytest.approx(sum(predicted_us(program)), abs=0.1)
    assert hello.meta["labels"] == 5
    assert hello.meta["signature"]["inputs"][0]["name"] == "images"
    assert hello.meta["signature"]["outputs"][0]["shape"] == [-1, 5]
    worker.close()


def test_a_request_is_answered_as_the_pipeline_answers(worker: Worker, pipeline: Pipeline) -> None:
    assert worker.ask(Kind.ACTIVATE).kind is Kind.ACTIVE
    answer = worker.ask(Kind.PREDICT, predict(PICTURE, PICTURE), Ask(in_us(60_000_000), top=2))
    assert answer.kind is Kind.RESULT
    expected = pipeline.run({"images": [PICTURE, PICTURE]}).outputs["probabilities"]
    response = PredictResponse.FromString(answer.body)
    values = np.array(response.outputs["probabilities"].float_val).reshape(2, 5)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    times = json.loads(answer.said.times)
    assert list(times) == ["parse", "image", "npu", "onnx", "serialise"]
    assert all(isinstance(spent, int) for spent in times.values())
    best = json.loads(answer.said.top)
    assert len(best) == 2
    assert best[0]["index"] == int(expected[0].argmax())
    assert best[0]["label"] == pipeline.labels[best[0]["index"]]
    assert best[0]["score"] == pytest.approx(float(expected[0].max()), abs=1e-6)


def test_the_npu_is_used_only_between_activate_and_leave(worker: Worker) -> None:
    for kind in (Kind.PREDICT, Kind.PROBE):
        answer = worker.ask(kind, predict(PICTURE) if kind is Kind.PREDICT else b"")
        assert (answer.kind, answer.meta["code"]) == (Kind.ERROR, "FAILED_PRECONDITION")
    assert worker.ask(Kind.ACTIVATE).kind is Kind.ACTIVE
    assert worker.ask(Kind.PREDICT, predict(PICTURE)).kind is Kind.RESULT
    assert worker.ask(Kind.LEAVE).kind is Kind.LEFT
    assert worker.ask(Kind.PREDICT, predict(PICTURE)).meta["code"] == "FAILED_PRECONDITION"


def test_the_golden_test_passes_and_fails(worker: Worker, model: Path) -> None:
    worker.ask(Kind.ACTIVATE)
    assert worker.ask(Kind.PROBE).meta == {"ok": True, "reason": ""}
    (model / "golden" / "outputs.npz").unlink()
    broken = Worker(model)
    broken.receive()
    broken.ask(Kind.ACTIVATE)
    probed = broken.ask(Kind.PROBE)
    assert probed.kind is Kind.PROBED
    assert probed.meta["ok"] is False
    assert "outputs.npz" in probed.meta["reason"]
    assert broken.ask(Kind.PREDICT, predict(PICTURE)).kind is Kind.RESULT
    broken.close()


def test_a_fault_of_a_request_is_answered_and_the_next_one_served(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    faults = {
        predict(b"no picture"): "expected JPEG or PNG",
        predict(PICTURE[: len(PICTURE) // 2]): "cannot decode picture",
        predict(PICTURE, outputs=("x" * 5000,)): "xxx... Outputs expected to be in the set",
        predict(): "expected one size from 1 up",
        b"\xff\xff": "cannot parse PredictRequest",
        b"": "input size does not match signature: 0!=1",
    }
    for body, says in faults.items():
        answer = worker.ask(Kind.PREDICT, body)
        assert (answer.kind, answer.meta["code"]) == (Kind.ERROR, "INVALID_ARGUMENT")
        assert says in answer.meta["message"]
        assert len(answer.meta["message"]) < 1100
    assert worker.ask(Kind.PREDICT, predict(PICTURE)).kind is Kind.RESULT


def test_callers_cannot_fill_the_log_with_warnings_about_their_pictures(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    # In this process warnings are errors, unless they are ignored.
    picture = with_cut_exif(Image.fromarray(noise(16, 16)))
    assert worker.ask(Kind.PREDICT, predict(picture)).kind is Kind.RESULT
    worker.send(Kind.STOP)
    assert worker.wait() == (0, "")


def test_an_expired_request_is_not_run(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    for remaining in (0, -5_000_000):
        answer = worker.ask(Kind.PREDICT, b"not even parsed", Ask(in_us(remaining)))
        assert (answer.kind, answer.meta["code"]) == (Kind.ERROR, "DEADLINE_EXCEEDED")
    late = worker.ask(Kind.PREDICT, predict(*[PICTURE] * 500), Ask(in_us(2000)))
    assert (late.kind, late.meta["code"]) == (Kind.ERROR, "DEADLINE_EXCEEDED")


def test_what_nobody_waits_for_is_skipped_if_it_has_not_begun(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    running = worker.send(Kind.PREDICT, predict(*[PICTURE] * 300))
    worker.wait_until_taken()
    skipped = worker.send(Kind.PREDICT, predict(PICTURE))
    # Of the running one it is too late; of the other it is not.
    worker.cancel(running)
    worker.cancel(skipped)
    assert worker.receive(running).kind is Kind.RESULT
    answer = worker.receive(skipped)
    if answer.kind is Kind.RESULT:
        pytest.fail("it was run in vain")
    assert (answer.kind, answer.meta["code"]) == (Kind.ERROR, "CANCELLED")
    assert worker.ask(Kind.PREDICT, predict(PICTURE)).kind is Kind.RESULT


def test_values_come_as_content_when_asked_for(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    answer = worker.ask(Kind.PREDICT, predict(PICTURE), Ask(tensor_content=True))
    tensor = PredictResponse.FromString(answer.body).outputs["probabilities"]
    assert len(tensor.tensor_content) == 20
    assert not tensor.float_val


def test_strict_refuses_requests_without_a_name(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    answer = worker.ask(Kind.PREDICT, predict(PICTURE), Ask(strict=True))
    assert answer.meta == {"code": "INVALID_ARGUMENT", "message": "Missing ModelSpec"}


def test_large_requests_and_answers_pass(worker: Worker, pipeline: Pipeline) -> None:
    worker.ask(Kind.ACTIVATE)
    large = encoded(noise(600, 700), compress_level=0)
    answer = worker.ask(Kind.PREDICT, predict(large))
    assert answer.kind is Kind.RESULT


def test_stop_ends_it_after_the_request_before(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    worker.send(Kind.PREDICT, predict(*[PICTURE] * 50))
    assert worker.receive().kind is Kind.RESULT
    worker.send(Kind.STOP)
    assert worker.wait() == (0, "")


def test_sigterm_lets_the_running_request_finish(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    worker.send(Kind.PREDICT, predict(*[PICTURE] * 2000))
    worker.wait_until_taken()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.receive().kind is Kind.RESULT
    assert worker.wait() == (0, "")


def test_sigterm_ends_an_idle_worker_and_sigint_does_not(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGINT)
    assert worker.ask(Kind.ACTIVATE).kind is Kind.ACTIVE
    worker.process.send_signal(signal.SIGTERM)
    assert worker.wait() == (0, "")


def test_it_leaves_when_the_daemon_is_gone(worker: Worker) -> None:
    worker.end.close()
    assert worker.wait() == (0, "")


def test_it_leaves_when_the_daemon_goes_amid_a_frame(worker: Worker) -> None:
    worker.end.sendall(HEADER.pack(MAGIC, Kind.PREDICT, 100, 100, 1) + b"{")
    worker.end.close()
    assert worker.wait() == (0, "")


def test_it_leaves_when_nobody_takes_the_answer(worker: Worker) -> None:
    worker.ask(Kind.ACTIVATE)
    worker.send(Kind.PREDICT, predict(*[PICTURE] * 200))
    worker.end.close()
    assert worker.wait() == (0, "")


@pytest.mark.parametrize(
    "data",
    [
        b"x" * HEADER.size,
        HEADER.pack(MAGIC, 99, 0, 0, 1),
        HEADER.pack(MAGIC, Kind.PREDICT, 1 << 30, 0, 1),
        HEADER.pack(MAGIC, Kind.PREDICT, 2, 0, 1) + b"[]",
        HEADER.pack(MAGIC, Kind.LEAVE, 2, 0, 1) + b"[]",
        HEADER.pack(MAGIC, Kind.HELLO, 0, 0, 1),
    ],
)
def test_it_gives_up_on_what_is_no_question(worker: Worker, data: bytes) -> None:
    worker.end.sendall(data)
    code, errors = worker.wait()
    assert code == 1
    assert "giving up" in errors


def test_a_model_that_cannot_be_loaded_is_reported_instead_of_hello(model: Path) -> None:
    (model / "program.npu").write_bytes(b"damaged")
    worker = Worker(model)
    answer = worker.receive()
    assert (answer.kind, answer.id) == (Kind.ERROR, 0)
    assert answer.meta["code"] == "FAILED_PRECONDITION"
    assert "program" in answer.meta["message"]
    code, errors = worker.wait()
    assert code == 1
    assert answer.meta["message"] in errors
    worker.close()


def test_kernels_that_this_machine_has_not_are_reported(built_model: Path) -> None:
    worker = Worker(built_model, "--isa", "abacus")
    answer = worker.receive()
    assert answer.kind is Kind.ERROR
    assert "abacus" in answer.meta["message"]
    assert worker.wait()[0] == 1
    worker.close()


def test_sigterm_while_loading_ends_it(built_model: Path) -> None:
    worker = Worker(built_model)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(60) in (0, -signal.SIGTERM)
    worker.close()


def test_the_model_fails_and_the_worker_goes_on(model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_bytes())
    manifest["signature"]["outputs"][0]["shape"] = [-1, 6]
    (model / "manifest.json").write_text(json.dumps(manifest))
    worker = Worker(model)
    worker.receive()
    worker.ask(Kind.ACTIVATE)
    for _ in range(2):
        answer = worker.ask(Kind.PREDICT, predict(PICTURE))
        assert (answer.kind, answer.meta["code"]) == (Kind.ERROR, "INTERNAL")
        assert "its manifest says" in answer.meta["message"]
    worker.send(Kind.STOP)
    code, errors = worker.wait()
    assert code == 0
    assert errors.count("its manifest says") == 2
    worker.close()


def test_neither_grpc_nor_onnxruntime_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, edged.worker.main\n"
        "print(sorted({'grpc', 'onnxruntime', 'onnx', 'asyncio'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
