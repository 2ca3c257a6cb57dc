"""What applications import to call a model: arrays or pictures in, arrays out.

Works with any server of TensorFlow Serving's Predict. From edged's own answers it also has the
classes, the times and the model's digest.

- ``caller``: the client itself; ``answers``: what it returns;
- ``channel``: how a server is reached, with TLS and a token; ``retry``: when a call is tried again.
"""

from __future__ import annotations

from edged.client.answers import Class, ModelMetadata, Prediction, TensorInfo, VersionStatus
from edged.client.caller import PREDICT, Client
from edged.client.channel import OPTIONS
from edged.client.retry import Retry

__all__ = [
    "OPTIONS",
    "PREDICT",
    "Class",
    "Client",
    "ModelMetadata",
    "Prediction",
    "Retry",
    "TensorInfo",
    "VersionStatus",
]
