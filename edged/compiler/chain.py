"""Chains: joins the NPU's steps by the absorption rules of NPU.md 1.7.

A convolution takes in what directly follows while its value has exactly one use: batch norms and
per-channel Mul or Add; then one Add or two-operand Sum, its residual; then Relu or Clip(0, 6).
Scales (pre-activations) and sums take in an activation, scales also further per-channel nodes.
Where both operands of a sum are such convolutions, the later one in the model's order takes it.

Draft chains stand in the order of their last node, which is one they can run in. Nothing is rounded
here; ``emit`` does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from edged.compiler.graph import Node
from edged.compiler.place import Placement
from edged.compiler.steps import (
    Affine,
    Convolve,
    Copies,
    Doubles,
    Normalise,
    Relabel,
    Step,
    Sum,
    ZeroPad,
)
from edged.npu.chains import Activate, Activation, AveragePool, MaxPool


@dataclass
class ConvolutionDraft:
    """A convolution with what it took in.

    Attributes:
        gains: factors per output channel, in the order of the nodes that bring them.
        bias: per output channel.
    """

    node: Node
    step: Convolve
    source: int
    target: int
    pads: tuple[int, int, int, int]
    gains: list[Doubles]
    bias: Doubles
    residual: int | None = None
    activation: Activation = "none"
    last: int = 0

    @property
    def reads(self) -> list[int]:
        """The feature maps that the chain reads."""
        return [self.source] if self.residual is None else [self.source, self.residual]

    @property
    def open(self) -> bool:
        """Whether per-channel nodes and a residual may still join."""
        return self.residual is None and self.activation == "none"


@dataclass
class ScaleDraft:
    """A pre-activation."""

    node: Node
    source: int
    target: int
    scale: Doubles
    bias: Doubles
    activation: Activation = "none"
    last: int = 0

    @property
    def reads(self) -> list[int]:
        """The feature maps that the chain reads."""
        return [self.source]


@dataclass
class SumDraft:
    """A sum that no convolution took."""

    node: Node
    sources: tuple[int, ...]
    target: int
    activation: Activation = "none"
    last: int = 0

    @property
    def reads(self) -> list[int]:
        """The feature maps that the chain reads."""
        return list(self.sources)


@dataclass
class NormDraft:
    """A norm, with the scale that follows it."""

    node: Node
    source: int
    target: int
    scale: Doubles | None = None
    last: int = 0

    @property
    def reads(self) -> list[int]:
        """The feature maps that the chain reads."""
        return [self.source]


@dataclass
class PlainDraft:
    """A step that takes nothing in."""

    node: Node
    step: Activate | MaxPool | AveragePool | Copies | ZeroPad
    target: int
    last: int = 0

    @property
    def reads(self) -> list[int]:
        """The feature maps that the chain reads."""
        if isinstance(self.step, Copies):
            return [box.source for box in self.step.boxes]
        return [self.step.source]


Draft = ConvolutionDraft | ScaleDraft | SumDraft | NormDraft | PlainDraft


@dataclass
class Drafts:
    """All chains of a program, before rounding.

    Attributes:
        chains: in an order in which they can run.
        rules: how each node was lowered, by index.
    """

    chains: list[Draft] = field(default_factory=list)
    rules: dict[int, str] = field(default_factory=dict)


def draft(placement: Placement) -> Drafts:
    """Returns the chains of the NPU's nodes."""
    joining = _Joining(_uses(placement))
    for node in placement.nodes():
        joining.take(node, placement.steps[node.index])
    return joining.result(_outputs(placement))


def _outputs(placement: Placement) -> set[int]:
    """Returns the feature maps that leave the NPU."""
    graph, found = placement.graph, set()
    for name, view in placement.views.items():
        readers = graph.consumers.get(name, ())
        if name in graph.outputs or any(r.index not in placement.steps for r in readers):
            found.add(view.map)
    return found


def _uses(placement: Placement) -> Mapping[int, int]:
    """Returns how often each feature map is used: read by a node, or an output."""
    graph, uses = placement.graph, Counter[int]()
    for name, view in placement.views.items():
        for reader in graph.consumers.get(name, ()):
            if not isinstance(placement.steps.get(reader.index), Relabel):
                uses[view.map] += 1
        uses[view.map] += name in graph.outputs
    return uses


