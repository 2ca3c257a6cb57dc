"""Networks as data: layers in order, and the TensorFlow variables that hold their parameters.

A layer reads values by name and makes one. Names of variables are those of the networks' original
checkpoints, layouts TensorFlow's (HWIO); names of values are those of TensorFlow's operations where
the original service knew them. What is made of a network: ``graph`` writes it as ONNX, ``seeded``
draws its variables, ``weights`` reads them.

Values are feature maps ``[N, channels, height, width]`` until ``ChannelsLast``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


@dataclass(frozen=True)
class PerClass:
    """A size that the weights determine: that many times the number of classes."""

    times: int = 1


Size: TypeAlias = "int | PerClass"
Shape: TypeAlias = "tuple[Size, ...]"
Pads: TypeAlias = "tuple[int, int, int, int]"
"""Zeros at the top, left, bottom and right."""

NO_PADS: Pads = (0, 0, 0, 0)


def sized(shape: Shape, classes: int) -> tuple[int, ...]:
    """Returns a shape with the number of classes put in."""
    return tuple(s.times * classes if isinstance(s, PerClass) else s for s in shape)


def same(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> Pads:
    """Returns TensorFlow's ``SAME`` for a square map; what is odd goes to the bottom and right."""
    span = dilation * (kernel - 1) + 1
    missing = max(0, (-(-size // stride) - 1) * stride + span - size)
    before, after = missing // 2, missing - missing // 2
    return (before, before, after, after)


class _Reading:
    """A layer that reads one value."""

    source: str

    @property
    def sources(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.source,)


class _Kernel(_Reading):
    """A layer with a kernel, under the scope ``name``."""

    name: str

    @property
    def weights(self) -> str:
        """Name of the variable ``[kernel, kernel, inputs, outputs]``."""
        return f"{self.name}/weights"

    @property
    def biases(self) -> str:
        """Name of the variable ``[outputs]``, if it has one."""
        return f"{self.name}/biases"


@dataclass(frozen=True)
class Convolution(_Kernel):
    """A square kernel.

    Attributes:
        name: scope of ``weights`` ``[kernel, kernel, inputs, outputs]`` and ``biases``.
        source: what it reads.
        inputs, outputs: channels.
        bias: whether it has one; if not, a batch normalization follows.
    """

    name: str
    source: str
    inputs: int
    outputs: Size
    kernel: int = 1
    stride: int = 1
    pads: Pads = NO_PADS
    dilation: int = 1
    bias: bool = False

    @property
    def output(self) -> str:
        """What it makes."""
        return f"{self.name}/Conv2D"

    def variables(self) -> dict[str, Shape]:
        """Returns the shapes of its variables."""
        kernel: dict[str, Shape] = {
            self.weights: (self.kernel, self.kernel, self.inputs, self.outputs)
        }
        return {**kernel, self.biases: (self.outputs,)} if self.bias else kernel


@dataclass(frozen=True)
class Dense(_Kernel):
    """Fully connected: a convolution over the whole map, written as a matrix product.

    Attributes:
        name: scope of ``weights`` ``[kernel, kernel, inputs, outputs]`` and ``biases``.
        source: a flattened map, channels last.
    """

    name: str
    source: str
    inputs: int
    outputs: Size
    kernel: int = 1
    output: str = ""

    def variables(self) -> dict[str, Shape]:
        """Returns the shapes of its variables."""
        kernel = (self.kernel, self.kernel, self.inputs, self.outputs)
        return {self.weights: kernel, self.biases: (self.outputs,)}


@dataclass(frozen=True)
class BatchNorm(_Reading):
    """Batch normalization; ``name`` is the scope of its variables and the value it makes."""

    name: str
    source: str
    channels: int
    epsilon: float

    @property
    def output(self) -> str:
        """What it makes."""
        return self.name

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of gamma, beta, moving mean and variance, ``[channels]`` each."""
        return tuple(f"{self.name}/{each}" for each in BATCH_NORM)

    def variables(self) -> dict[str, Shape]:
        """Returns the shapes of its variables."""
        return dict.fromkeys(self.parameters, (self.channels,))


@dataclass(frozen=True)
class L2Norm(_Reading):
    """Every pixel's channels divided by their length, times ``gamma`` ``[channels]``."""

    name: str
    source: str
    channels: int

    @property
    def output(self) -> str:
        """What it makes."""
        return f"{self.name}/mul"

    @property
    def gamma(self) -> str:
        """Name of its variable."""
        return f"{self.name}/gamma"

    def variables(self) -> dict[str, Shape]:
        """Returns the shapes of its variables."""
        return {self.gamma: (self.channels,)}


@dataclass(frozen=True)
class _Plain(_Reading):
    """A layer without variables."""

    output: str
    source: str

    def variables(self) -> dict[str, Shape]:
        """Returns none."""
        return {}


@dataclass(frozen=True)
class Relu(_Plain):
    """max(x, 0)."""


@dataclass(frozen=True)
class Pool(_Plain):
    """Maximum or mean over square windows."""

    kind: str  # "max" or "average"
    kernel: int
    stride: int
    pads: Pads = NO_PADS


@dataclass(frozen=True)
class Mean(_Plain):
    """The mean of a whole map."""


@dataclass(frozen=True)
class ChannelsLast(_Plain):
    """``[N, channels, height, width]`` to TensorFlow's ``[N, height, width, channels]``."""


@dataclass(frozen=True)
class Flatten(_Plain):
    """All but the batch in one row."""


@dataclass(frozen=True)
class Softmax(_Plain):
    """Over classes."""


@dataclass(frozen=True)
class Reshape(_Plain):
    """Another shape, the batch left out."""

    shape: Shape = ()


@dataclass(frozen=True)
class _Joining:
    """A layer without variables that reads several values."""

    output: str
    sources: tuple[str, ...]

    def variables(self) -> dict[str, Shape]:
        """Returns none."""
        return {}


@dataclass(frozen=True)
class Add(_Joining):
    """The sum of a shortcut and a branch."""


@dataclass(frozen=True)
class Concat(_Joining):
    """Maps behind each other along their channels."""


@dataclass(frozen=True)
class Detections(_Joining):
    """What SSD's answers mean: boxes, and beside them their scores and classes (``boxes``).

    It reads the logits of all scales, then the localisations.
    """


Layer: TypeAlias = (
    Convolution
    | Dense
    | BatchNorm
    | L2Norm
    | Relu
    | Pool
    | Mean
    | ChannelsLast
    | Flatten
    | Softmax
    | Reshape
    | Add
    | Concat
    | Detections
)


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        scope: TensorFlow's, that names of variables begin with.
        size: height and width of a picture.
        layers: in order; the first reads ``INPUT``.
        outputs: shapes without the batch, by name.
        classes: of random weights.
        deviation: of the values of photographs after the preprocessing; their mean is about 0.
    """

    scope: str
    size: int
    layers: tuple[Layer, ...]
    outputs: Mapping[str, Shape]
    classes: int = 1000
    deviation: float = 60.0

    def variables(self) -> dict[str, Shape]:
        """Returns the shape of every variable, in the order of the network."""
        return {n: shape for layer in self.layers for n, shape in layer.variables().items()}

    def convolutions(self) -> Iterator[Convolution]:
        """Yields them in order."""
        return (layer for layer in self.layers if isinstance(layer, Convolution))


INPUT = "image"
"""Name of the picture ``[N, 3, size, size]``."""
