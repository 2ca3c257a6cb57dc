#!/usr/bin/env python3
"""Measures an ONNX model on a folder of pictures, float32 on onnxruntime.

The folder has one sub-folder per class, as draw.py writes it. Prints accuracy and the confusion
matrix. It measures the graph alone, not the daemon: `edged eval` does that.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from preprocess import HERE, Preprocess

# Some builds of onnxruntime upload telemetry unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort


def confusion(model: Path, pictures: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Classifies every picture.

    Returns:
        The classes in the order of the outputs, and counts (true class, predicted class).

    Raises:
        ValueError: the folder lacks a class or has no picture.
    """
    labels = (HERE / "labels.txt").read_text("utf-8").split()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    prepare = Preprocess.load()
    counts = np.zeros((len(labels), len(labels)), np.int64)
    for row, label in enumerate(labels):
        files = sorted((pictures / label).glob("*.jpg"))
        if not files:
            raise ValueError(f"cannot measure on {pictures}: no .jpg in its folder {label}")
        for file in files:
            x = prepare.normalise(prepare.crop(file.read_bytes())[None])
            (probabilities,) = session.run(["probabilities"], {"image": x})
            counts[row, int(np.argmax(probabilities))] += 1
    return labels, counts


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 1 failed, 2 usage)."""
    parser = argparse.ArgumentParser(description="Accuracy of the demo model in float32.")
    parser.add_argument("pictures", type=Path, metavar="DIR", help="folder that draw.py wrote")
    parser.add_argument("--model", type=Path, default=HERE / "surface.onnx", metavar="ONNX")
    args = parser.parse_args(argv)
    try:
        labels, counts = confusion(args.model, args.pictures)
    except (OSError, ValueError) as exc:
        print(exc, file=sys.stderr)
        return 1
    right, total = int(np.trace(counts)), int(counts.sum())
    print(f"{right} of {total} right: {100 * right / total:.2f} %")
    print("true \\ predicted" + "".join(f"{label:>9}" for label in labels))
    for label, row in zip(labels, counts, strict=True):
        print(f"{label:>16}" + "".join(f"{n:9d}" for n in row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