class _Joining:
    """Takes steps in order and grows drafts from them."""

    def __init__(self, uses: Mapping[int, int]) -> None:
        self._uses = uses
        self._makers: dict[int, Draft] = {}
        self._drafts: list[Draft] = []
        self._rules: dict[int, str] = {}

    def take(self, node: Node, step: Step) -> None:
        """Adds one node's step."""
        if isinstance(step, Relabel):
            self._rules[node.index] = "layout only"
        elif isinstance(step, Convolve):
            self._convolve(node, step)
        elif isinstance(step, Affine):
            self._affine(node, step)
        elif isinstance(step, Sum):
            self._sum(node, step)
        elif isinstance(step, Activate):
            self._activate(node, step)
        elif isinstance(step, Normalise):
            self._start(NormDraft(node, step.source, step.target), "norm over channels")
        else:
            self._start(PlainDraft(node, step, step.target), _plain_rule(step))

    def _start(self, made: Draft, rule: str) -> None:
        made.last = made.node.index
        self._drafts.append(made)
        self._makers[made.target] = made
        self._rules[made.node.index] = rule

    def _join(self, into: Draft, node: Node, target: int, rule: str) -> None:
        into.last, into.target = node.index, target
        self._makers[target] = into
        self._rules[node.index] = f"{rule} of {into.node.label!r}"

    def _sole(self, feature_map: int) -> Draft | None:
        """Returns the chain that makes a map for one use only."""
        return self._makers.get(feature_map) if self._uses.get(feature_map) == 1 else None

    def _convolve(self, node: Node, step: Convolve) -> None:
        source, pads = step.source, step.window.pads
        maker = self._makers.get(source)
        while isinstance(maker, PlainDraft) and isinstance(maker.step, ZeroPad):
            top, left, bottom, right = maker.step.pads
            pads = (pads[0] + top, pads[1] + left, pads[2] + bottom, pads[3] + right)
            source = maker.step.source
            self._rules[maker.node.index] = f"zero pad of {node.label!r}"
            maker = self._makers.get(source)
        gains = [] if step.gain is None else [step.gain]
        made = ConvolutionDraft(node, step, source, step.target, pads, gains, step.bias)
        self._start(made, "convolution")

    def _affine(self, node: Node, step: Affine) -> None:
        maker = self._sole(step.source)
        if isinstance(maker, ConvolutionDraft) and maker.open:
            maker.gains.append(step.gain)
            maker.bias = step.offset + (maker.bias - step.mean) * step.gain
            self._join(maker, node, step.target, f"{step.kind} folded into weights and bias")
        elif isinstance(maker, ScaleDraft) and maker.activation == "none":
            maker.scale = maker.scale * step.gain
            maker.bias = step.offset + (maker.bias - step.mean) * step.gain
            self._join(maker, node, step.target, f"{step.kind} folded into scale and bias")
        elif isinstance(maker, NormDraft) and maker.scale is None and step.kind == "mul":
            maker.scale = step.gain
            self._join(maker, node, step.target, "scale")
        else:
            bias = step.offset - step.mean * step.gain
            made = ScaleDraft(node, step.source, step.target, step.gain, bias)
            self._start(made, f"{step.kind} as pre-activation")

    def _sum(self, node: Node, step: Sum) -> None:
        found = [
            (maker.node.index, position, maker)
            for position, each in enumerate(step.sources)
            if isinstance(maker := self._sole(each), ConvolutionDraft) and maker.open
        ]
        if len(step.sources) == 2 and found:
            _, position, maker = max(found, key=lambda each: each[:2])
            maker.residual = step.sources[1 - position]
            self._join(maker, node, step.target, "residual")
        else:
            self._start(SumDraft(node, step.sources, step.target), "add")

    def _activate(self, node: Node, step: Activate) -> None:
        maker = self._sole(step.source)
        if (
            isinstance(maker, (ConvolutionDraft, ScaleDraft, SumDraft))
            and maker.activation == "none"
        ):
            maker.activation = step.activation
            self._join(maker, node, step.target, step.activation)
        else:
            self._start(PlainDraft(node, step, step.target), step.activation)

    def result(self, outputs: set[int]) -> Drafts:
        """Returns the chains that an output needs, in order."""
        ordered = sorted(self._drafts, key=lambda each: each.last)
        wanted, kept = set(outputs), []
        for each in reversed(ordered):
            if each.target in wanted:
                wanted.update(each.reads)
                kept.append(each)
        return Drafts(kept[::-1], self._rules)


def _plain_rule(step: MaxPool | AveragePool | Copies | ZeroPad) -> str:
    if isinstance(step, MaxPool):
        return "max-pool"
    if isinstance(step, AveragePool):
        return "average-pool"
    return "copy"
