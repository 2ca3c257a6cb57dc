"""The model process: takes requests from the daemon, decodes pictures, runs the stages, answers.

- ``main``: the process; ``golden``: its test of itself; ``pipeline``, ``stages``: running a model;
- ``signature``, ``tensors``: from a PredictRequest's bytes to arrays and back.

Nothing here opens a network socket or imports gRPC.
"""
