"""Benchmarks: a model served by edged, beside onnxruntime in the same run.

- ``server``: a daemon of its own; ``baselines``: onnxruntime on the same graph;
- ``rounds``: who runs when; ``measure``: the figures.

Needs the extra ``edged[bench]`` (onnx).
"""
