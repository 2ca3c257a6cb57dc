"""SSD-VGG-300 of the original service: ``ssd_300_vgg`` of SSD-Tensorflow.

VGG-16 without its classifier, then ``conv6`` (3x3, dilated by 6), ``conv7`` and four blocks that
shrink the map to 1 x 1. Six maps are looked at by two 3x3 convolutions each: one makes four numbers
that move and scale each default box, the other a logit for each class, class 0 being no object.
``block4`` is normalised to length ``gamma`` first. ``pool5`` is 3x3 with stride 1.

The original service answered with what these convolutions make, as TensorFlow reshaped it:
``Reshape:0`` are the boxes' ``[N, rows, columns, boxes, 4]``, ``Reshape_1:0`` the logits
``[N, rows, columns, boxes, classes]``. Its clients decoded them. Here they are outputs
too, and what a client would make of them (``boxes``) are three more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edged.manifest import DETECTIONS
from edged.zoo import vgg
from edged.zoo.layers import (
    ChannelsLast,
    Convolution,
    Detections,
    L2Norm,
    Layer,
    Network,
    PerClass,
    Pool,
    Reshape,
    Shape,
    Size,
    same,
)

SCOPE = "ssd_300_vgg"
BOXES, SCORES, NUMBERS = DETECTIONS
LIMIT = 200
"""Of boxes in an answer."""
SIZE = 300
CLASSES = 21
"""Pascal VOC's twenty, and none."""


@dataclass(frozen=True)
class Scale:
    """A map that boxes are looked for on.

    Attributes:
        block: its name.
        size: height and width.
        channels: of the map.
        step: pixels of the picture from one pixel of the map to the next.
        sides: of the square default boxes, in pixels of the picture: the small one's, and the one
            with which its mean (geometric) is the large one's.
        ratios: width to height of the others, which have the small one's area.
    """

    block: str
    size: int
    channels: int
    step: int
    sides: tuple[int, int]
    ratios: tuple[float, ...]

    @property
    def boxes(self) -> int:
        """Default boxes a pixel."""
        return 2 + len(self.ratios)

    @property
    def localisations(self) -> str:
        """Name of the output ``[N, size, size, boxes, 4]``."""
        return f"{SCOPE}/{self.block}_box/Reshape:0"

    @property
    def logits(self) -> str:
        """Name of the output ``[N, size, size, boxes, classes]``."""
        return f"{SCOPE}/{self.block}_box/Reshape_1:0"

    @property
    def source(self) -> str:
        """The map."""
        names = {"block4": "conv4/conv4_3", "block7": "conv7"}
        return f"{SCOPE}/{names.get(self.block, f'{self.block}/conv3x3')}/Relu"


_FEW, _MORE = (2, 1 / 2), (2, 1 / 2, 3, 1 / 3)
SCALES = (
    Scale("block4", 38, 512, 8, (21, 45), _FEW),
    Scale("block7", 19, 1024, 16, (45, 99), _MORE),
    Scale("block8", 10, 512, 32, (99, 153), _MORE),
    Scale("block9", 5, 256, 64, (153, 207), _MORE),
    Scale("block10", 3, 256, 100, (207, 261), _FEW),
    Scale("block11", 1, 256, 300, (261, 315), _FEW),
)


def network() -> Network:
    """Returns the network; its outputs are all logits, all localisations, what they decode to."""
    layers = [*list(vgg.blocks(SCOPE, SIZE))[:-1], *_more()]
    for scale in SCALES:
        layers += _looks(scale)
    outputs: dict[str, Shape] = {
        each.logits: (each.size, each.size, each.boxes, PerClass()) for each in SCALES
    }
    outputs |= {each.localisations: (each.size, each.size, each.boxes, 4) for each in SCALES}
    layers.append(
        Detections(
            BOXES,
            tuple(each.logits for each in SCALES) + tuple(each.localisations for each in SCALES),
        )
    )
    outputs |= {BOXES: (LIMIT, 4), SCORES: (LIMIT,), NUMBERS: (LIMIT,)}
    return Network(SCOPE, SIZE, tuple(layers), outputs, CLASSES)


def _more() -> Iterator[Layer]:
    """The blocks behind VGG's."""
    pool, size = f"{SCOPE}/pool5/MaxPool", 19
    yield Pool(pool, f"{SCOPE}/conv5/conv5_3/Relu", "max", 3, 1, same(size, 3))
    pads = same(size, 3, 1, 6)
    yield from vgg.convolution(f"{SCOPE}/conv6", pool, 512, 1024, 3, pads, dilation=6)
    yield from vgg.convolution(f"{SCOPE}/conv7", f"{SCOPE}/conv6/Relu", 1024, 1024, 1, (0, 0, 0, 0))
    value, inputs = f"{SCOPE}/conv7/Relu", 1024
    for block, narrow, outputs, stride, side in (
        ("block8", 256, 512, 2, 1),
        ("block9", 128, 256, 2, 1),
        ("block10", 128, 256, 1, 0),
        ("block11", 128, 256, 1, 0),
    ):
        one, three = f"{SCOPE}/{block}/conv1x1", f"{SCOPE}/{block}/conv3x3"
        yield from vgg.convolution(one, value, inputs, narrow, 1, (0, 0, 0, 0))
        pads = (side, side, side, side)
        yield from vgg.convolution(three, f"{one}/Relu", narrow, outputs, 3, pads, stride=stride)
        value, inputs = f"{three}/Relu", outputs


def _looks(scale: Scale) -> Iterator[Layer]:
    """What one scale is looked at with."""
    name, value = f"{SCOPE}/{scale.block}_box", scale.source
    if scale.block == "block4":
        norm = L2Norm(f"{name}/L2Normalization", value, scale.channels)
        yield norm
        value = norm.output
    made: tuple[tuple[str, Size, Size, str], ...] = (
        ("conv_loc", 4 * scale.boxes, 4, scale.localisations),
        ("conv_cls", PerClass(scale.boxes), PerClass(), scale.logits),
    )
    for part, outputs, last, output in made:
        pads = same(scale.size, 3)
        look = Convolution(f"{name}/{part}", value, scale.channels, outputs, 3, 1, pads, bias=True)
        yield look
        yield ChannelsLast(f"{name}/{part}/BiasAdd", look.output)
        shape = (scale.size, scale.size, scale.boxes, last)
        yield Reshape(output, f"{name}/{part}/BiasAdd", shape)
