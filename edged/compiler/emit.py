"""Emission: draft chains become a program; constants are rounded here, and only here.

Everything constant was folded in float64; it is rounded to float32, then to float16 (NPU.md 1.7).
A constant that is NaN, infinite or beyond float16 by then is an error that names node and tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edged.compiler.chain import (
    ConvolutionDraft,
    Draft,
    Drafts,
    NormDraft,
    PlainDraft,
    ScaleDraft,
    SumDraft,
)
from edged.compiler.graph import Node
from edged.compiler.steps import Copies, Doubles, ZeroPad
from edged.compiler.view import View
from edged.errors import ModelError
from edged.npu.chains import (
    Add,
    Chain,
    Convolution,
    Copy,
    Halves,
    Norm,
    Scale,
    Tensor,
    Window,
)
from edged.npu.listing import Port, port
from edged.npu.program import Program
from edged.npu.sku import sku_named

_ROUNDED_AT_ONCE = 1 << 20
"""Weights that are held in float64 at a time."""


def emit(
    drafts: Drafts,
    inputs: Sequence[tuple[str, View]],
    outputs: Sequence[tuple[str, View]],
    sizes: dict[int, Tensor],
    *,
    format: str,  # noqa: A002 - the word users know
    sku: str,
) -> Program:
    """Returns the program of draft chains.

    Args:
        drafts: chains in order.
        inputs: names and views of what enters the NPU.
        outputs: names and views of what leaves it.
        sizes: of all feature maps.
        format: number format of the blocks.
        sku: the device build.

    Raises:
        ModelError: a constant is out of range, or no such device runs the program.
    """
    convolutions = [each for each in drafts.chains if isinstance(each, ConvolutionDraft)]
    needed, memory = 2 * sum(c.step.weights.size for c in convolutions), sku_named(sku).memory_bytes
    if needed > memory:
        # Said before they are made: what fills weights in a small model may be large.
        raise ModelError(
            f"cannot compile model: its weights take {needed} bytes, {sku} has {memory}"
        )
    emitter = _Emitter(sizes)
    for _, view in inputs:
        emitter.tensor(view.map)
    for each in drafts.chains:
        emitter.emit(each)
    ports = [emitter.ports(each) for each in (inputs, outputs)]
    return Program(format, sku, tuple(emitter.tensors), ports[0], ports[1], tuple(emitter.chains))


class _Emitter:
    def __init__(self, sizes: dict[int, Tensor]) -> None:
        self.tensors: list[Tensor] = []
        self.chains: list[Chain] = []
        self._sizes = sizes
        self._numbers: dict[int, int] = {}

    def tensor(self, feature_map: int) -> int:
        """Returns the program's number for a feature map, a new one at its first mention."""
        if feature_map not in self._numbers:
            self._numbers[feature_map] = len(self.tensors)
            self.tensors.append(self._sizes[feature_map])
        return self._numbers[feature_map]

    def ports(self, values: Sequence[tuple[str, View]]) -> tuple[Port, ...]:
        """Returns the ports of values that enter or leave."""
        found = []
        for name, view in values:
            layout = view.layout
            if layout is None:
                raise ModelError(
                    f"cannot compile model: {name!r} of shape {list(view.shape)} is a flattened "
                    "feature map; ask for the value before, or give it to the CPU"
                )
            found.append(port(name, self._numbers[view.map], layout, tuple(self.tensors)))
        return tuple(found)

    def emit(self, made: Draft) -> None:
        """Adds a chain."""
        if isinstance(made, ConvolutionDraft):
            self.chains.append(self._convolution(made))
        elif isinstance(made, ScaleDraft):
            scale = _halves(made.node, "scale", made.scale)
            bias = _halves(made.node, "bias", made.bias)
            source, target = self.tensor(made.source), self.tensor(made.target)
            self.chains.append(Scale(source, target, scale, bias, made.activation))
        elif isinstance(made, SumDraft):
            self._sum(made)
        elif isinstance(made, NormDraft):
            factor = None if made.scale is None else _halves(made.node, "scale", made.scale)
            self.chains.append(Norm(self.tensor(made.source), self.tensor(made.target), factor))
        else:
            self._plain(made)

    def _convolution(self, made: ConvolutionDraft) -> Convolution:
        window = made.step.window
        return Convolution(
            self.tensor(made.source),
            self.tensor(made.target),
            Window(window.kernel, window.stride, made.pads, window.dilation),
            self._weights(made),
            _halves(made.node, "bias", made.bias),
            None if made.residual is None else self.tensor(made.residual),
            made.activation,
        )

    def _weights(self, made: ConvolutionDraft) -> Halves:
        """Returns folded weights ``[output channels, kernel height, kernel width, channels]``."""
        weights = made.step.weights.transpose(0, 2, 3, 1)
        result = np.empty(weights.shape, np.float16)
        rows = max(1, _ROUNDED_AT_ONCE // max(1, math.prod(weights.shape[1:])))
        for first in range(0, len(weights), rows):
            part = weights[first : first + rows].astype(np.float64)
            for gain in made.gains:
                part *= gain[first : first + rows, None, None, None]
            result[first : first + rows] = _halves(made.node, "weights", part)
        return result

    def _sum(self, made: SumDraft) -> None:
        """Adds a sum of any number of operands, two at a time from the left."""
        total = self.tensor(made.sources[0])
        for position, operand in enumerate(made.sources[1:], 2):
            last = position == len(made.sources)
            if last:
                target = self.tensor(made.target)
            else:
                target = len(self.tensors)
                self.tensors.append(self._sizes[made.target])
            activation = made.activation if last else "none"
            self.chains.append(Add(total, self.tensor(operand), target, activation))
            total = target

    def _plain(self, made: PlainDraft) -> None:
        step = made.step
        if isinstance(step, Copies):
            self.chains += [self._copy(box) for box in step.boxes]
        elif isinstance(step, ZeroPad):
            self.chains.append(self._copy(step.copy))
        else:
            source, target = self.tensor(step.source), self.tensor(step.target)
            self.chains.append(replace(step, source=source, target=target))

    def _copy(self, box: Copy) -> Copy:
        return replace(box, source=self.tensor(box.source), target=self.tensor(box.target))


def _halves(node: Node, what: str, values: Doubles) -> Halves:
    """Returns constants as float16, by way of float32."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = values.astype(np.float32).astype(np.float16)
    bad = ~np.isfinite(rounded)
    if bad.any():
        name = node.inputs[1] if len(node.inputs) > 1 else node.label
        worst = values[bad].ravel()[0]
        raise ModelError(
            f"cannot compile {node}: {int(bad.sum())} of its folded {what} (from {name!r}) are "
            f"NaN, infinite or beyond float16, such as {worst:g}; float16 ends at 65504"
        )
    return rounded
