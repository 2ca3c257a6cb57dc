"""SSD's boxes: decoded as the original service's clients did, apart from the tensors they read."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from edged import compiler, zoo
from edged.manifest import DETECTIONS
from edged.zoo import boxes
from edged.zoo.ssd import LIMIT, SCALES

Arrays = dict[str, npt.NDArray[Any]]
COUNT = 8732


@cache
def parts() -> compiler.Partition:
    return compiler.partition(zoo.make("ssd-vgg300").graph)


@cache
def session() -> onnxruntime.InferenceSession:
    model = parts().boxes
    assert model is not None
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def decode(logits: npt.NDArray[np.float32], moves: npt.NDArray[np.float32]) -> Arrays:
    """What the CPU makes of all default boxes' logits ``[8732, 21]`` and moves ``[8732, 4]``."""
    feed, start = {}, 0
    for scale in SCALES:
        shape = (1, scale.size, scale.size, scale.boxes, -1)
        end = start + scale.size**2 * scale.boxes
        feed[scale.logits] = logits[start:end].reshape(shape)
        feed[scale.localisations] = moves[start:end].reshape(shape)
        start = end
    assert start == COUNT
    return dict(zip(DETECTIONS, session().run(list(DETECTIONS), feed), strict=True))


def nothing() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    logits = np.zeros((COUNT, 21), np.float32)
    logits[:, 0] = 10
    return logits, np.zeros((COUNT, 4), np.float32)


def overlap(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(each[2:] - each[:2])) for each in (one, other)]
    return both / (sum(areas) - both) if both else 0.0


def expected(
    logits: npt.NDArray[np.float32], moves: npt.NDArray[np.float32]
) -> list[tuple[float, int, npt.NDArray[Any]]]:
    """The same, box by box and class by class."""
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(axis=1, keepdims=True)
    placed = []
    for (x, y, w, h), (dx, dy, dw, dh) in zip(boxes.default_boxes(), moves, strict=True):
        cx, cy = x + 0.1 * w * dx, y + 0.1 * h * dy
        right, down = w * math.exp(0.2 * dw) / 2, h * math.exp(0.2 * dh) / 2
        placed.append(np.clip([cy - down, cx - right, cy + down, cx + right], 0, 1))
    found = []
    for number in range(1, logits.shape[1]):
        kept: list[int] = []
        for index in np.argsort(-shares[:, number], kind="stable"):
            if shares[index, number] <= boxes.SCORE:
                break
            if all(overlap(placed[index], placed[i]) <= boxes.OVERLAP for i in kept):
                kept.append(int(index))
        found += [(float(shares[i, number]), number, placed[i]) for i in kept]
    return sorted(found, key=lambda each: -each[0])[:LIMIT]


def test_default_boxes_are_ssds() -> None:
    found = boxes.default_boxes() * 300
    assert found.shape == (COUNT, 4)
    large = math.sqrt(21 * 45)
    wide, narrow = 21 * math.sqrt(2), 21 / math.sqrt(2)
    sides = [(21, 21), (large, large), (wide, narrow), (narrow, wide)]
    assert found[:4] == pytest.approx(np.array([(4, 4, *each) for each in sides]))
    assert found[4:8, :2] == pytest.approx(np.array([(12, 4)] * 4))  # x runs first
    assert found[38 * 4, :2] == pytest.approx([4, 12])
    # block7: 3 to 1 and 1 to 3 too; and the last map's only pixel.
    assert found[38 * 38 * 4 + 4] == pytest.approx([8, 8, 45 * math.sqrt(3), 45 / math.sqrt(3)])
    assert found[-4] == pytest.approx([150, 150, 261, 261])


def test_where_nothing_is_seen_all_is_zero() -> None:
    answer = decode(*nothing())
    assert {name: array.shape for name, array in answer.items()} == {
        "boxes": (1, LIMIT, 4),
        "scores": (1, LIMIT),
        "classes": (1, LIMIT),
    }
    assert all(array.dtype == np.float32 and not array.any() for array in answer.values())


def test_a_box_is_moved_scaled_and_cut_at_the_edges() -> None:
    logits, moves = nothing()
    index = 38 * 38 * 4 + (9 * 19 + 9) * 6  # block7, in the middle of the picture, square
    logits[index, 15] = 20
    moves[index] = [2, -1, 5 * math.log(2), 0]
    logits[COUNT - 4, 3], moves[COUNT - 4] = 15, 3  # the largest box, moved out of the picture
    answer = decode(logits, moves)
    middle, side = 9.5 * 16, 45.0
    x, y = middle + 0.2 * side, middle - 0.1 * side
    box = np.array([y - side / 2, x - side, y + side / 2, x + side]) / 300
    assert answer["boxes"][0, 0] == pytest.approx(box, abs=1e-6)
    assert answer["classes"][0, :3].tolist() == [15, 3, 0]
    assert answer["boxes"][0, 1, 2:].tolist() == [1, 1]
    assert answer["scores"][0, 0] == pytest.approx(1, abs=1e-3)
    assert not answer["boxes"][0, 2:].any()


def test_of_overlapping_boxes_of_one_class_the_best_stays() -> None:
    logits, moves = nothing()
    index = (20 * 38 + 20) * 4
    for offset, (number, value) in enumerate([(7, 14), (7, 13), (8, 12)]):
        logits[index + offset, number] = value
    moves[index + 1] = [0, 0, *[5 * math.log(21 / math.sqrt(21 * 45))] * 2]  # the same square
    moves[index + 2] = [0, 0, 5 * math.log(1 / math.sqrt(2)), 5 * math.log(math.sqrt(2))]
    answer = decode(logits, moves)
    assert answer["classes"][0, :3].tolist() == [7, 8, 0]
    assert answer["boxes"][0, 0] == pytest.approx(answer["boxes"][0, 1], abs=1e-5)


def test_many_boxes_are_those_that_plain_loops_find() -> None:
    random = np.random.default_rng(5)
    logits, moves = nothing()
    logits += random.normal(0, 1, logits.shape).astype(np.float32)
    moves += random.normal(0, 1, moves.shape).astype(np.float32)
    seen = random.choice(COUNT, 300, replace=False)
    logits[seen, random.integers(1, 21, 300)] += random.uniform(8, 14, 300)
    answer, wanted = decode(logits, moves), expected(logits, moves)
    assert len(wanted) > 100
    rows = zip(answer["scores"][0], answer["classes"][0], answer["boxes"][0], strict=True)
    for (score, number, box), (other, kind, place) in zip(rows, wanted, strict=False):
        assert score == pytest.approx(other, abs=1e-5)
        assert number == kind
        assert box == pytest.approx(place, abs=1e-5)
    assert not answer["scores"][0, len(wanted) :].any()


def test_the_twelve_tensors_do_not_wait_for_the_boxes() -> None:
    made = parts()
    assert made.post is not None
    assert made.boxes is not None
    raw = [port.name for port in made.outputs][:12]
    assert [each.name for each in made.post.graph.output] == raw
    assert {node.op_type for node in made.post.graph.node} == {"Reshape"}
    assert [each.name for each in made.boxes.graph.output] == list(DETECTIONS)
    assert {each.name for each in made.boxes.graph.input} == set(raw)
