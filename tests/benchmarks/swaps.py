"""Swaps under load: what callers notice of them. ``python -m tests.benchmarks.swaps --help``.

Callers send pictures without a pause while two models take turns in service. Each answer must be
what the model gave before the load began, to the bit; the digest in the answer's metadata says
which model that was. The figures are the blackout of each swap (for how
long requests were held, as the history has it), and the callers' 99th percentile while the next
model was prepared, beside the one when nothing was going on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

import edged
from edged import messages
from tests.e2e.device import CALL_LIMIT, CONTROL, ROOT, Device, raw
from tests.e2e.hostile import request

DEADLINE = 10.0  # seconds a caller waits, as the original service's clients do
PICTURES = sorted((ROOT / "packaging" / "demo" / "pictures").glob("*.jpg"))


@dataclass(frozen=True)
class Answered:
    """One request: when it began and ended, which model answered, whether as it should."""

    began: float
    ended: float
    digest: str
    right: bool


@dataclass
class Outcome:
    """What a run gave; times in seconds.

    Attributes:
        answers: one for each request that was answered.
        errors: texts of the others.
        preparing: from when to when a model was prepared beside the one in service.
        deploying: from when to when anything was going on.
        blackouts: for how long requests were held, of each swap.
        failures: deployments that did not come into service.
    """

    answers: list[Answered] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    preparing: list[tuple[float, float]] = field(default_factory=list)
    deploying: list[tuple[float, float]] = field(default_factory=list)
    blackouts: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def latencies(self, spans: Sequence[tuple[float, float]] | None = None) -> list[float]:
        """Returns the latencies of requests that touch one of the spans; of none if None."""
        if spans is not None:
            return [a.ended - a.began for a in self.answers if _touches(a, spans)]
        busy = self.deploying
        return [a.ended - a.began for a in self.answers if not _touches(a, busy)]

    def facts(self) -> dict[str, object]:
        """Returns the figures, times in milliseconds."""
        calm, preparing = p99(self.latencies()), p99(self.latencies(self.preparing))
        return {
            "requests": len(self.answers),
            "errors": len(self.errors),
            "wrong": sum(not each.right for each in self.answers),
            "swaps": len(self.blackouts),
            "failed_swaps": self.failures,
            "blackouts_ms": [round(each * 1e3, 1) for each in self.blackouts],
            "worst_blackout_ms": round(max(self.blackouts, default=0) * 1e3, 1),
            "p99_undisturbed_ms": round(calm * 1e3, 1),
            "p99_preparing_ms": round(preparing * 1e3, 1),
            "p99_ratio": round(preparing / calm, 2) if calm else None,
            "worst_latency_ms": round(max(a.ended - a.began for a in self.answers) * 1e3, 1),
        }


def _touches(answer: Answered, spans: Sequence[tuple[float, float]]) -> bool:
    return any(answer.began < end and answer.ended > begin for begin, end in spans)


def p99(latencies: Sequence[float]) -> float:
    """Returns the 99th percentile; 0 of fewer than two."""
    return statistics.quantiles(latencies, n=100)[98] if len(latencies) > 1 else 0.0


class Load:
    """Callers that send pictures until so many were sent, and ``enough`` is set.

    Args:
        device: with a model in service.
        expected: the right answers, by model's digest: one for each of ``bodies``.
        bodies: what is sent, in turns.
    """

    def __init__(
        self, device: Device, expected: dict[str, list[bytes]], bodies: Sequence[bytes]
    ) -> None:
        self.outcome = Outcome()
        self._device = device
        self._expected = expected
        self._bodies = bodies
        self._more = threading.Condition()
        self._sent = 0
        self.enough = threading.Event()

    def run(self, count: int, concurrency: int) -> list[threading.Thread]:
        """Starts the callers."""
        threads = [
            threading.Thread(target=self._call, args=(count,), daemon=True)
            for _ in range(concurrency)
        ]
        for thread in threads:
            thread.start()
        return threads

    def wait_for(self, count: int) -> None:
        """Returns when so many requests have ended."""
        outcome = self.outcome
        with self._more:
            self._more.wait_for(lambda: len(outcome.answers) + len(outcome.errors) >= count)

    def _call(self, count: int) -> None:
        with self._device.channel() as channel:
            predict = raw(channel)
            while True:
                with self._more:
                    number, self._sent = self._sent, self._sent + 1
                if number >= count and self.enough.is_set():
                    return
                self._one(predict, number % len(self._bodies))

    def _one(self, predict: grpc.UnaryUnaryMultiCallable[bytes, bytes], which: int) -> None:
        began = time.monotonic()
        try:
            answer, call = predict.with_call(self._bodies[which], timeout=DEADLINE)
        except grpc.RpcError as exc:
            with self._more:
                self.outcome.errors.append(f"{exc.code()}: {exc.details()}")
                self._more.notify_all()
            return
        ended = time.monotonic()
        digest = str(dict(call.trailing_metadata() or ()).get("edged-model-digest"))
        right = digest in self._expected and canonical(answer) == self._expected[digest][which]
        with self._more:
            self.outcome.answers.append(Answered(began, ended, digest, right))
            self._more.notify_all()


def canonical(answer: bytes) -> bytes:
    """Returns an answer with its outputs in order: each process has them in another one."""
    return messages.PredictResponse.FromString(answer).SerializeToString(deterministic=True)


def swap(device: Device, reference: str, outcome: Outcome) -> None:
    """Deploys, and notes what went on when."""
    times: dict[str, float] = {}
    last = None
    began = time.monotonic()
    with device.channel(f"unix:{device.run}/control.sock") as channel:
        deploy = channel.unary_stream(
            f"{CONTROL}/Deploy",
            messages.DeployRequest.SerializeToString,
            messages.DeployEvent.FromString,
        )
        for event in deploy(messages.DeployRequest(reference=reference), timeout=CALL_LIMIT):
            times.setdefault(event.state, time.monotonic())
            last = event
    assert last is not None
    outcome.deploying.append((began, time.monotonic()))
    if last.state != "committed" or "commit" not in times:
        outcome.failures.append(f"{last.state}: {last.error}")
        return
    outcome.preparing.append((times["prepare"], times["park"]))
    outcome.blackouts.append(last.parked_us / 1e6)


def learn(
    device: Device, references: Sequence[str], bodies: Sequence[bytes]
) -> dict[str, list[bytes]]:
    """Returns each model's answers, by digest; the first one is in service afterwards."""
    expected: dict[str, list[bytes]] = {}
    for reference in [*references[1:], references[0]]:
        last = device.deploy(reference)[-1]
        assert last.state == "committed", last.error
        expected[last.digest] = [canonical(device.predict(body)) for body in bodies]
    answers = list(expected.values())
    assert answers[0] != answers[1], "the two models must not answer the same"
    for digest, (first, *_) in expected.items():
        named = messages.PredictResponse.FromString(first).model_spec
        record = next(each for each in device.history() if each.digest == digest)
        assert (named.name, str(named.version.value)) == (record.name, record.version)
    return expected


