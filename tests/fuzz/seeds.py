"""Where the fuzzer begins: small valid inputs of each kind, made anew each time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from edged.messages import DataType, PredictRequest
from edged.messages.arrays import NUMBERS, to_tensor
from edged.npu import FORMATS, Program
from edged.npu.chains import (
    Activate,
    Add,
    AveragePool,
    Chain,
    Convolution,
    Copy,
    Halves,
    MaxPool,
    Norm,
    Scale,
    Tensor,
    Window,
)
from edged.npu.listing import port
from tests.unit.worker.pictures import encoded, noise, of_many_scans, png, rotated


def requests() -> Iterator[bytes]:
    """Yields requests: pictures, tensors of every type both ways, and the parts beside them."""
    small = encoded(Image.new("RGB", (3, 3), (200, 100, 50)))
    for count in (0, 1, 3):
        made = PredictRequest()
        made.inputs["images"].CopyFrom(to_tensor([small] * count))
        yield made.SerializeToString()
    made.model_spec.name = "small"
    made.model_spec.version.value = 3
    made.model_spec.signature_name = "serving_default"
    made.output_filter.append("probabilities")
    yield made.SerializeToString()
    made.model_spec.version_label = "stable"
    made.inputs["Placeholder:0"].CopyFrom(made.inputs.pop("images"))
    yield made.SerializeToString()
    for number, (name, typed) in NUMBERS.items():
        made = PredictRequest()
        array = np.arange(6).reshape(1, 2, 3).astype(name)
        made.inputs["x"].CopyFrom(to_tensor(array))
        yield made.SerializeToString()
        made.inputs["x"].ClearField("tensor_content")
        getattr(made.inputs["x"], typed).extend([1] * (1 if number % 2 else 6))
        yield made.SerializeToString()
    made = PredictRequest()
    made.inputs["image"].dtype = DataType.DT_FLOAT
    made.inputs["image"].float_val.append(0.5)
    for size in (2, 3, 12, 12):
        made.inputs["image"].tensor_shape.dim.add(size=size)
    yield made.SerializeToString()
    made.inputs["image"].tensor_shape.unknown_rank = True
    yield made.SerializeToString()


def pictures() -> Iterator[bytes]:
    """Yields pictures of every mode and kind that the image stage takes."""
    pixels = noise(11, 9)
    colours = Image.fromarray(pixels)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        base = colours.convert("L") if mode in ("LA", "I;16") else colours
        yield encoded(base.convert(mode))
    yield encoded(colours.quantize(9), transparency=bytes(range(9)), bits=4)
    yield encoded(colours, transparency=(1, 2, 3), icc_profile=b"profile", dpi=(72, 72))
    yield encoded(colours, save_all=True, append_images=[colours.rotate(90)] * 2)
    for channels in (1, 2, 3, 4):
        wide = noise(5, 6, 2 * channels).view(np.uint16).reshape(5, 6, channels)
        yield png(wide, interlaced=channels % 2 == 0)
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            yield encoded(colours.convert(mode), "JPEG", progressive=progressive)
    yield encoded(colours, "JPEG", subsampling=0, quality=95, optimize=True)
    yield encoded(colours, "JPEG", restart_marker_blocks=1, comment=b"c", icc_profile=b"profile")
    yield rotated(colours)
    yield of_many_scans(3, side=16)
    yield b"GIF89a"


def programs() -> Iterator[bytes]:
    """Yields programs with each kind of chain, in each format."""
    for form, chains in zip(FORMATS, (_convolutions(), _rows(), _pools(), _copies()), strict=True):
        yield _program(form, *chains)
    yield _program("ms-fp13", _CHAIN[0][:3], [_CHAIN[1][0], Activate(1, 2, "relu6")])


def _halves(*shape: int) -> Halves:
    values = np.random.default_rng(sum(shape)).normal(0, 1, shape)
    return values.astype(np.float16)


def _program(form: str, tensors: list[Tensor], chains: list[Chain]) -> bytes:
    maps = tuple(tensors)
    entry = (port("x", 0, "NCHW", maps),)
    last = (port("y", len(maps) - 1, "NHWC", maps),)
    return Program(form, "bw-cnn-a10", maps, entry, last, tuple(chains)).to_bytes()


def _convolutions() -> tuple[list[Tensor], list[Chain]]:
    """One through the expander, one of single pixels with a residual, one with pads and strides."""
    maps = [Tensor(4, 5, 3), Tensor(4, 5, 17), Tensor(4, 5, 17), Tensor(2, 3, 4)]
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    wide = Window((3, 2), (2, 2), (1, 0, 0, 1), (1, 1))
    return maps, [
        Convolution(0, 1, window, _halves(17, 3, 3, 3), _halves(17), None, "relu"),
        Convolution(1, 2, Window(), _halves(17, 1, 1, 17), _halves(17), 1, "relu6"),
        Convolution(2, 3, wide, _halves(4, 3, 2, 17), _halves(4)),
    ]


def _rows() -> tuple[list[Tensor], list[Chain]]:
    """Scale, sum, activation and norms."""
    return [Tensor(2, 2, 20)] * 6, [
        Scale(0, 1, _halves(20), _halves(20), "relu"),
        Add(0, 1, 2),
        Activate(2, 3, "relu"),
        Norm(3, 4, _halves(20)),
        Norm(4, 5),
    ]


def _pools() -> tuple[list[Tensor], list[Chain]]:
    """A maximum with ceil_mode, means with and without the pads, and one over everything."""
    maps = [Tensor(5, 5, 4), Tensor(3, 3, 4), Tensor(3, 3, 4), Tensor(1, 1, 4)]
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    return maps, [
        MaxPool(0, 1, Window((2, 2), (2, 2))),
        AveragePool(1, 2, window, include_pad=True),
        AveragePool(2, 3, Window((3, 3))),
    ]


def _copies() -> tuple[list[Tensor], list[Chain]]:
    """Two maps side by side, and every other pixel of the result."""
    maps = [Tensor(4, 4, 3), Tensor(4, 4, 3), Tensor(4, 4, 6), Tensor(2, 3, 2)]
    return maps, [
        Activate(0, 1, "relu"),
        Copy(0, 2, (4, 4, 3)),
        Copy(1, 2, (4, 4, 3), offset=(0, 0, 3)),
        Copy(2, 3, (2, 2, 2), start=(0, 1, 2), step=(2, 2, 3), offset=(0, 1, 0)),
    ]


_CHAIN = _rows()
