"""ResNet-50 as data: convolutions, units, and the TensorFlow variables that hold its parameters.

Which ResNet-50: TF-slim's ``resnet_v1_50`` with ``VALID`` padding in ``pool1``, because that is
what the original service ran. In detail:

- **Strides** are on the 3x3 convolution of a block's *last* unit, as in TF-slim (He et al. have
  them on the 1x1 convolutions of a block's first). The shortcut of that unit is subsampled.
- **Strided convolutions** pad explicitly by ``kernel // 2`` on both sides and convolve ``VALID``
  (TF-slim's ``conv2d_same``): 3 and 3 around the picture, 1 and 1 around a 3x3. Unstrided ones are
  ``SAME``, which is the same number.
- **pool1**, 3x3 with stride 2, is ``VALID``: 112 -> 55. TF-slim's default is ``SAME``, 112 -> 56,
  and its ``resnet_arg_scope`` says how to have the other. Both pool the same windows; ``SAME`` has
  one more at the right and the bottom edge, so weights trained with either fit here.

The source for the last point, and for the strides: the service's published firmware, the ResNet-50
of onnxruntime's BrainSlice provider (2018), states every layer's size: ``pool1`` 55 x 55 with no
padding, ``res2c_branch2b`` (block1, unit_3, conv2) 55 -> 28 with stride 2 and padding 1, both 1x1
convolutions that follow it in block 2 on 28 x 28. This makes 293,525 tile operations and 3.46 GMAC.
He et al.'s strides with the same pool would be 333,464 and 3.83, which is neither TF-slim's network
nor the service's.

Names are those of TF-slim's variables and end points, layouts TensorFlow's (HWIO).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SCOPE = "resnet_v1_50"
FEATURES = 2048
"""Channels of what the classifier reads."""
SIZE = 224
"""Height and width of a picture."""
EPSILON = 1e-5
"""Added to a variance, as TF-slim's ``resnet_arg_scope`` has it."""

CLASSES = "classes"
LOGITS = f"{SCOPE}/logits/weights", f"{SCOPE}/logits/biases"
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

_BLOCKS = ((64, 3, 2), (128, 4, 2), (256, 6, 2), (512, 3, 1))  # depth, units, stride
_EXPANSION = 4

Shape = tuple["int | str", ...]
"""Sizes of a variable; a name stands for a size that the weights determine."""


@dataclass(frozen=True)
class Convolution:
    """A convolution without bias, and the batch normalization after it.

    Attributes:
        name: its scope.
        inputs: channels.
        outputs: channels.
        kernel: height and width.
        stride: in both directions.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1

    @property
    def weights(self) -> str:
        """Name of the variable ``[kernel, kernel, inputs, outputs]``."""
        return f"{self.name}/weights"

    @property
    def batch_norm(self) -> tuple[str, ...]:
        """Names of the variables ``[outputs]``: gamma, beta, moving mean and variance."""
        return tuple(f"{self.name}/BatchNorm/{each}" for each in BATCH_NORM)

    def variables(self) -> dict[str, Shape]:
        """Returns the shapes of its variables."""
        kernel = (self.kernel, self.kernel, self.inputs, self.outputs)
        return {self.weights: kernel, **dict.fromkeys(self.batch_norm, (self.outputs,))}


@dataclass(frozen=True)
class Unit:
    """A bottleneck: relu(shortcut + branch).

    Attributes:
        name: its scope.
        stride: of ``branch[1]`` and of the shortcut.
        shortcut: None where it is the input, subsampled if there is a stride.
        branch: a 1x1, a 3x3 and a 1x1 convolution, the first two with relu.
    """

    name: str
    stride: int
    shortcut: Convolution | None
    branch: tuple[Convolution, Convolution, Convolution]

    def convolutions(self) -> Iterator[Convolution]:
        """Yields them, the shortcut's first."""
        if self.shortcut is not None:
            yield self.shortcut
        yield from self.branch


def _units() -> Iterator[Unit]:
    inputs = STEM.outputs
    for block, (depth, count, stride) in enumerate(_BLOCKS, 1):
        outputs = depth * _EXPANSION
        for number in range(1, count + 1):
            name = f"{SCOPE}/block{block}/unit_{number}/bottleneck_v1"
            step = stride if number == count else 1
            same = inputs == outputs
            yield Unit(
                name,
                step,
                None if same else Convolution(f"{name}/shortcut", inputs, outputs, 1, step),
                (
                    Convolution(f"{name}/conv1", inputs, depth, 1),
                    Convolution(f"{name}/conv2", depth, depth, 3, step),
                    Convolution(f"{name}/conv3", depth, outputs, 1),
                ),
            )
            inputs = outputs


STEM = Convolution(f"{SCOPE}/conv1", 3, 64, 7, 2)
UNITS = tuple(_units())


def variables() -> dict[str, Shape]:
    """Returns the shape of every variable, in the order of the network; ``classes`` is open."""
    shapes = STEM.variables()
    for unit in UNITS:
        for convolution in unit.convolutions():
            shapes |= convolution.variables()
    weights, biases = LOGITS
    return {**shapes, weights: (1, 1, FEATURES, CLASSES), biases: (CLASSES,)}
