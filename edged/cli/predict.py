"""``edged predict FILE...``: classifies pictures, or shows the boxes that a detector finds."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged import config
from edged.cli import _token
from edged.cli._table import table as formatted
from edged.errors import RequestError
from edged.manifest import DETECTIONS

if TYPE_CHECKING:
    from edged.client import Class, Client, Prediction

HELP = "send pictures to the model; shows classes or boxes, and the time in each stage"
TOP_LIMIT = 16
SURE = 0.5  # score from which on boxes are shown unless --top says how many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JPEG or PNG")
    parser.add_argument("--json", action="store_true", help="one JSON object per file")
    parser.add_argument(
        "--top",
        type=_top,
        metavar="K",
        help=f"classes or boxes to show: 1 to 16 (default: the best class; boxes from {SURE} on)",
    )
    parser.add_argument(
        "--input", default="images", metavar="NAME", help="of the model's signature"
    )
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="per file")
    parser.add_argument("--target", metavar="HOST:PORT|unix:PATH", help="the server")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="the daemon's sockets' folder")
    _token.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sends the files one by one; returns 0 if all were answered, 1 if not.

    Raises:
        RequestError: there is no server, or no model, to ask.
        ConfigError: the token or a certificate cannot be used.
    """
    answers: list[tuple[Path, Prediction | str]] = []
    with _token.client(_target(arguments), arguments) as client:
        for path in arguments.files:
            answer = _ask(client, path, arguments)
            answers.append((path, answer))
            if arguments.json:
                print(json.dumps(_facts(path, answer)), flush=True)
    if not arguments.json:
        print(table(answers))
    return 1 if any(isinstance(answer, str) for _, answer in answers) else 0


def _ask(client: Client, path: Path, arguments: argparse.Namespace) -> Prediction | str:
    """Returns the answer for one file, or why there is none."""
    try:
        picture = path.read_bytes()
        top = TOP_LIMIT if arguments.top is None else arguments.top
        answer = client.predict({arguments.input: picture}, top=top, timeout=arguments.timeout)
        return answer if arguments.top else _best(answer)
    except OSError as exc:
        return f"cannot read it: {exc.strerror}"
    except RequestError as exc:
        if exc.code in ("UNAVAILABLE", "NOT_FOUND"):  # the other files would fare no better
            raise
        return f"{exc.code}: {exc}"


def _best(answer: Prediction) -> Prediction:
    """Returns the answer with what is shown where nobody said how much."""
    boxes = _boxes(answer)
    top = answer.top[:1] if boxes is None else [c for c in answer.top if c.score >= SURE]
    return dataclasses.replace(answer, top=tuple(top))


def _boxes(answer: Prediction) -> list[list[float]] | None:
    """Returns the boxes of ``answer.top``: top, left, bottom, right; None from a classifier."""
    boxes, *beside = (answer.outputs.get(name) for name in DETECTIONS)
    if boxes is None or isinstance(boxes, list) or any(each is None for each in beside):
        return None
    if boxes.ndim != 3 or boxes.shape[2] != 4 or not len(answer.top) <= boxes.shape[1]:
        return None
    found: list[list[float]] = boxes[0, : len(answer.top)].tolist()
    return found


def _target(arguments: argparse.Namespace) -> str:
    if arguments.target:
        return str(arguments.target)
    socket = (arguments.run_dir or config.default_run_dir()).absolute() / "grpc.sock"
    # With an explicit folder its daemon is meant, and no other.
    return f"unix:{socket}" if arguments.run_dir or socket.exists() else "127.0.0.1:50051"


def _top(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= TOP_LIMIT:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {TOP_LIMIT}, got {text!r}")
    return int(text)


def table(answers: Sequence[tuple[Path, Prediction | str]]) -> str:
    """Returns the answers for people: a row for each class that is shown."""
    stages = list(
        dict.fromkeys(
            stage
            for _, answer in answers
            if not isinstance(answer, str)
            for stage in answer.times_us
        )
    )
    sides = []
    if any(not isinstance(answer, str) and _boxes(answer) is not None for _, answer in answers):
        sides = ["top", "left", "bottom", "right"]
    times = [*(f"{stage} ms" for stage in stages), "total ms"]
    headers = ["file", "class", "confidence", *sides, *times]
    rows: list[list[object]] = []
    notes = []
    for path, answer in answers:
        if isinstance(answer, str):
            rows.append([path.name, *(None for _ in headers[1:])])
            notes.append(f"{path}: {answer}")
        else:
            rows += _rows(path, answer, stages, len(sides))
    return "\n".join([formatted(headers, rows), *notes])


def _rows(path: Path, answer: Prediction, stages: Sequence[str], sides: int) -> list[list[object]]:
    times = [_ms(answer.times_us.get(stage)) for stage in stages] + [_ms(answer.total_us)]
    boxes = _boxes(answer) if sides else None
    if not answer.top:
        return [[path.name, None, None, *[None] * sides, *times]]
    rows: list[list[object]] = [
        [
            "" if i else path.name,
            _name(known),
            known.score,
            *([None] * sides if boxes is None else boxes[i]),
            *([None] * len(times) if i else times),
        ]
        for i, known in enumerate(answer.top)
    ]
    return rows


def _name(known: Class) -> str:
    # A label comes from whoever made the image, and goes to a terminal.
    label = "".join(c if c.isprintable() else "?" for c in known.label)
    return label or f"class {known.index}"


def _ms(time_us: int | None) -> float | None:
    return None if time_us is None else time_us / 1e3


def _facts(path: Path, answer: Prediction | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"file": str(path), "error": answer}
    return {
        "file": str(path),
        "top": [dataclasses.asdict(each) for each in answer.top],
        **({} if (boxes := _boxes(answer)) is None else {"boxes": boxes}),
        "times_us": answer.times_us,
        "queued_us": answer.queued_us,
        "parked_us": answer.parked_us,
        "total_us": answer.total_us,
        "model": answer.model,
        "version": answer.version,
        "digest": answer.digest,
        "request_id": answer.request_id,
    }
