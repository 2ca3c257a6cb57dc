"""The classes shown beside an answer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from edged.worker.classes import TEXT_LIMIT, TOP_LIMIT, best, text

SCORES = np.array([[0.1, 0.6, 0.3], [1, 0, 0]], np.float32)
LABELS = ("ok", "scratch", "dent")


def test_the_best_classes_of_the_first_item_come_first() -> None:
    found = best({"scores": SCORES}, LABELS, 2)
    assert [(each["index"], each["label"]) for each in found] == [(1, "scratch"), (2, "dent")]
    assert [round(each["score"], 3) for each in found] == [0.6, 0.3]


def detected(scores: list[float], numbers: list[float]) -> dict[str, npt.NDArray[Any]]:
    count = len(scores)
    return {
        "logits": np.ones((1, 4), np.float32),
        "boxes": np.zeros((1, count, 4), np.float32),
        "scores": np.array([scores], np.float32),
        "classes": np.array([numbers], np.float32),
    }


def test_a_detectors_classes_are_its_boxes_best_first() -> None:
    found = best(detected([0.75, 0.5, 0.5, 0], [2, 1, 9, 0]), LABELS, 5)
    assert [(each["index"], each["label"], each["score"]) for each in found] == [
        (2, "dent", 0.75),
        (1, "scratch", 0.5),
        (9, "", 0.5),
    ]
    assert best(detected([0.75, 0.5], [2, 1]), LABELS, 1) == found[:1]
    assert len(best(detected([0.5] * 40, [1] * 40), (), 40)) == TOP_LIMIT


def test_a_detector_that_finds_nothing_sees_no_class() -> None:
    assert best(detected([0, 0], [0, 0]), LABELS, 1) == []


def test_what_is_no_answer_of_a_detector_is_not_read_as_one() -> None:
    outputs = detected([0.5, 0.25], [1, 2])
    assert best(outputs | {"classes": np.zeros((1, 3), np.float32)}, LABELS, 1) == []
    assert best(detected([np.nan], [1]), LABELS, 1) == []
    assert best(detected([0.5], [np.nan]), LABELS, 1) == []
    assert best(detected([0.5], [-1]), LABELS, 1) == []
    assert best(detected([0.5], [np.inf]), LABELS, 1) == []


def test_labels_of_another_number_of_classes_are_not_shown() -> None:
    assert best({"scores": SCORES}, ("ok",), 1) == [
        {"index": 1, "label": "", "score": float(np.float32(0.6))}
    ]


def test_equal_scores_keep_their_order_and_few_are_shown() -> None:
    found = best({"scores": np.zeros((1, 100), np.float32)}, (), 100)
    assert [each["index"] for each in found] == list(range(TOP_LIMIT))
    assert best({"scores": SCORES}, (), 0) == []


def test_only_scores_are_taken_for_scores() -> None:
    assert best({}, LABELS, 1) == []
    assert best({"map": np.zeros((1, 3, 2, 2), np.float32)}, LABELS, 1) == []
    assert best({"index": np.zeros((1, 3), np.int64)}, LABELS, 1) == []
    assert best({"one": np.zeros((1, 1), np.float32)}, LABELS, 1) == []
    assert best({"broken": np.array([[np.nan, 1]], np.float32)}, LABELS, 1) == []
    assert best({"index": np.zeros((1, 3), np.int64), "scores": SCORES}, LABELS, 1)[0]["index"] == 1


def test_classes_become_one_line_that_metadata_can_carry() -> None:
    labels = ("gr\u00fcn\n", "\x7f\u4e2d", '"')
    found = best({"scores": SCORES}, labels, 3)
    line = text(found)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == found


def test_only_as_many_classes_are_said_as_there_is_room_for() -> None:
    labels = tuple(f"{n}" * 300 for n in range(10, 26))
    line = text(best({"scores": np.ones((1, 16), np.float32)}, labels, 16))
    assert 2000 < len(line) <= TEXT_LIMIT
    assert [each["index"] for each in json.loads(line)] == list(range(4))