def run(
    device: Device, references: Sequence[str], *, requests: int, swaps: int, concurrency: int = 8
) -> Outcome:
    """Runs the load with the swaps spread over it, after a quiet beginning."""
    bodies = [request(path.read_bytes()).SerializeToString() for path in PICTURES[:4]]
    load = Load(device, learn(device, references, bodies), bodies)
    callers = load.run(requests, concurrency)
    for number in range(swaps):
        load.wait_for(requests * (number + 2) // (swaps + 3))
        swap(device, references[(number + 1) % len(references)], load.outcome)
    load.enough.set()
    for caller in callers:
        caller.join()
    return load.outcome


def build(folder: Path, source: str) -> list[str]:
    """Builds two models that answer differently; returns their references."""
    references = []
    for number in (1, 2):
        reference = f"oci:{folder / f'model-{number}'}"
        if source == "surface":
            demo = ROOT / "packaging" / "demo"
            edged.build(
                demo / "surface.onnx",
                reference,
                name="surface",
                version=str(number),
                labels=demo / "labels.txt",
                preprocess=demo / "preprocess.json",
                format="ms-fp13" if number == 1 else "ms-fp8",
            )
        else:
            edged.build(
                source,
                reference,
                name=source,
                version=str(number),
                weights=f"random:{number}",
            )
        references.append(reference)
    return references


def main() -> int:
    """Runs the command; returns 1 if a request or a swap failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50", help="surface, or a network of the zoo")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--runtime", default="process")
    parser.add_argument("--images", type=Path, help="folder to keep the models' images in")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    folder.chmod(0o711)  # a container's user passes through
    images = given.images or folder
    references = [f"oci:{images / f'model-{number}'}" for number in (1, 2)]
    if not (images / "model-2").exists():
        references = build(images, given.model)
    device = Device(folder, "edged")
    device.start("--runtime", given.runtime)
    try:
        outcome = run(
            device,
            references,
            requests=given.requests,
            swaps=given.swaps,
            concurrency=given.concurrency,
        )
    finally:
        device.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(outcome.facts(), indent=2))
    for error in outcome.errors[:10]:
        print(error, file=sys.stderr)
    return int(
        bool(outcome.errors or outcome.failures or not all(a.right for a in outcome.answers))
    )


if __name__ == "__main__":
    sys.exit(main())
