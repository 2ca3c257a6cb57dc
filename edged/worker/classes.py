"""The best classes of an answer, for those who only watch: metrics, telemetry, the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

TOP_LIMIT = 16


def best(
    outputs: Mapping[str, npt.NDArray[Any]], labels: Sequence[str], count: int
) -> list[dict[str, Any]]:
    """Returns the classes of the first item with the highest scores, best first.

    The scores are the first output that looks like them: float32, one finite value a class for
    each item.

    Args:
        outputs: by name, in the signature's order.
        labels: one for each class; where their number is another, they are not of these scores.
        count: how many at most.

    Returns:
        Objects ``{"index": int, "label": str | None, "score": float}``; none for a model that does
        not classify.
    """
    for array in outputs.values():
        if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] < 2:
            continue
        scores = array[0]
        if not np.isfinite(scores).all():
            return []
        order = np.argsort(-scores, kind="stable")[: min(count, TOP_LIMIT)]
        named = labels if len(labels) == scores.size else None
        return [
            {"index": int(i), "label": named[i] if named else None, "score": float(scores[i])}
            for i in order
        ]
    return []
