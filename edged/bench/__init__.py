"""Benchmarks: a model served by edged, beside onnxruntime in the same run, and under load.

- ``server``: a daemon of its own; ``baselines``: onnxruntime on the same graph;
- ``rounds``: who runs when; ``measure``: the figures;
- ``serve``: one caller beside an ``echo``, then a ``load`` on a ``target``; ``figures``, ``plot``.

Needs the extra ``edged[bench]`` (onnx).
"""
