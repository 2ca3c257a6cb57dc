"""How pictures become tensors: the settings of an image stage, and those in common use.

The module describes; ``edged.worker.stages.image`` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edged.errors import ModelError
from edged.manifest.document import Node

MAX_SIDE = 4096  # of what an image stage makes, pixels


@dataclass(frozen=True)
class Preprocess:
    """How an image stage makes a tensor of a picture.

    Every value is ``(pixel * scale - mean) / std`` with pixels from 0 to 255. Resizing is
    TensorFlow's legacy bilinear: no half-pixel centres, no antialiasing.

    Attributes:
        size: height and width of the result.
        resize: ``"shorter"`` (the shorter side to ``to``, keeping the aspect; sizes are truncated,
            so it needs the crop), ``"exact"`` (both sides to ``size``) or ``"none"``.
        to: what the shorter side becomes; only for ``"shorter"``.
        crop: whether ``size`` is cut from the centre; otherwise the picture must have it by then.
        order: ``"rgb"`` or ``"bgr"``, the order of channels in the result.
        scale: factor of the pixels.
        mean: what is subtracted from each channel, in the order of the result.
        std: what each channel is divided by, in the order of the result.
        layout: ``"nchw"`` or ``"nhwc"``, of the result.

    Raises:
        ModelError: no picture could be made to fit.
    """

    size: tuple[int, int]
    resize: str = "exact"
    to: int | None = None
    crop: bool = False
    order: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    layout: str = "nchw"

    def __post_init__(self) -> None:
        if min(abs(each) for each in self.std) < 1e-9:
            raise ModelError(f"cannot use preprocess: std must not be zero, got {list(self.std)}")
        if (self.to is None) == (self.resize == "shorter"):
            raise ModelError(
                'cannot use preprocess: "to" belongs to the kind "shorter", and only there'
            )
        if self.to is None:
            return
        if not self.crop:
            raise ModelError(
                'cannot use preprocess: "shorter" needs crop "center" to reach its size'
            )
        if self.to < max(self.size):
            raise ModelError(
                f"cannot use preprocess: crop {self.size} does not fit a shorter side of {self.to}"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the result for one picture."""
        height, width = self.size
        return (1, 3, height, width) if self.layout == "nchw" else (1, height, width, 3)

    @classmethod
    def from_json(cls, value: object, where: str = "preprocess") -> Preprocess:
        """Returns what a JSON document describes; see the manifest's ``preprocess``.

        Raises:
            ModelError: a field is missing, unknown or out of range; the text says where.
        """
        optional = ("resize", "crop", "order", "scale", "mean", "std", "layout")
        fields = Node(value, where).fields(["size"], optional)

        def field(name: str, default: object) -> Node:
            return fields.get(name, Node(default, f"{where}.{name}"))

        resize, to = _resize(field("resize", {"kind": "exact"}))
        return cls(
            size=_pair(fields["size"]),
            resize=resize,
            to=to,
            crop=field("crop", None).optional(lambda node: node.choice("center")) is not None,
            order=field("order", "rgb").choice("rgb", "bgr"),
            scale=field("scale", 1.0).number(),
            mean=_channels(field("mean", [0.0, 0.0, 0.0])),
            std=_channels(field("std", [1.0, 1.0, 1.0])),
            layout=field("layout", "nchw").choice("nchw", "nhwc"),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON form, every field given."""
        resize: dict[str, Any] = {"kind": self.resize}
        if self.to is not None:
            resize["to"] = self.to
        return {
            "size": list(self.size),
            "resize": resize,
            "crop": "center" if self.crop else None,
            "order": self.order,
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": self.layout,
        }


def _resize(node: Node) -> tuple[str, int | None]:
    fields = node.fields(["kind"], ["to"])
    kind = fields["kind"].choice("shorter", "exact", "none")
    return kind, fields["to"].integer(1, MAX_SIDE) if "to" in fields else None


def _pair(node: Node) -> tuple[int, int]:
    height, width = (each.integer(1, MAX_SIDE) for each in node.items(2, 2))
    return height, width


def _channels(node: Node) -> tuple[float, float, float]:
    first, second, third = (each.number() for each in node.items(3, 3))
    return first, second, third


_RED, _GREEN, _BLUE = 123.68, 116.779, 103.939


def preprocess_array(
    *,
    order: str = "rgb",
    scaling_factor: float = 1.0,
    output_height: int = 224,
    output_width: int = 224,
    preserve_aspect_ratio: bool = True,
    layout: str = "nhwc",
) -> Preprocess:
    """Returns what the original service's ``preprocess_array`` does with the same arguments.

    It subtracts the ImageNet mean of each colour, then multiplies by the factor.

    Args:
        order: ``"rgb"`` or ``"bgr"``.
        scaling_factor: multiplies the result; the original's DenseNet takes 0.017.
        output_height: of the result.
        output_width: of the result.
        preserve_aspect_ratio: shorter side to 256 and centre crop, instead of resizing both sides.
        layout: ``"nhwc"`` as TensorFlow has it, or ``"nchw"``.

    Raises:
        ModelError: an argument is out of range.
    """
    means = [_RED, _GREEN, _BLUE] if order == "rgb" else [_BLUE, _GREEN, _RED]
    shorter = {"kind": "shorter", "to": 256} if preserve_aspect_ratio else {"kind": "exact"}
    if scaling_factor == 0:
        raise ModelError("cannot use preprocess_array: scaling_factor is 0")
    return Preprocess.from_json(
        {
            "size": [output_height, output_width],
            "resize": shorter,
            "crop": "center" if preserve_aspect_ratio else None,
            "order": order,
            "mean": means,
            "std": [1 / scaling_factor] * 3,
            "layout": layout,
        }
    )


PRESETS: dict[str, Preprocess] = {
    "resnet": preprocess_array(),
    "vgg": preprocess_array(),
    "densenet": preprocess_array(order="bgr", scaling_factor=0.017),
    "ssd": preprocess_array(output_height=300, output_width=300, preserve_aspect_ratio=False),
    "torchvision": Preprocess(
        size=(224, 224),
        resize="shorter",
        to=256,
        crop=True,
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
}
"""Preprocessing by name: the original service's models (NHWC), and torchvision's usual one (NCHW).

``dataclasses.replace(preset, layout=...)`` makes one fit a graph of the other layout.
"""
