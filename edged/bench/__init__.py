"""Benchmarks: a model served by edged, under load, and its engine beside others in the same run.

- ``server``: a daemon of its own; ``baselines``: onnxruntime on the same graph;
- ``rounds``: who runs when; ``measure``: the figures;
- ``engines``: ours and others on one network (``subject``), each a process (``contender``);
  ``contest``: turns; ``peak``: what the machine could do; ``comparison``: all of it; ``bars``;
  ``residence``: a worker's memory; ``work``: many sizes; ``chains``: one program's, by itself;
- ``serve``: one caller beside an ``echo``, then a ``load`` on a ``target``; ``figures``, ``plot``.

Needs the extra ``edged[bench]`` (onnx, OpenVINO).
"""
