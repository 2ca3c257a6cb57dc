"""What SSD's answers mean, as ONNX nodes for the CPU: boxes moved and scaled, the best kept.

As SSD-Tensorflow and the clients of the original service decoded them: a localisation is
(x, y, width, height); it moves a default box by 0.1 of its sides and scales it by exp(0.2 times).
A class's score is its softmax. Boxes are cut at the picture's edges; of those of one class that
overlap by more than ``OVERLAP`` (intersection over union) the best stays. ``ssd.LIMIT`` boxes are
given, best first, those beyond the last one zero; class 0 is no object.

The nodes are for one picture, as the device runs it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edged.zoo.layers import Detections
from edged.zoo.nodes import Nodes
from edged.zoo.ssd import BOXES, LIMIT, NUMBERS, SCALES, SCOPE, SCORES, SIZE, Scale

SCORE = 0.05
"""Boxes with less are not given."""
OVERLAP = 0.45
MOVES, SCALING = 0.1, 0.2

_NAME = f"{SCOPE}/detections"


def default_boxes() -> npt.NDArray[np.float64]:
    """Returns all default boxes ``[boxes, 4]``, in the order in which the maps are looked at.

    Each is the centre's x and y, width and height, as parts of the picture.
    """
    return np.concatenate([_default_boxes(scale) for scale in SCALES])


def _default_boxes(scale: Scale) -> npt.NDArray[np.float64]:
    small, large = scale.sides[0], math.sqrt(scale.sides[0] * scale.sides[1])
    sizes = [(small, small), (large, large)]
    sizes += [(small * math.sqrt(ratio), small / math.sqrt(ratio)) for ratio in scale.ratios]
    middles = (np.arange(scale.size) + 0.5) * scale.step
    y, x, which = np.meshgrid(middles, middles, np.arange(len(sizes)), indexing="ij")
    sides = np.array(sizes)[which.ravel()]
    return np.column_stack([x.ravel(), y.ravel(), sides]) / SIZE


def write(graph: Nodes, layer: Detections) -> None:
    """Adds the nodes that make boxes ``[1, K, 4]``, scores and classes ``[1, K]``."""
    half = len(layer.sources) // 2
    logits = _flat(graph, layer.sources[:half], f"{_NAME}/all_logits", -1)
    moves = _flat(graph, layer.sources[half:], f"{_NAME}/all_moves", 4)
    corners = _corners(graph, moves)
    scores = _scores(graph, logits)
    _best(graph, corners, scores)


def _flat(graph: Nodes, sources: tuple[str, ...], name: str, last: int) -> str:
    """Returns all scales' values behind each other, ``[1, boxes, values]``."""
    flat = []
    for scale, source in zip(SCALES, sources, strict=True):
        count = scale.size * scale.size * scale.boxes
        shape = _integers(graph, f"{name}/{scale.block}/shape", [0, count, last])
        flat.append(graph.node("Reshape", f"{name}/{scale.block}", [source, shape]))
    return graph.node("Concat", name, flat, axis=1)


def _corners(graph: Nodes, moves: str) -> str:
    """Returns the boxes' top, left, bottom and right ``[1, boxes, 4]``, within the picture."""
    boxes = default_boxes().astype(np.float32)[None]

    def constant(name: str, array: npt.NDArray[np.floating]) -> str:
        return graph.parameter(f"{_NAME}/{name}", array.astype(np.float32))

    def node(op: str, name: str, *inputs: str) -> str:
        return graph.node(op, f"{_NAME}/{name}", list(inputs))

    split = _integers(graph, f"{_NAME}/split", [2, 2])
    parts = [f"{_NAME}/offset", f"{_NAME}/growth"]
    graph.several("Split", parts, [moves, split], axis=2)
    offset = node("Mul", "moved", parts[0], constant("moves", MOVES * boxes[..., 2:]))
    middle = node("Add", "middle", offset, constant("middles", boxes[..., :2]))
    growth = node("Mul", "scaled", parts[1], constant("scaling", np.array(SCALING, np.float32)))
    factor = node("Exp", "factor", growth)
    side = node("Mul", "half", factor, constant("halves", boxes[..., 2:] / 2))
    low, high = node("Sub", "low", middle, side), node("Add", "high", middle, side)
    both = graph.node("Concat", f"{_NAME}/both", [low, high], axis=2)
    order = _integers(graph, f"{_NAME}/order", [1, 0, 3, 2])
    turned = graph.node("Gather", f"{_NAME}/turned", [both, order], axis=2)
    edges = [constant("edge0", np.array(0.0)), constant("edge1", np.array(1.0))]
    return node("Clip", "corners", turned, *edges)


