"""The kinds of stages a model's pipeline is made of: pictures, the NPU, graphs on the CPU.

A stage is opened once and then run for each item; it raises ``RequestError`` for what a caller sent
and ``ModelError`` for what the model brought.
"""
