"""The best classes of an answer, for those who only watch: metrics, telemetry, the command line.

A classifier's are those with the highest scores; a detector's, those of its boxes, best first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edged.manifest import DETECTIONS
from edged.messages.link import to_json

TOP_LIMIT = 16
# Clients take 8 KiB of trailing metadata by default, which the times of the stages share.
TEXT_LIMIT = 3072  # bytes
CLASS_LIMIT = 1 << 24  # of numbers that float32 holds


def best(
    outputs: Mapping[str, npt.NDArray[Any]], labels: Sequence[str], count: int
) -> list[dict[str, Any]]:
    """Returns the classes of the first item with the highest scores, best first.

    The scores are the first output that looks like them: float32, one finite value a class for
    each item. Where there are a detector's outputs (``DETECTIONS``), they are those of its boxes.

    Args:
        outputs: by name, in the signature's order.
        labels: one for each class; where their number is another, they are not of these scores.
            Of a detector's classes any number may have one.
        count: how many at most.

    Returns:
        Objects ``{"index": int, "label": str, "score": float}``, the label empty where there is
        none; no objects for a model that does not classify, or that detects nothing.
    """
    if all(name in outputs for name in DETECTIONS):
        return _detected(outputs, labels, count)
    for array in outputs.values():
        if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] < 2:
            continue
        scores = array[0]
        if not np.isfinite(scores).all():
            return []
        named = labels if len(labels) == scores.size else None
        return [
            {"index": i, "label": named[i] if named else "", "score": float(scores[i])}
            for i in _order(scores, min(count, TOP_LIMIT))
        ]
    return []


def text(best: Sequence[dict[str, Any]]) -> str:
    """Returns classes as JSON in printable ASCII, as many as ``TEXT_LIMIT`` has room for."""
    found = to_json(best)
    while len(found) > TEXT_LIMIT:
        best = best[:-1]
        found = to_json(best)
    return found.replace("\x7f", "\\u007f")  # JSON need not escape it, metadata cannot carry it


def _order(scores: npt.NDArray[np.float32], count: int) -> list[int]:
    """Returns the indices of the highest scores, highest first; of equal ones the first."""
    if count == 1:  # as nearly everybody asks; no need to sort a thousand
        return [int(scores.argmax())]
    order: list[int] = np.argsort(-scores, kind="stable")[:count].tolist()
    return order


def _detected(
    outputs: Mapping[str, npt.NDArray[Any]], labels: Sequence[str], count: int
) -> list[dict[str, Any]]:
    _, scores, numbers = (outputs[name] for name in DETECTIONS)
    if scores.shape != numbers.shape or scores.ndim != 2:
        return []
    found: list[dict[str, Any]] = []
    for score, number in zip(scores[0], numbers[0], strict=True):
        if len(found) == min(count, TOP_LIMIT) or not score > 0 or not 0 <= number < CLASS_LIMIT:
            break
        index = int(number)
        label = labels[index] if index < len(labels) else ""
        found.append({"index": index, "label": label, "score": float(score)})
    return found
