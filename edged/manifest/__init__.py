"""A model's manifest: ``/model/manifest.json``, what the worker runs and what callers may ask for.

- ``model``, ``parts``: the manifest itself; ``preprocess``: the settings of its image stage;
- ``jsonform``: how the parts are written; ``document``: reading JSON that nobody vouches for.
"""

from __future__ import annotations

from edged.manifest.model import Manifest
from edged.manifest.parts import (
    DETECTIONS,
    TYPES,
    Golden,
    ImageStage,
    NpuStage,
    OnnxStage,
    Signature,
    Stage,
    TensorSpec,
)
from edged.manifest.preprocess import PRESETS, Preprocess, preprocess_array

__all__ = [
    "DETECTIONS",
    "PRESETS",
    "TYPES",
    "Golden",
    "ImageStage",
    "Manifest",
    "NpuStage",
    "OnnxStage",
    "Preprocess",
    "Signature",
    "Stage",
    "TensorSpec",
    "preprocess_array",
]
