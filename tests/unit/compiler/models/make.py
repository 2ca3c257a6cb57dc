"""Makes the models of this folder, as exporters write them: tiny networks with random weights.

    python make.py torch     # needs torch and onnxscript
    python make.py tf        # needs tensorflow and tf2onnx

Every network is exported in evaluation mode with random statistics in its batch norms, so that a
mistake in any of them shows in the answer.
"""

# mypy: ignore-errors

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def make_torch() -> None:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    class Residual(nn.Module):
        """ResNet in small: batch norms, a strided shortcut, relu6, ceil_mode, adaptive pool."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            self.left = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
            self.left_norm = nn.BatchNorm2d(12)
            self.right = nn.Conv2d(8, 12, 1, stride=2)
            self.right_norm = nn.BatchNorm2d(12)
            self.last = nn.Conv2d(12, 16, 3, padding=2, dilation=2)
            self.act = nn.ReLU6()
            self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 5))

        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(F.relu(self.norm(self.stem(x))))
            x = F.relu(self.left_norm(self.left(x)) + self.right_norm(self.right(x)))
            x = F.adaptive_avg_pool2d(self.act(self.last(x)), 1)
            return F.softmax(self.head(torch.flatten(x, 1)), dim=1)

    class Dense(nn.Module):
        """DenseNet in small: pre-activations, concat, and the parameter-free shortcut of CIFAR."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 6, 3, padding=1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(10)])
            self.convs = nn.ModuleList([nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(10, 12, 3)])
            self.pool = nn.AvgPool2d(3, stride=2, padding=1)
            self.head = nn.Linear(18, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            grown = torch.cat([x, self.convs[0](F.relu(self.norms[0](x)))], 1)
            y = self.convs[1](F.pad(F.relu(self.norms[1](grown)), (1, 2, 0, 1)))
            shortcut = F.pad(self.pool(x)[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3))
            y = F.hardtanh(F.avg_pool2d(y, 4, stride=4, ceil_mode=True)[:, :, :4, :4], 0.0, 6.0)
            y = torch.cat([y, shortcut[:, 2:8]], 1)
            return self.head(y.mean([2, 3]))

    class Plain(nn.Module):
        """VGG in small: Flatten of a map that is not one pixel, three Gemms, shape arithmetic."""

        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.Sequential(
                nn.Conv2d(1, 6, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 7, 3),
                nn.ReLU(),
            )
            self.head = nn.Sequential(
                nn.Linear(7 * 3 * 4, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 6), nn.ReLU6()
            )
            self.out = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.convs(x)
            return self.out(self.head(x.reshape(x.size(0), -1)))

    torch.manual_seed(20)
    for name, network, size, oldest in (
        ("residual", Residual(), (3, 33, 30), 9),
        ("dense", Dense(), (3, 16, 16), 10),
        ("plain", Plain(), (1, 10, 12), 9),
    ):
        for each in network.modules():
            if isinstance(each, nn.BatchNorm2d):
                nn.init.uniform_(each.weight, 0.5, 1.5)
                nn.init.normal_(each.bias, std=0.3)
                nn.init.normal_(each.running_mean, std=0.3)
                nn.init.uniform_(each.running_var, 0.5, 2.0)
        network.eval()
        sample = torch.randn(1, *size)
        for opset in (oldest, 17):
            torch.onnx.export(
                network,
                (sample,),
                str(HERE / f"torch-{name}-opset{opset}.onnx"),
                input_names=["image"],
                output_names=["answer"],
                dynamic_axes={"image": {0: "batch"}, "answer": {0: "batch"}},
                opset_version=opset,
                dynamo=False,
                # Folding what it can is the exporter's default; without it more is left to ours.
                do_constant_folding=opset == 17,
            )
        torch.onnx.export(
            network,
            (sample,),
            str(HERE / f"torch-{name}-dynamo.onnx"),
            input_names=["image"],
            output_names=["answer"],
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
        )
        _strip(HERE / f"torch-{name}-dynamo.onnx")


def make_tf() -> None:
    import tensorflow as tf
    import tf2onnx

    tf.random.set_seed(20)

    def weights(*shape: int) -> Any:
        # NumPy arrays become constants of the graph, tensors would become inputs.
        return tf.random.normal(shape, stddev=0.3).numpy()

    kernels = [
        weights(3, 3, 3, 8),
        weights(1, 1, 8, 12),
        weights(3, 3, 8, 12),
        weights(2, 2, 12, 7),
    ]
    norms = [(weights(n) + 1.0, weights(n), weights(n), abs(weights(n)) + 0.5) for n in (8, 12, 12)]
    dense = weights(19, 5)
    offset = weights(5)

    def norm(x: Any, i: int) -> Any:
        scale, shift, mean, variance = norms[i]
        return tf.compat.v1.nn.fused_batch_norm(
            x, scale, shift, mean, variance, epsilon=1e-3, is_training=False
        )[0]

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 28, 3], tf.float32, name="image")])
    def network(image: Any) -> Any:
        x = image * (1 / 127.5) - 1.0
        x = tf.nn.relu6(norm(tf.nn.conv2d(x, kernels[0], 2, "SAME"), 0))
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        short = norm(tf.nn.conv2d(x, kernels[1], 2, "SAME"), 1)
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = tf.nn.relu(norm(tf.nn.conv2d(padded, kernels[2], 2, "VALID"), 2) + short)
        branch = tf.nn.avg_pool2d(tf.nn.conv2d(x, kernels[3], 1, "SAME"), 2, 1, "SAME")
        x = tf.concat([x, branch], 3)
        features = tf.reduce_mean(x, [1, 2])
        return {"answer": tf.nn.softmax(features @ dense + offset), "map": x}

    for opset in (13, 18):
        tf2onnx.convert.from_function(
            network,
            input_signature=network.input_signature,
            opset=opset,
            output_path=str(HERE / f"tf-residual-opset{opset}.onnx"),
        )


def _strip(path: Path) -> None:
    """Takes out where in the sources of this script each node came from."""
    import onnx

    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    onnx.save(model, path)


if __name__ == "__main__":
    {"torch": make_torch, "tf": make_tf}[sys.argv[1]]()
