"""Views: how the graph sees a feature map of the NPU.

The NPU keeps every feature map as rows, columns, channels. The graph may have the same values as
NCHW, NHWC or flattened; Transpose, Reshape, Flatten, Squeeze and Unsqueeze then change the view and
nothing else. So layouts are tracked, never computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edged.npu.chains import Tensor
from edged.npu.listing import Layout

Order = Literal["CHW", "HWC"]


@dataclass(frozen=True)
class View:
    """A value of the graph that is a feature map.

    Attributes:
        map: which feature map.
        tensor: its size.
        order: in which order the graph has its elements, when written one after the other.
        shape: the graph's shape, batch of 1 first.
    """

    map: int
    tensor: Tensor
    order: Order
    shape: tuple[int, ...]

    @property
    def layout(self) -> Layout | None:
        """The layout a port can have, or None: then the view is flat, or nothing we know."""
        height, width, channels = self.tensor.height, self.tensor.width, self.tensor.channels
        nchw, nhwc = (1, channels, height, width), (1, height, width, channels)
        if self.shape == (1, channels) and height * width == 1:
            return "NC"
        if self.shape == nchw and (self.order == "CHW" or self.either_order):
            return "NCHW"
        if self.shape == nhwc and (self.order == "HWC" or self.either_order):
            return "NHWC"
        return None

    @property
    def flat(self) -> bool:
        """Whether the view is the whole map in one row: ``[1, H * W * C]``."""
        return self.shape == (1, math.prod(self.shape))

    @property
    def either_order(self) -> bool:
        """Whether both orders are the same, as one pixel's and one channel's are."""
        return self.tensor.channels == 1 or self.tensor.height * self.tensor.width == 1

    @property
    def channel_axis(self) -> int | None:
        """The graph's axis of channels."""
        return {"NCHW": 1, "NHWC": 3, "NC": 1}.get(self.layout or "")

    @property
    def map_axes(self) -> dict[int, int]:
        """The graph's axis -> the feature map's: 0 rows, 1 columns, 2 channels."""
        axes = {"NCHW": {1: 2, 2: 0, 3: 1}, "NHWC": {1: 0, 2: 1, 3: 2}, "NC": {1: 2}}
        return axes.get(self.layout or "", {})

    def same_values_as(self, other: View) -> bool:
        """Whether element i of one meets element i of the other in every element-wise node."""
        alike = self.shape == other.shape and self.tensor == other.tensor
        return alike and (self.order == other.order or self.either_order)

    def on(self, feature_map: int) -> View:
        """Returns the same view of another feature map of the same size."""
        return View(feature_map, self.tensor, self.order, self.shape)

    def resized(self, feature_map: int, tensor: Tensor) -> View:
        """Returns a view in the same layout of a feature map of another size."""
        sizes = (tensor.height, tensor.width, tensor.channels)
        shape = (1, *(sizes[self.map_axes[axis]] for axis in range(1, len(self.shape))))
        return View(feature_map, tensor, self.order, shape)

    def reshaped(self, shape: tuple[int, ...]) -> View | None:
        """Returns the view after a reshape, or None where it is none of the NPU's."""
        view = View(self.map, self.tensor, self.order, shape)
        return view if view.layout or view.flat else None

    def transposed(self, perm: tuple[int, ...]) -> View | None:
        """Returns the view after a transpose, or None where it moves more than the channels."""
        shape = tuple(self.shape[axis] for axis in perm)
        if self.either_order and [a for a in perm if self.shape[a] > 1] == [
            a for a in range(len(perm)) if self.shape[a] > 1
        ]:
            return self.reshaped(shape)
        if perm == tuple(range(len(perm))):
            return self
        if (self.layout, perm) == ("NCHW", (0, 2, 3, 1)):
            return View(self.map, self.tensor, "HWC", shape)
        if (self.layout, perm) == ("NHWC", (0, 3, 1, 2)):
            return View(self.map, self.tensor, "CHW", shape)
        return None