def _scores(graph: Nodes, logits: str) -> str:
    """Returns the scores of all classes but none, ``[1, classes - 1, boxes]``."""
    shares = graph.node("Softmax", f"{_NAME}/softmax", [logits], axis=2)
    bounds = [_integers(graph, f"{_NAME}/{n}", [v]) for n, v in (("one", 1), ("end", 1 << 31))]
    axis = _integers(graph, f"{_NAME}/axis", [2])
    objects = graph.node("Slice", f"{_NAME}/objects", [shares, *bounds, axis])
    return graph.node("Transpose", f"{_NAME}/by_class", [objects], perm=[0, 2, 1])


def _best(graph: Nodes, corners: str, scores: str) -> None:
    """Keeps the best boxes and adds the outputs."""
    limits = [
        _integers(graph, f"{_NAME}/limit", [LIMIT]),
        graph.parameter(f"{_NAME}/overlap", np.array([OVERLAP], np.float32)),
        graph.parameter(f"{_NAME}/score", np.array([SCORE], np.float32)),
    ]
    kept = graph.node("NonMaxSuppression", f"{_NAME}/kept", [corners, scores, *limits])
    values = graph.node("GatherND", f"{_NAME}/values", [scores, kept])
    # Zeros behind them, so that there are always LIMIT to take; their place stays zero.
    padding = graph.parameter(f"{_NAME}/padding", np.zeros(LIMIT, np.float32))
    enough = graph.node("Concat", f"{_NAME}/enough", [values, padding], axis=0)
    top, place = f"{_NAME}/top", f"{_NAME}/place"
    graph.several("TopK", [top, place], [enough, limits[0]])
    zero = _integers(graph, f"{_NAME}/zero", [0])
    pairs = _integers(graph, f"{_NAME}/pairs", [1, LIMIT])
    graph.node("Reshape", SCORES, [top, pairs])
    found = graph.node("Cast", f"{_NAME}/found", [top], to=9)  # BOOL
    blank = graph.parameter(f"{_NAME}/blank", np.zeros((LIMIT, 3), np.int64))
    rows = graph.node("Concat", f"{_NAME}/rows", [kept, blank], axis=0)
    row = graph.node("Gather", f"{_NAME}/row", [rows, place], axis=0)
    one, two = (_integers(graph, f"{_NAME}/column{i}", i) for i in (1, 2))
    number = graph.node("Gather", f"{_NAME}/number", [row, one], axis=1)
    counted = graph.node("Add", f"{_NAME}/counted", [number, _integers(graph, f"{_NAME}/1", 1)])
    number = graph.node("Where", f"{_NAME}/classes", [found, counted, zero])
    number = graph.node("Cast", f"{_NAME}/as_float", [number], to=1)  # all answers are floats
    graph.node("Reshape", NUMBERS, [number, pairs])
    which = graph.node("Gather", f"{_NAME}/which", [row, two], axis=1)
    chosen = graph.node("Gather", f"{_NAME}/chosen", [corners, which], axis=1)
    mask = graph.node("Cast", f"{_NAME}/mask", [found], to=1)  # FLOAT
    columns = _integers(graph, f"{_NAME}/columns", [1, LIMIT, 1])
    column = graph.node("Reshape", f"{_NAME}/column", [mask, columns])
    shape = _integers(graph, f"{_NAME}/shape", [1, LIMIT, 4])
    masked = graph.node("Mul", f"{_NAME}/masked", [chosen, column])
    graph.node("Reshape", BOXES, [masked, shape])


def _integers(graph: Nodes, name: str, values: int | list[int]) -> str:
    return graph.parameter(name, np.array(values, np.int64))
