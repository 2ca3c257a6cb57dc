#!/usr/bin/env python3
"""Trains the demo model on freshly drawn pictures and writes surface.onnx (development time only).

A small residual network, 128 x 128 RGB in, five probabilities out. Needs PyTorch and onnxscript
besides edged's own requirements; a device never runs this.

- Pictures are drawn for the seed given, once, and kept in --cache as cropped pixels.
- A twentieth as many, of seed + 1, watch the training; no weight is chosen by them.
- Convolutions run in bfloat16 while training; the file is float32, batch normalisation folded in.

Weight decay covers the scales of the batch normalisation too: large scales make channels of very
different size, and a block of the NPU has one exponent for up to 128 channels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from draw import CLASSES, draw
from numpy.typing import NDArray
from preprocess import HERE, Preprocess
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

BATCH = 64
MAX_BYTES = 2_000_000


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; 1x1 on the shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


def network() -> nn.Sequential:
    """(N, 3, 128, 128) to (N, 5) logits; about 0.38 million parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 5, 2, 2, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        Block(24, 32, 1),
        Block(32, 64, 2),
        Block(64, 64, 1),
        Block(64, 128, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, len(CLASSES)),
    )


def drawn(cache: Path, seed: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Cropped pixels (count * classes, H, W, 3) and labels, drawn by the first call only."""
    prepare = Preprocess.load()
    labels = np.tile(np.arange(len(CLASSES)), count)
    path = cache / f"{seed}-{count}-{prepare.shorter}-{prepare.size[0]}x{prepare.size[1]}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pixels = np.stack(
            [
                prepare.crop(draw(CLASSES[label], seed, i // len(CLASSES)))
                for i, label in enumerate(labels)
            ]
        )
        np.save(path, pixels)
    return np.load(path, mmap_mode="r"), labels


def batches(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, each batch flipped and turned by a multiple of 90 degrees."""
    prepare = Preprocess.load()
    order = rng.permutation(len(labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = np.sort(order[start : start + BATCH])
        x = torch.from_numpy(prepare.normalise(pixels[chosen]))
        turned = torch.rot90(x, int(rng.integers(4)), (2, 3))
        if rng.random() < 0.5:
            turned = turned.flip(3)
        yield (
            turned.contiguous(memory_format=torch.channels_last),
            torch.from_numpy(labels[chosen]),
        )


def accuracy(model: nn.Module, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Share of pictures classified right, in float32."""
    prepare, right = Preprocess.load(), 0
    model.eval()
    with torch.no_grad():
        for start in range(0, len(labels), 100):
            x = torch.from_numpy(prepare.normalise(pixels[start : start + 100]))
            guess = model(x).argmax(1).numpy()
            right += int((guess == labels[start : start + 100]).sum())
    return right / len(labels)


def train(cache: Path, seed: int, count: int, epochs: int) -> nn.Module:
    """Trains on `count` pictures per class; returns the model in evaluation mode."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    pixels, labels = drawn(cache, seed, count)
    watch = drawn(cache, seed + 1, max(40, count // 20))
    model = network()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.15, steps, pct_start=0.15)
    for epoch in range(epochs):
        began, losses = time.monotonic(), []
        model.train()
        for x, y in batches(pixels, labels, rng):
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(
            f"epoch {epoch + 1}/{epochs}  loss {np.mean(losses):.4f}  "
            f"accuracy {100 * accuracy(model, *watch):.2f} %  {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return model.eval()


def export(model: nn.Module, path: Path) -> None:
    """Writes one ONNX file: input `image` (batch, 3, H, W), output `probabilities` (batch, 5)."""
    height, width = Preprocess.load().size
    whole = nn.Sequential(model, nn.Softmax(1)).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    program = torch.onnx.export(
        whole,
        (torch.zeros(2, 3, height, width),),
        dynamo=True,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=18,
        external_data=False,
    )
    if program is None:  # only without dynamo, says its documentation
        raise ValueError("cannot export: the exporter returned no graph")
    proto = program.model_proto
    graph = proto.graph
    parts: list[Any] = [graph, *graph.node, *graph.value_info, *graph.initializer]
    for part in parts:
        del part.metadata_props[:]  # source lines and paths of the machine that trained
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"cannot ship {path}: {path.stat().st_size} bytes, over {MAX_BYTES}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 1 failed, 2 usage)."""
    parser = argparse.ArgumentParser(description="Train the demo model on drawn pictures.")
    parser.add_argument("--count", type=int, default=4000, metavar="N", help="pictures per class")
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--seed", type=int, default=1, help="pictures: seed and seed + 1")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="drawn pictures")
    parser.add_argument("--out", type=Path, default=HERE / "surface.onnx", metavar="ONNX")
    args = parser.parse_args(argv)
    if args.count < 1 or args.epochs < 1 or args.seed < 0:
        parser.error("--count and --epochs must be at least 1, --seed must not be negative")
    try:
        export(train(args.cache, args.seed, args.count, args.epochs), args.out)
    except (OSError, ValueError) as exc:
        print(f"cannot train: {exc}", file=sys.stderr)
        return 1
    print(f"{args.out}: {args.out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
