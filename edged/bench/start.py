"""How long a device needs from power-on to its first good answer.

What an operator would do, and nothing less: a signed image is deployed, edged is stopped, and then
started anew with the same command as a service manager uses, with signatures required. The time
runs from before the process is made until an answer has come that is the one of before. No network
is asked; the files are in the machine's memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from edged import messages, oci
from edged.bench.server import deploy, started
from edged.client import OPTIONS, PREDICT
from edged.errors import DeviceError

ANSWER_LIMIT = 60.0  # seconds


@dataclass(frozen=True)
class Start:
    """One start, in milliseconds since the command.

    Attributes:
        ready_ms: edged listened.
        answer_ms: the first answer was there.
    """

    ready_ms: float
    answer_ms: float


def signed_copy(image: oci.Image, folder: Path) -> tuple[str, Path]:
    """Copies an image and signs the copy with a key made for it.

    Args:
        image: of a model.
        folder: an empty one.

    Returns:
        The copy's reference, and the folder of trusted keys that has the key's other half.
    """
    trusted = folder / "keys"
    oci.keys.generate(folder / "bench")
    oci.keys.trust(folder / "bench.pub", trusted)
    layout = oci.LayoutFolder.create(folder / "image")
    image.copy_to(layout)
    oci.signature.add(layout, image.digest, oci.keys.read_private(folder / "bench.key"))
    return f"oci:{layout.path}", trusted


def measure(
    folder: Path,
    image: str,
    body: bytes,
    flags: Sequence[str],
    rounds: int,
    tell: Callable[[int, int], None],
) -> tuple[list[Start], str]:
    """Deploys an image once, then starts edged again and again.

    Args:
        folder: an empty one, with a path short enough for sockets in it.
        image: reference of the model, absolute.
        body: a PredictRequest for it.
        flags: for ``edged run``.
        rounds: how many starts.
        tell: called with the starts done, and all.

    Returns:
        The starts, and what keeps the model's process in.

    Raises:
        DeviceError: edged does not start, or answers otherwise than before.
        FetchError: it does not take the image.
    """
    with started(folder, flags) as target:
        status = deploy(folder, image)
        expected = _ask(target, body)
    starts = []
    for number in range(rounds):
        began = time.perf_counter()
        with started(folder, flags) as target:
            ready = time.perf_counter()
            answer = _ask(target, body)
            ended = time.perf_counter()
        if answer != expected:
            raise DeviceError("cannot measure starts: the answer is not the one of before")
        starts.append(Start((ready - began) * 1e3, (ended - began) * 1e3))
        tell(number + 1, rounds)
    return starts, str(status["sandbox"] or status["runtime"])


def _ask(target: str, body: bytes) -> messages.PredictResponse:
    with grpc.insecure_channel(target, options=OPTIONS) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)
        try:
            answer = ask(body, timeout=ANSWER_LIMIT)
        except grpc.RpcError as exc:
            raise DeviceError(f"cannot measure starts: no answer: {exc}") from exc
    return messages.PredictResponse.FromString(answer)  # as bytes, a map has no order
